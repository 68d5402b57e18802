"""``aleator pairs calibrate|score FILE``: how far predictions of pairs can be trusted, from a file of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from aleator.commands import verbs
from aleator.commands.table import write_lines, write_table

if TYPE_CHECKING:
    from aleator.commands.pair_table import PairTable

_File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class Calibrate:
    """Find the factor by which variances must grow so that intervals hold, whatever the model."""

    file: _File
    """Fresh items: a CSV file with columns p, V, y1 and y2 of one label, or an .npz file with joint, y1 and y2."""
    alpha: float = 0.05
    """Probability that these items mislead."""
    eps: float = 1e-3
    """Variances below this are taken for this: about the square of the radius wanted, times beta."""
    beta: float = 0.1
    """Share of the inputs for which an interval may miss the true probability."""
    method: Literal["bernstein", "hoeffding", "betting"] = "bernstein"
    """Of the confidence bound."""
    used: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Names of the items that were trained on, one a line: none may be in FILE, which needs names of its own."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        if not 0 < self.eps < 1:
            raise ValueError(f"eps must be in (0, 1), got {self.eps}")


@dataclass(frozen=True)
class Score:
    """Say how well probabilities and variances are calibrated."""

    file: _File
    """Held-out items: a CSV file with columns p, V, y1 and y2 of one label, or an .npz file with joint, y1 and y2."""
    bins: int = 20
    """Bins of the calibration errors."""

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins must be at least 1, got {self.bins}")


VERBS: dict[str, type[Any]] = {"calibrate": Calibrate, "score": Score}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out one of the verbs and return its exit code."""
    asked = verbs.chosen("pairs", VERBS, args, "Predictions of two answers together.")
    if asked is None:
        return 0
    verb, chosen = asked
    return calibrate(chosen) if verb == "calibrate" else score(chosen)


def calibrate(asked: Calibrate) -> int:
    """Write the factor and what intervals become with it.

    Raises:
        ValueError: if a file will not do, or an item was used before.
    """
    from aleator.commands.pair_table import read_names, read_pairs
    from aleator.stats import confidence_interval, conservative_factor

    table = read_pairs(asked.file)
    used = None if asked.used is None else read_names(asked.used)
    if used is not None and table.items is None:
        raise ValueError(f"--used needs names to compare with: {asked.file} must have a column or array item")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        gamma = conservative_factor(
            table.p, table.V, table.y1, table.y2, asked.eps, asked.alpha, asked.method,
            item_ids=table.items, used_ids=used,
        )  # fmt: skip
    low, high = confidence_interval(table.p, table.V, asked.beta, gamma, asked.eps)
    facts = [
        ("items", f"{len(table.p):,}"),
        ("factor gamma", f"{gamma:.4g}"),
        ("interval", f"p ± sqrt({gamma:.4g} · max(V, {asked.eps:g}) / {asked.beta:g}), cut to [0, 1]"),
        ("mean width", f"{float((high - low).mean()):.4f}"),
        ("misses", f"the true probability for at most {100 * asked.beta:g} % of fresh inputs"),
        ("unless", f"these items mislead, which has a probability of {asked.alpha:g}"),
    ]
    write_table(f"Intervals from {asked.file.name}, {_of(table)}", ("", asked.method), facts)
    write_lines(*(f"Warning: {warning.message}." for warning in caught))
    return 0


def score(asked: Score) -> int:
    """Write errors of calibration of both orders.

    Raises:
        ValueError: if the file will not do.
    """
    from aleator.commands.pair_table import read_pairs
    from aleator.stats import ece1, ece2, hallucination_rate_bound, pair_squared_error, signed_gap

    table = read_pairs(asked.file)
    p, V, pair = table.p, table.V, (table.y1, table.y2)
    gap = signed_gap(p, V, pairs=pair)
    facts = [
        ("items", f"{len(p):,}"),
        ("ECE-1", f"{ece1(p, (table.y1 + table.y2) / 2, asked.bins):.4f}"),
        ("ECE-2", f"{ece2(p, V, pairs=pair, bins=asked.bins):.4f}"),
        ("mean claimed variance", f"{float(V.mean()):.4f}"),
        ("mean squared error", f"{float(pair_squared_error(p, pairs=pair).mean()):.4f}, estimated without bias"),
        ("signed gap", f"{gap:+.4f}, {'over' if gap > 0 else 'under'}confident"),
        ("least variance", f"{float(V.min()):.4g}"),
    ]
    if table.pairs is not None:
        joint, y1, y2 = table.pairs
        facts += [
            ("pair log-likelihood", f"{float(joint.log_prob(y1, y2).mean()):.4f} nats"),
            ("mutual information", f"{float(joint.mutual_information().mean()):.4f} nats"),
            ("agreement, predicted", f"{float(joint.agreement().mean()):.4f}"),
            ("agreement, observed", f"{float((y1 == y2).double().mean()):.4f}"),
        ]
        confidence = joint.confidence().gather(1, joint.log_marginal().argmax(1, keepdim=True))
        facts.append(("impossible answers", f"at most {100 * hallucination_rate_bound(confidence.flatten()):.2f} %"))
    write_table(f"Calibration in {asked.file.name}, {_of(table)}", ("", "value"), facts)
    return 0


def _of(table: PairTable) -> str:
    return "the label that is scored" if table.pairs is None else "the likeliest labels"
