"""``aleator probe RECIPE``: what the curvature of a task says about its batch and its learning rate."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import flags, recipes
from aleator.commands.table import write_lines, write_table
from aleator.experiment import registry

if TYPE_CHECKING:
    from torch import nn

    from aleator.optim.curvature.summary import CurvatureSummary
    from aleator.random import Streams

POINTS = 400  # of a drawn density
QUICK_STEPS, QUICK_EXAMPLES = 50, 256  # of a look that is not to take long


@dataclass(frozen=True)
class Probe:
    """What to look at."""

    after: int = 100
    """Training steps before the second look, at most those of the run. At the start the curvature is not yet what a
    learning rate has to bear."""
    examples: int = 1024
    """Training examples to look at."""
    seed: int = 0
    """Seed of everything random."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Draw the spectrum and the rates as well, in a page of its own."""

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"after must not be negative, got {self.after}")
        if self.examples < 4:
            raise ValueError(f"examples must be at least 4, got {self.examples}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.plot is not None and self.plot.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"plot must end in .html (the picture is a page that opens from disk), got {self.plot}")


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator probe``."""
    return {"recipe": recipe, "probe": Probe}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Probe a recipe's task and return the exit code.

    Raises:
        ValueError: if the task cannot be probed.
    """
    if (found := recipes.recipe_word("probe", args)) is None:
        return 0
    name, words = found
    recipe, asked = flags.parse(parts(registry.resolve(name)), words, prog=f"aleator probe {name}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"probe runs in one process, got WORLD_SIZE {os.environ['WORLD_SIZE']}")

    from aleator.experiment.accelerators import make_accelerator
    from aleator.random import Streams

    accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
    streams = Streams(asked.seed, accelerator.device)
    with streams.scope("init"):
        task = recipe.task(streams, accelerator)
    if missing := [method for method in ("per_sample_loss", "probe_batches") if not hasattr(task, method)]:
        raise ValueError(
            f"recipe {name} cannot be probed: its task has no {' and no '.join(missing)}, as supervised tasks have"
        )
    seen = {"at the start": _looked_at(task, streams, asked, "at the start")}
    if asked.after:
        taken = _trained(task, streams, asked.after)
        moment = f"after {taken} step{'s' if taken > 1 else ''}"
        seen[moment] = _looked_at(task, streams, asked, moment)
    _say(name, task, seen, asked)
    return 0


def probe_job(job: dict[str, Any]) -> dict[str, Any]:
    """Ask the curvature of a job's task after a few steps, for `aleator.experiment.advise`.

    Raises:
        ValueError: if the task cannot be probed.
    """
    import torch

    from aleator.experiment.accelerators import make_accelerator
    from aleator.experiment.comparison.workers import recipe_and_options
    from aleator.random import Streams

    recipe, options = recipe_and_options(job)
    torch.set_num_threads(options.threads)
    accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
    streams = Streams(options.seed, accelerator.device)
    with streams.scope("init"):
        task = recipe.task(streams, accelerator)
    if not hasattr(task, "per_sample_loss") or not hasattr(task, "probe_batches"):
        raise ValueError("its task has no losses of single examples, as supervised tasks have")
    taken = _trained(task, streams, QUICK_STEPS)
    summary = _looked_at(task, streams, Probe(examples=QUICK_EXAMPLES), f"after {taken} steps")
    group = task.optimizer.param_groups[0] if hasattr(task, "optimizer") else {}
    momentum, nesterov = float(group.get("momentum", 0.0)), bool(group.get("nesterov", False))
    plain_sgd = type(getattr(task, "optimizer", None)).__name__ == "SGD"
    stable = summary.max_lr(getattr(recipe, "batch_size", 1), momentum, nesterov) if plain_sgd else None
    return {
        "largest_stable_lr": stable,
        "noise_scale": summary.noise_scale,
        "critical_batch": summary.critical_batch,
        "largest_eigenvalue": summary.spectrum.top,
        "steps": taken,
        "examples": summary.examples,
    }


def _trained(task: Any, streams: Streams, steps: int) -> int:
    """Take ``steps`` steps, or as many as the task's training has, and return how many were taken."""
    if task.budget.unit == "steps" and task.budget.total is not None:
        steps = min(steps, task.budget.total)
    taken = 0
    for batch in itertools.islice(task.train_batches(), steps):
        with streams.scope("step"):
            task.train_step(batch)
        taken += 1
    return taken


def _looked_at(task: Any, streams: Streams, asked: Probe, moment: str) -> CurvatureSummary:
    from torch import Tensor
    from torch.utils._pytree import tree_map

    from aleator.optim.curvature.operator import CurvatureError
    from aleator.optim.curvature.summary import rows_of, summarise_curvature

    batches, count = [], 0
    for batch in task.probe_batches():
        left = asked.examples - count
        batches.append(tree_map(lambda t, most=left: t[:most] if isinstance(t, Tensor) else t, batch))
        count += rows_of(batches[-1])
        if count >= asked.examples:
            break
    n = len(task.train) if hasattr(task, "train") else count
    with _aside(task) as model:
        model.eval()
        vectors = streams.generator("probe", "vectors")
        try:
            return summarise_curvature(model, task.per_sample_loss, batches, max(n, count), generator=vectors)
        except CurvatureError as error:
            raise ValueError(f"the task cannot be probed {moment}: {error}") from error


@contextlib.contextmanager
def _aside(task: Any) -> Iterator[nn.Module]:
    """Yield the model for passes that leave the training as it is, where the task has a place for them."""
    if hasattr(task, "aside"):
        with task.aside("probe") as model:
            yield model
        return
    from aleator.gradients.modes import modes_kept

    with modes_kept(task.model):
        yield task.model


def _say(name: str, task: Any, seen: dict[str, CurvatureSummary], asked: Probe) -> None:
    group = task.optimizer.param_groups[0] if hasattr(task, "optimizer") else {}
    momentum, nesterov = float(group.get("momentum", 0.0)), bool(group.get("nesterov", False))
    columns = [_facts(summary) for summary in seen.values()]
    facts = [(row, *(column[row] for column in columns)) for row in columns[0]]
    write_table(f"Hessian of the loss of {name}", ("", *seen), facts)

    largest = min(summary.n for summary in seen.values())
    sizes = [2**k for k in range(largest.bit_length()) if 2**k <= largest]
    rates = {
        moment: {size: rate for size in sizes if (rate := summary.max_lr(size, momentum, nesterov)) is not None}
        for moment, summary in seen.items()
    }
    kind = ("Nesterov's momentum" if nesterov else "momentum") + f" {momentum:g}" if momentum else "no momentum"
    stable = [
        (str(size), *(f"{by_size[size]:.4g}" if size in by_size else "any" for by_size in rates.values()))
        for size in sizes
    ]
    write_table(f"Largest stable learning rate of SGD with {kind}", ("batch size", *seen), stable)
    moment, last = list(seen.items())[-1]
    pair = last.suggestion(momentum, nesterov)
    if pair is None:
        verdict = f"No eigenvalue is positive {moment}: the curvature says nothing about the learning rate."
    else:
        verdict = (
            f"Suggested {moment}: batch {pair[0]}, learning rate {pair[1]:.3g} for SGD with {kind}, "
            "a tenth of the largest stable one."
        )
    notes = _notes(seen, moment)
    write_lines(verdict, *(f"Warning: {note}." for note in notes))
    if asked.plot is not None:
        from aleator.experiment.report.build import write_page
        from aleator.experiment.report.probe_page import probe_page

        densities = {at: _density(summary) for at, summary in seen.items()}
        write_page(asked.plot, "probe.html.j2", probe_page(name, verdict, densities, rates, facts, stable, notes))
        write_lines(f"picture: {asked.plot}")


def _facts(summary: CurvatureSummary) -> dict[str, str]:
    """What there is to say about one moment, by name."""
    value, error = summary.spectrum.trace(summary.size)
    found, critical = summary.broadening, summary.critical_batch
    return {
        "trained numbers": f"{summary.size:,}",
        "examples looked at": f"{summary.examples:,} of {summary.n:,}",
        "Lanczos steps, probes": f"{summary.spectrum.nodes.shape[1]}, {len(summary.spectrum.nodes)}",
        "largest eigenvalue": f"{summary.spectrum.top:.4g}",
        "smallest eigenvalue": f"{summary.spectrum.bottom:.4g}",
        "trace": f"{value:.4g} ± {error:.2g}",
        "batch noise c": "none" if found is None else f"{found.c:.3g} ± {found.stderr:.2g}, {summary.draws} draws",
        "critical batch": "none" if critical is None else f"{critical:.3g}",
        "gradient noise scale": f"{summary.noise_scale:.3g}",
    }


def _notes(seen: dict[str, CurvatureSummary], last: str) -> list[str]:
    notes = []
    for moment, summary in seen.items():
        if summary.broadening is None:
            notes.append(
                f"{moment} batches say nothing about their noise: rates are those of all examples at every batch"
            )
        elif summary.noisy:
            notes.append(
                f"{moment} small batches hide the largest eigenvalue: rates below the critical batch are rough"
            )
    if last == "at the start":
        notes.append("the curvature grows 10 to 200 times in the first epochs: look again with --after")
    if seen[last].noise_scale > seen[last].examples / 2:
        notes.append("the gradient noise scale is bounded by the number of examples: it may be larger, see --examples")
    return notes


def _density(summary: CurvatureSummary) -> tuple[list[float], list[float]]:
    import torch

    low, high = summary.spectrum.bottom, summary.spectrum.top
    width = max((high - low) / 100, 1e-12)
    grid = torch.linspace(low - 3 * width, high + 3 * width, POINTS, dtype=torch.float64)
    density = summary.spectrum.density(grid, width).clamp(min=1e-9)
    return grid.tolist(), density.tolist()
