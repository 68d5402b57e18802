"""``aleator log verify|replay|stat``: what the log of a swarm says, from its file or from its server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import verbs
from aleator.commands.table import write_lines, write_table
from aleator.commands.weights_file import read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.distributed import GradientLog

Place = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]


@dataclass(frozen=True)
class Verify:
    """Check that a log is whole, and that it turns the weights it begins with into the claimed ones."""

    log: Place
    """A file, or the address of a swarm's server such as redis://HOST:PORT."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights that the log begins with (safetensors), such as start.safetensors of a run."""
    claimed: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights that it shall lead to, such as model.safetensors of a run."""


@dataclass(frozen=True)
class Replay:
    """Make the weights from a log and those that it begins with."""

    log: Place
    """A file, or the address of a swarm's server such as redis://HOST:PORT."""
    start: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Weights that the log begins with (safetensors), such as start.safetensors of a run."""
    to: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Where the weights go (safetensors)."""
    upto: int | None = None
    """Stop before this round; by default all are applied."""


@dataclass(frozen=True)
class Stat:
    """Say who was there: rounds, gradients, and who lags."""

    log: Place
    """A file, or the address of a swarm's server such as redis://HOST:PORT."""


VERBS: dict[str, type[Any]] = {"verify": Verify, "replay": Replay, "stat": Stat}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    asked = verbs.chosen("log", VERBS, args, "Logs of swarms.")
    if asked is None:
        return 0
    verb, chosen = asked
    carry_out: dict[str, Callable[[Any], int]] = {"verify": verify, "replay": replay, "stat": stat}
    return carry_out[verb](chosen)


def verify(chosen: Verify) -> int:
    """Say what holds.

    Raises:
        ValueError: if something does not.
    """
    from aleator.distributed import reading
    from aleator.distributed.addresses import secret_from_environment

    if chosen.claimed is not None and chosen.start is None:
        raise ValueError("start is missing: claimed weights are compared with those that the log makes of them")
    log = _read(chosen.log)
    start, claimed = (None if path is None else _weights(log, path) for path in (chosen.start, chosen.claimed))
    write_lines(*reading.verify(log, start, claimed, secret_from_environment()))
    return 0


def replay(chosen: Replay) -> int:
    """Write the weights.

    Raises:
        ValueError: if the log is damaged, or begins with other weights.
    """
    from safetensors.torch import save

    from aleator.experiment.files import write_bytes

    log = _read(chosen.log)
    weights = _weights(log, chosen.start)
    rounds = log.replay(weights, chosen.upto)
    write_bytes(chosen.to, save(weights))
    write_lines(f"{rounds} rounds applied; weights: {chosen.to}")
    return 0


def stat(chosen: Stat) -> int:
    """Write a table of the machines and name those that lag.

    Raises:
        ValueError: if the log is damaged.
    """
    from aleator.distributed import reading

    log = _read(chosen.log)
    there = reading.attendances(log)
    manifest = log.manifest
    gradients = sum(one.gradients for one in there)
    write_lines(
        f"{len(log)} rounds, {len(there)} machines, {gradients} gradients as {manifest.codec}, "
        f"{sum(len(log.raw(number)) for number in range(log.first, log.next_round))} bytes in all",
        f"lr {manifest.lr:g}, directions {manifest.directions}, norm {manifest.norm}, code {manifest.code}",
    )
    rows = [
        (
            str(one.machine),
            f"{one.first}–{one.last}",
            str(one.rounds),
            f"{100 * one.share:.1f} %",
            str(one.gradients),
            f"{one.typical:.3g}",
            f"{one.largest:.3g}",
        )
        for one in there
    ]
    headings = ("machine", "from–to", "rounds", "present", "gradients", "typical |g|", "largest |g|")
    write_table("", headings, rows)
    for one in there:
        if one.lags:
            gone = f", last in round {one.last}" if one.last < log.next_round - 1 else ""
            write_lines(f"machine {one.machine} lags: in {100 * one.share:.1f} % of the rounds since it came{gone}")
    return 0


def _read(place: str) -> GradientLog:
    from aleator.distributed import Address, GradientLog
    from aleator.distributed.addresses import secret_from_environment
    from aleator.distributed.reading import log_of_swarm

    if "://" in place:
        return log_of_swarm(Address.parse(place), secret_from_environment())
    return GradientLog.open(place)


def _weights(log: GradientLog, path: Path) -> dict[str, Tensor]:
    from aleator.distributed.reading import selected

    return selected(log, read_weights(path), str(path))
