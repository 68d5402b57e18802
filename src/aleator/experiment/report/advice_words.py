"""The answer of advice, in words a person would use.

A sentence for every arm that was confirmed, then what does not apply, what failed, what was dropped in the choosing and
what there was no time for. An effect of the phase of choosing has no sentence: it was picked for its size. What holds
on new data says so, and what holds on this training and test set says that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aleator.experiment.protocol import Headline
from aleator.experiment.report.words import THIN, count, difference_unit, listed, number, scale, title
from aleator.experiment.shares import is_accuracy
from aleator.stats import Effect
from aleator.stats.intervals import Interval, cut


def answer(
    headline: Headline,
    effects: Sequence[Effect],
    *,
    own_settings: str | None = None,
    not_applicable: Mapping[str, str] | None = None,
    failed: Mapping[str, str] | None = None,
    dropped: Sequence[str] = (),
    not_tried: Sequence[str] = (),
    enough_minutes: float | None = None,
) -> list[str]:
    """Return what was found out, sentence by sentence.

    Args:
        headline: what was judged.
        effects: of the arms that were confirmed, in the order of the answer.
        own_settings: the name of the arm that is the user's own settings, where it was confirmed against the tuned
            baseline.
        not_applicable: why a method cannot be used here, by its name.
        failed: why a method's runs failed, by its name.
        dropped: methods that others beat on validation data, and that were not confirmed.
        not_tried: methods that there was no time for.
        enough_minutes: where nothing could be confirmed, the minutes that would be enough for one arm on six seeds.
    """
    methods = [effect for effect in effects if effect.arm != own_settings]
    said = []
    for effect in effects:
        if effect.arm == own_settings:
            said += tuning(headline, effect, any(other.claim == "better" for other in methods))
        else:
            said.append(sentence(headline, effect))
    if enough_minutes is not None:
        said.append(
            f"Nothing was confirmed: there is not the time for it. One method on six seeds takes about "
            f"{duration(enough_minutes)} in all."
        )
    elif not effects:
        said.append("Nothing was confirmed: no method has results on test data.")
    if any(effect.examples_outweigh and effect.claim is None for effect in effects):
        said.append("The test examples make most of the uncertainty: more seeds will not help; more test data would.")
    said += [f"{name} does not apply, because {_clause(why)}." for name, why in (not_applicable or {}).items()]
    said += [f"{name} failed: {_clause(why)}." for name, why in (failed or {}).items()]
    if dropped:
        did = "it was" if len(dropped) == 1 else "they were"
        said.append(f"Not confirmed, because {did} behind on validation data: {listed(dropped)}.")
    if not_tried:
        said.append(f"Not tried for lack of time: {listed(not_tried)}.")
    return said


def sentence(headline: Headline, effect: Effect) -> str:
    """Return what is known of an arm: better, worse, or no difference found, with its interval."""
    if effect.interval is None:
        why = "one seed does not say" if effect.seeds == 1 else "equal results do not say"
        return (
            f"{effect.arm}: nothing is claimed, because {why} how far results spread ({count(effect.seeds, 'seed')})."
        )
    if effect.claim is None:
        ends = _shown(headline, effect.interval, effect.interval, signed=True)
        if headline.direction == "min":  # a sign would be read as that of the metric, where less is better
            ends = [f"{end[1:]} {'worse' if end[0] == '−' else 'better'}" if end[0] in "−+" else end for end in ends]
        return (
            f"{effect.arm}: no difference found; it lies between {ends[0]} and {ends[1]}{_unit(headline)} "
            f"{_where(effect)} ({_basis(effect)})."
        )
    place = _where(effect)
    return (
        f"{place[0].upper()}{place[1:]}, {effect.arm} is {effect.claim} by {_amount(headline, effect)} at equal time "
        f"({_basis(effect)}{', trained on this training set' if effect.examples is not None else ''})."
    )


def tuning(headline: Headline, own: Effect, method_pays: bool) -> list[str]:
    """Return whether it was tuning, and not a method, that made a gain.

    Args:
        headline: what was judged.
        own: the effect of the user's own settings against the tuned baseline.
        method_pays: whether some method is better than the tuned baseline.
    """
    if own.claim == "worse":
        place = _where(own)
        gain = f"{place}, your own settings, tuned, are better by {_amount(headline, own)} ({_basis(own)})"
        if method_pays:
            return [f"Tuning made a gain by itself: {gain}. What is said of methods is on top of it."]
        return [f"Tuning, not a method, made the gain: {gain}."]
    if own.claim == "better":
        place = _where(own)
        return [
            f"{place[0].upper()}{place[1:]}, your own settings are better than the tuned ones by "
            f"{_amount(headline, own)} ({_basis(own)}): keep them."
        ]
    return [sentence(headline, own).replace(own.arm, "Your own settings against the tuned ones", 1)]


def guarantee(alpha: float) -> str:
    """Return how sure the claims are, together."""
    return (
        f"With a probability of at most {number(100 * alpha, 3)}{THIN}% anything at all is claimed falsely, over all "
        "methods that were confirmed and every time the answer is looked at."
    )


def duration(minutes: float) -> str:
    """Return minutes as people say them, rounded up: what is too short by a little is too short."""
    if minutes < 90:
        return count(math.ceil(minutes - 1e-9), "minute")
    hours = math.ceil(minutes / 6 - 1e-9) / 10
    return f"{hours:g} hours" if hours < 48 else f"{math.ceil(hours / 24)} days"


# --- pieces of sentences -------------------------------------------------------------------------------------------


def _where(effect: Effect) -> str:
    return "on new data like this test set" if effect.examples is not None else "on this training and test set"


def _basis(effect: Effect) -> str:
    said = count(effect.seeds, "seed")
    return said if effect.examples is None else f"{said}, {_grouped(effect.examples)} test examples"


def _amount(headline: Headline, effect: Effect) -> str:
    """Return the size of an effect that is claimed, without its sign: ``"1.2 points [0.4, 2.0]"``."""
    assert effect.interval is not None
    low, high = effect.interval if effect.claim == "better" else (-effect.interval[1], -effect.interval[0])
    size, low_shown, high_shown = _shown(headline, (low, high), (abs(effect.gain), low, high))
    return f"{size}{_unit(headline)} [{low_shown}, {high_shown}]"


def _shown(headline: Headline, interval: Interval, values: Sequence[float], signed: bool = False) -> list[str]:
    """Return numbers with as many decimals as the interval's width is worth: no end that is not 0 is shown as 0."""
    if is_accuracy(headline.name):
        cut_to = cut(interval, -1.0, 1.0)
        assert cut_to is not None
        interval, values = cut_to, [min(max(value, -1.0), 1.0) for value in values]
    factor = scale(headline.name)
    half = factor * (interval[1] - interval[0]) / 2
    decimals = max(0, -math.floor(math.log10(half / 4))) if half > 0 else 3
    ends = [factor * abs(end) for end in interval if end != 0]
    while decimals < 12 and any(round(end, decimals) == 0 for end in ends):
        decimals += 1
    return [_with_sign(factor * value, decimals, signed) for value in values]


def _with_sign(value: float, decimals: int, signed: bool) -> str:
    text = f"{abs(value):.{decimals}f}"
    return ("−" if value < 0 else "+" if signed and value > 0 else "") + text


def _unit(headline: Headline) -> str:
    return difference_unit(headline.name) or f" in {title(headline.name)}"


def _grouped(amount: int) -> str:
    """Return a number in groups of three digits, from four digits on."""
    return f"{amount:,}".replace(",", THIN)


def _clause(reason: str) -> str:
    """Return a reason as the end of a sentence."""
    return reason.strip().rstrip(".")
