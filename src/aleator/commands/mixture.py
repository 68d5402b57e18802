"""``aleator mixture plan FILE``: what a mixture of domains will show, from their sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import verbs
from aleator.commands.size_table import read_sizes
from aleator.commands.table import write_lines, write_table

if TYPE_CHECKING:
    from aleator.data import DomainMixture

# Repeating text up to four times is almost as good as new text (Muennighoff et al. 2023, arXiv 2305.16264).
_HARMLESS_EPOCHS = 4


@dataclass(frozen=True)
class Plan:
    """Print probabilities, loss weights and expected epochs of every domain, before and after the switch."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Sizes of the domains: JSON as {"en": 1000, "ro": 20}, or a table with a name and a size in each line."""
    steps: int
    """Steps of the training."""
    batch: int
    """Examples of a batch, in the unit of the sizes."""
    temperature: float = 5.0
    """Temperature: 1 is in proportion to size, a large one uniform over domains."""
    cooldown: Annotated[float | None, tyro.conf.arg(metavar="FRACTION")] = None
    """Fraction of the training after which the temperature is 1; without it there is no switch."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Draw the plan as well, in a page of its own."""

    def __post_init__(self) -> None:
        if self.plot is not None and self.plot.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"plot must end in .html (the picture is a page that opens from disk), got {self.plot}")


VERBS: dict[str, type[Any]] = {"plan": Plan}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    asked = verbs.chosen("mixture", VERBS, args, "Mixtures of domains of different size.")
    if asked is None:
        return 0
    return plan(asked[1])


def plan(chosen: Plan) -> int:
    """Print the plan, and write its picture if one is asked for.

    Raises:
        ValueError: if there is no such file, it holds no sizes, or an option is out of range.
    """
    from aleator.data import Cooldown, DomainMixture
    from aleator.data.mixtures.schedules import checked_fraction
    from aleator.data.shares import floor_share

    if chosen.steps < 1:
        raise ValueError(f"steps must be at least 1, got {chosen.steps}")
    if chosen.batch < 1:
        raise ValueError(f"batch must be at least 1, got {chosen.batch}")
    if chosen.cooldown is not None:
        checked_fraction("cooldown", chosen.cooldown)
    schedule = chosen.temperature if chosen.cooldown is None else Cooldown(high=chosen.temperature, at=chosen.cooldown)
    read = read_sizes(chosen.file)
    mixture = DomainMixture(read.sizes, schedule, chosen.steps)
    write_lines(f"read {read.understood}")
    switch = chosen.steps if chosen.cooldown is None else floor_share(chosen.cooldown, chosen.steps)
    phases = [
        (f"steps {start} to {stop - 1}, temperature {temperature:g}", start, stop)
        for temperature, start, stop in ((chosen.temperature, 0, switch), (1.0, switch, chosen.steps))
        if start < stop
    ]
    for title, start, stop in phases:
        _write_phase(mixture, title, start, stop, chosen.batch)
    for warning in warnings(mixture, chosen.batch, switch):
        write_lines(f"note: {warning}")
    if chosen.plot is not None:
        _draw(mixture, phases, chosen.batch, chosen.plot)
        write_lines(f"picture: {chosen.plot}")
    return 0


def warnings(mixture: DomainMixture, batch: int, switch: int) -> list[str]:
    """Return, in words, what of a mixture deserves a second look.

    Args:
        mixture: the mixture.
        batch: examples of a batch.
        switch: the first step after the high temperature.
    """
    found = []
    before = mixture.expected_epochs(batch, 0, switch)
    total = mixture.expected_epochs(batch)
    for name, size, early, epochs in zip(mixture.names, mixture.sizes.values(), before, total, strict=True):
        if size == 0:
            found.append(f"{name} is empty and never shown")
        elif early > _HARMLESS_EPOCHS:
            until = "before the switch" if switch < mixture.total_steps else "in all"
            found.append(f"{name} is seen {early:.3g} times {until}: watch its validation loss for overfitting")
        elif epochs < 1:
            found.append(f"{name} is seen {epochs:.2g} times in all: part of it is never shown")
    heaviest = mixture.scalarization_weights(0).max()
    if heaviest > 10:
        found.append(f"loss weights reach {heaviest:.3g}: with clipping or Adam they are no substitute for sampling")
    filled = sum(size > 0 for size in mixture.sizes.values())
    if batch < filled:
        found.append(f"a batch of {batch} has no room for all {filled} domains: they take turns in successive batches")
    return found


def _write_phase(mixture: DomainMixture, title: str, start: int, stop: int, batch: int) -> None:
    columns = (
        mixture.names,
        [f"{size:.10g}" for size in mixture.sizes.values()],
        [f"{p:.4g}" for p in mixture.probabilities(start)],
        [f"{w:.4g}" for w in mixture.scalarization_weights(start)],
        [f"{epochs:.4g}" for epochs in mixture.expected_epochs(batch, start, stop)],
    )
    headings = ("domain", "size", "probability", "loss weight", "expected epochs")
    factor = f"variance factor {mixture.variance_factor(start):.4g}"
    write_table(f"{title}, {factor}", headings, list(zip(*columns, strict=True)))


def _draw(mixture: DomainMixture, phases: Sequence[tuple[str, int, int]], batch: int, file: Path) -> None:
    import html

    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from aleator.experiment.files import write_text

    names = [html.escape(name, quote=False) for name in mixture.names]  # plotly reads HTML in labels
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=("probability", "expected epochs"))
    for number, (title, start, stop) in enumerate(phases):
        for row, values in ((1, mixture.probabilities(start)), (2, mixture.expected_epochs(batch, start, stop))):
            bars = go.Bar(x=names, y=values.tolist(), name=title, legendgroup=title, showlegend=row == 1)
            bars.marker.color = ("#4c78a8", "#f58518")[number]
            figure.add_trace(bars, row=row, col=1)
    figure.update_layout(barmode="group", legend={"orientation": "h"}, template="plotly_white")
    write_text(file, figure.to_html(include_plotlyjs=True))
