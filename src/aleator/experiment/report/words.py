"""Numbers as a reader expects them, and the verdict in one sentence.

An accuracy is a percentage and a difference of accuracies is in points; other metrics keep four significant digits.
The verdict names the best mean and then says, pair by pair, whether the 95 % interval of the paired difference
excludes zero. A comparison without an interval gets a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import floor, isclose, isfinite, log10

from aleator.experiment.protocol import Headline
from aleator.experiment.report.read import Comparison, Interval, Pair, SizeForecast, Variant
from aleator.experiment.shares import is_accuracy

THIN = "\u202f"  # narrow no-break space: between a number and its unit, and between groups of three digits
NONE = "–"

SIZES_FOR_TRUST = 5
"""A trend needs three, one more moves its asymptote, and one more can show that it stays calm."""


def title(metric: str) -> str:
    """A metric's name as prose: ``"top5_accuracy"`` → ``"top5 accuracy"``."""
    return metric.replace("_", " ")


def scale(metric: str) -> float:
    """What a metric is multiplied by before it is shown."""
    return 100.0 if is_accuracy(metric) else 1.0


def axis(metric: str, split: str) -> str:
    """The name of an axis or a column: ``"Validation accuracy, %"``."""
    return capital(f"{split} {title(metric)}".strip()) + (f",{THIN}%" if is_accuracy(metric) else "")


def capital(text: str) -> str:
    """The text with a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]


def difference_unit(metric: str) -> str:
    """The unit of a difference, with a leading space, or nothing."""
    return " points" if is_accuracy(metric) else ""


def number(value: float | None, digits: int = 4, padded: bool = False) -> str:
    """A number with ``digits`` significant digits, a true minus sign, and groups of three digits.

    Args:
        value: the number, or None.
        digits: significant digits; digits left of the point are never rounded away.
        padded: keep zeros at the end, so that a column has numbers of one precision.
    """
    if value is None:
        return NONE
    text = f"{value:#.{digits}g}".rstrip(".") if padded else f"{value:.{digits}g}"
    if "e+" in text and abs(value) < 1e15:
        text = f"{value:.0f}"
    whole, point, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and len(whole.lstrip("-")) > 4:
        whole = f"{int(whole):,}".replace(",", THIN)
    return (whole + point + fraction).replace("-", "−")


def seconds(value: float | None) -> str:
    """A duration in seconds, to a thousandth below one second and to a second above a hundred."""
    if value is None:
        return NONE
    if value >= 100:
        return number(round(value), 12)
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def measured(metric: str, value: float | None) -> str:
    """A metric's value without its unit."""
    if value is None:
        return NONE
    return f"{100 * value:.2f}" if is_accuracy(metric) else number(value, padded=True)


def with_unit(metric: str, value: float | None) -> str:
    """A metric's value with its unit."""
    return measured(metric, value) + (f"{THIN}%" if is_accuracy(metric) and value is not None else "")


def decimals(metric: str, values: Iterable[float | None]) -> int | None:
    """The decimals for a column of differences: three significant digits of the largest; None where all have their own.

    Accuracies have two anyway. Where one number is many thousand times another, each keeps its own digits.
    """
    sizes = [abs(value) for value in values if value and isfinite(value)]
    if is_accuracy(metric) or not sizes or not 1e-6 <= max(sizes) < 1e6:
        return None
    return max(0, 2 - floor(log10(max(sizes))))


def column_decimals(metric: str, differences: Iterable[tuple[float | None, Sequence[float] | None]]) -> int | None:
    """The decimals of `decimals` for a column of differences with their intervals."""
    return decimals(metric, [end for value, ends in differences for end in (value, *(ends or ()))])


def difference(metric: str, value: float | None, signed: bool = True, places: int | None = None) -> str:
    """A difference of two values of a metric, without its unit.

    Args:
        metric: of the values.
        value: the difference, or None.
        signed: whether a plus sign stands before what is above 0.
        places: decimals, as `column_decimals` gives them; None: three significant digits.
    """
    if value is None:
        return NONE
    if is_accuracy(metric):
        text = f"{abs(100 * value):.2f}"
    else:
        text = number(abs(value), 3) if places is None else f"{abs(value):.{places}f}"
    # A sign in front of a number that rounds to zero would claim a direction.
    if not signed or not any(digit in text for digit in "123456789"):
        return text
    return ("+" if value > 0 else "−") + text


def interval(metric: str, ends: Interval | None) -> str:
    """An interval of a metric's values: ``"96.80 to 97.80"``."""
    return NONE if ends is None else f"{measured(metric, ends[0])} to {measured(metric, ends[1])}"


def difference_interval(metric: str, ends: Interval | None, places: int | None = None) -> str:
    """An interval of a metric's differences: ``"−0.31 to +1.20"``."""
    if ends is None:
        return NONE
    return " to ".join(difference(metric, end, places=places) for end in ends)


def p_value(value: float | None) -> str:
    """A p-value with two significant digits, bounded below where more would be pretended."""
    if value is None:
        return NONE
    return f"<{THIN}0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def detectable(metric: str, value: float | None, places: int | None = None) -> str:
    """The smallest detectable difference of a metric; accuracies cannot differ by more than 100 points."""
    if value is not None and is_accuracy(metric) and value > 1:
        return "over 100"
    return difference(metric, value, False, places)


def multiplicity(pairs: Sequence[Pair]) -> str:
    """What to make of several p-values, in a sentence, or nothing where there are none or one."""
    tested = [pair for pair in pairs if pair.p_value is not None]
    if len(tested) < 2 or any(pair.p_holm is None for pair in tested):
        return ""
    lost = sum(pair.reading == "excludes zero" and not pair.holds for pair in tested)
    kept = sum(pair.holds for pair in tested)
    said = (
        f"{len(tested)} pairs are tested, so that some interval excludes zero by chance more often than one time in "
        f"twenty; with Holm’s adjustment for all of them {kept or 'no'} "
        f"{'difference is' if kept < 2 else 'differences are'} significant at 5{THIN}%"
    )
    if lost:
        said += f", and {lost} whose interval excludes zero {'is' if lost == 1 else 'are'} not"
    return said + "."


def population(pairs: Sequence[Pair]) -> str:
    """Say of what the intervals of differences speak: of this training and test set, and some of new data."""
    said = "Intervals over seeds speak of this training and test set, not of new data"
    examples = {pair.test_examples for pair in pairs if pair.new_data is not None}
    if not examples:
        return f"{said}."
    of = f"the {number(max(filter(None, examples)), 12)} test examples" if len(examples) == 1 else "the test examples"
    return f"{said}; those for new data include {of}, too, and speak of networks trained on this training set."


def memory(size: float | None) -> str:
    """Bytes as MiB or GiB."""
    if size is None:
        return NONE
    return f"{number(size / 2**30, 3)}{THIN}GiB" if size >= 2**30 else f"{number(size / 2**20, 3)}{THIN}MiB"


def moment(stamp: str) -> str:
    """An ISO 8601 time to the minute, or the text as it is where it is none."""
    try:
        return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return stamp


def count(amount: int, noun: str) -> str:
    """``"1 seed"``, ``"3 seeds"``."""
    return f"{number(amount, 12)} {noun}" + ("" if amount == 1 else "s")


def listed(items: Sequence[str]) -> str:
    """``"a, b and c"``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def forecast_head(metric: str, forecasts: Sequence[SizeForecast]) -> list[str]:
    """The columns of `forecast_cells`."""
    head = [f"at {number(forecasts[0].horizon, 12)} examples", f"95{THIN}% band", "asymptote"]
    targets = [found.target for found in forecasts if found.target is not None]
    return [*head, f"examples for {with_unit(metric, targets[0])}"] if targets else head


def forecast_cells(metric: str, found: SizeForecast, with_target: bool) -> list[str]:
    """A variant's forecast, its band, the trend's asymptote, and the size for the target where one is asked for."""
    cells = [measured(metric, found.forecast), interval(metric, found.band), measured(metric, found.asymptote)]
    if not with_target:
        return cells
    if found.target is None:
        return [*cells, NONE]
    return [*cells, "never, by the trend" if found.needed is None else number(round(found.needed), 12)]


def trend_note(found: SizeForecast) -> str:
    """What kind of trend it is, and whether it may be trusted."""
    if "not_increasing" in found.flags:
        return "does not get better with size: no forecast"
    if "impossible" in found.flags:
        return f"leads beyond 100{THIN}%: no forecast"
    said = ["rises like a logarithm: no asymptote"] if "no_asymptote" in found.flags else []
    if "impossible_asymptote" in found.flags:
        said.append(f"further on leads beyond 100{THIN}%: no asymptote")
    if found.decision is not None:
        said.append(f"asymptote calm from {number(found.prediction, 12)} examples on")
    elif len(found.sizes) < SIZES_FOR_TRUST:
        said.append(f"{len(found.sizes)} sizes cannot say whether it may be trusted: {SIZES_FOR_TRUST} are the least")
    else:
        said.append("asymptote not calm yet: not to be trusted")
    return "; ".join(said)


def verdict(comparison: Comparison, size: int | None) -> str:
    """What the comparison has shown at one training size, in a sentence that the intervals carry."""
    headline = comparison.headline
    if headline is None:
        return "No run has finished, so there is nothing to compare."
    metric, most = headline.name, "highest" if headline.direction == "max" else "lowest"
    measured_variants = [variant for variant in comparison.at(size) if metric in variant.summary]
    if not measured_variants:
        return f"No run has finished with a test {title(metric)}, so there is nothing to compare."

    def mean(variant: Variant) -> float:
        return variant.summary[metric].mean

    best = measured_variants[0]
    for variant in measured_variants[1:]:
        if headline.better(mean(variant), mean(best)):
            best = variant
    summary = best.summary[metric]
    value = with_unit(metric, summary.mean)
    if len(measured_variants) == 1:
        return (
            f"Only “{best.label}” has finished runs, with a mean test {title(metric)} of {value} over "
            f"{count(summary.n, 'seed')}: there is nothing to compare it with."
        )
    equal = [f"“{variant.label}”" for variant in measured_variants if isclose(mean(variant), summary.mean)]
    claim = f"{listed(equal)} {'has' if len(equal) == 1 else 'share'} the {most} mean test {title(metric)}, {value}"
    ns = {variant.summary[metric].n for variant in measured_variants}
    if max(ns) == 1:
        seed = f" (seed {comparison.seeds[0]})" if len(comparison.seeds) == 1 else ""
        return (
            f"With one seed per variant{seed} no interval is possible: {claim.replace(' mean', '')}, "
            "and another seed may order the variants differently."
        )
    if summary.interval is not None and len(equal) == 1:
        value_interval = interval(metric, summary.interval) + (f"{THIN}%" if is_accuracy(metric) else "")
        claim += f" (95{THIN}% interval {value_interval})"
    over = f"Over {count(summary.n, 'seed')}" if len(ns) == 1 else "Over the seeds that finished"
    if len(equal) > 1:
        return f"{over}, {claim}."
    return f"{over}, {claim}; {_against(comparison, headline, best, size)}."


def _against(comparison: Comparison, headline: Headline, best: Variant, size: int | None) -> str:
    """What the paired differences say of the best variant against each of the others."""
    metric, sign = headline.name, 1.0 if headline.direction == "max" else -1.0
    others: dict[str, list[tuple[str, float]]] = {"better": [], "unclear": [], "worse": [], "unknown": []}
    for pair in comparison.pairs_at(size):
        if best.label not in (pair.a, pair.b):
            continue
        other, mean = (pair.b, pair.mean) if pair.a == best.label else (pair.a, -pair.mean)
        if pair.reading == "no interval":
            others["unknown"].append((other, mean))
        elif pair.reading == "includes zero":
            others["unclear"].append((other, mean))
        else:
            others["better" if sign * mean > 0 else "worse"].append((other, mean))
    named = {reading: _named(metric, found) for reading, found in others.items() if found}
    subject = f"the paired 95{THIN}% interval of its difference"
    parts = []
    if "better" in named:
        parts.append(f"{subject} excludes zero against {named['better']}")
    if "unclear" in named:
        subject = "it" if parts else subject
        parts.append(f"{subject} includes zero against {named['unclear']}, which these seeds do not tell apart from it")
    if "worse" in named:
        parts.append(f"on the seeds that both finished it is behind {named['worse']}, and that interval excludes zero")
    if "unknown" in named:
        parts.append(f"against {named['unknown']} no interval is possible")
    return "; ".join(parts) if parts else "no paired difference is available"


def _named(metric: str, others: Sequence[tuple[str, float]]) -> str:
    """The variants with their differences, or, where the sentence would become a table, their number and the range."""
    if len(others) > 4:
        low, high = min(mean for _, mean in others), max(mean for _, mean in others)
        return (
            f"{len(others)} others ({difference(metric, low)} to {difference(metric, high)}{difference_unit(metric)})"
        )
    return listed([f"“{other}” ({difference(metric, mean)}{difference_unit(metric)})" for other, mean in others])
