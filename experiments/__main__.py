"""``python -m experiments run METHOD`` and ``python -m experiments tables``: what the Makefile calls."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import tyro

from experiments import evidence, pays, planted, tables


def run(
    method: Annotated[str, tyro.conf.Positional],
    scale: Literal["laptop", "gpu", "all"] = "laptop",
    only: tuple[str, ...] = (),
) -> None:
    """Run the experiments of a method and write evidence/METHOD.json.

    Args:
        method: name of the method, for instance rs2.
        scale: which experiments to run; the others keep their entries.
        only: names of experiments, to run no others.
    """
    evidence.produce(method, ("laptop", "gpu") if scale == "all" else (scale,), only)


def advise(task: Annotated[str, tyro.conf.Positional]) -> None:
    """Ask which method pays on a task, and write evidence/advice/TASK.json.

    Args:
        task: one of `experiments.pays.ASKED`.
    """
    pays.produce(task)


def plant(name: Annotated[str, tyro.conf.Positional]) -> None:
    """Ask for advice where the truth is known, and write evidence/advice/planted-NAME.json.

    Args:
        name: null or rate.
    """
    planted.produce(name)


def write_tables(check: bool = False) -> None:
    """Write the evidence tables of README and method cards.

    Args:
        check: write nothing, and fail when a table is not what the evidence says.
    """
    stale = tables.update(check)
    for path in stale:
        print(f"{'stale' if check else 'updated'}: {path}")  # noqa: T201
    if check and stale:
        sys.exit("run `make tables` and commit the result")


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict({"run": run, "advise": advise, "planted": plant, "tables": write_tables})
    except ValueError as error:
        sys.exit(f"error: {error}")
