"""Certificates for one checkpoint on new examples, from the test set of a comparison.

The checkpoint is the finished run with the best headline on validation data, which no test example had a part in
choosing. But readers choose among the variants by the test results of the same page, so the bound pays for all of them:
δ is divided by their number. Counts of several seeds are never added up, because seeds share the test examples. Where
validation and test results are the same numbers, the test examples were used for choosing and there is no bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from aleator.experiment.protocol import Headline
from aleator.experiment.report.read import Comparison, Run, Variant
from aleator.stats import accuracy_bound

DELTA = 0.05


def certificate(comparison: Comparison) -> str | None:
    """Return the bound in a sentence, or why there is none; None where no run counted its test examples."""
    headline = comparison.headline
    tested = list(_tested(comparison))
    if headline is None or not tested:
        return None
    if all(_same_examples(run) for _, run in tested):
        return (
            "No bound on the accuracy on new examples: validation and test results are the same, so that the test "
            "examples were used for choosing."
        )
    chosen, run = _best(tested, headline)
    n = round(run.test["examples"])
    found = accuracy_bound(round(run.test["accuracy"] * n), n, DELTA, candidates=len(comparison.variants))
    assert isinstance(found.bound, float)
    size = "" if chosen.size is None else f", {chosen.size} training examples"
    return (
        f"“{chosen.label}”{size}, seed {run.seed}, the run with the best validation result, is right on at least "
        f"{math.floor(1e4 * found.bound) / 100:.2f} % of new examples, with confidence {100 * (1 - DELTA):g} % "
        f"(Clopper–Pearson, {found.counted}), if {found.assumptions}."
    )


def _tested(comparison: Comparison) -> Iterator[tuple[Variant, Run]]:
    for variant in comparison.variants:
        for run in variant.finished:
            if run.accuracy_interval is not None:
                yield variant, run


def _best(tested: list[tuple[Variant, Run]], headline: Headline) -> tuple[Variant, Run]:
    best = tested[0]
    for candidate in tested[1:]:
        value, record = (run.validation.get(headline.name) for _, run in (candidate, best))
        if value is not None and (record is None or headline.better(value, record)):
            best = candidate
    return best


def _same_examples(run: Run) -> bool:
    """Whether every metric, the number of examples too, is the same on validation and test."""
    return bool(run.test) and run.validation == run.test
