"""The task behind the recipe ``curve``: a tagger at every level of a learning curve, and forecasts of its end.

A step of the run is a level: the tagger is trained, from nothing, on the first words of the shuffled sentences and
measured on the held-out part. With N words in all, levels at x_1 < x_2 < … < x_L = N and accuracies A(x_i) there,

    forecast error = |Â(N) − A(N)|,      Â(N) made from the levels with x_i ≤ 0.45·N.

Â and A are of the same curve, that on the held-out part; the test part is used once, for the accuracy of the tagger
trained on everything, and decides nothing. Every figure is a function of the curve, which is all the state there is.

The protocol is from Vilares Ferro et al., Computer Speech & Language 41, 2017, as far as it is known to us (see
`aleator.stats.LearningTrace`).

Streams: ``data`` for the order of the sentences. The keys of ``perceptron`` and ``bootstrap`` depend on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int

from aleator.data import Treebank, load
from aleator.data.shares import floor_share
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.curve.taggers import Tagger, TaggerName, make_tagger
from aleator.recipes.curve.words import TaggedWords, encode
from aleator.stats import LearningCurveStopping, LearningTrace, compare_curves

if TYPE_CHECKING:
    from aleator.recipes.curve.options import Curve

LEAST_LEVELS = 3  # a trend has three parameters


class TaggingTask:
    """A learning curve in the making, of one tagger or of two; see `aleator.experiment.Task`."""

    headline = Headline("forecast_error", "min")
    evaluate_every = 1

    def __init__(self, options: Curve, streams: Streams) -> None:
        self.options, self.streams = options, streams
        self.train, self.held_out, self.test = _parts(_loaded(options.data), options, streams)
        self.sentences, self.words = _levels(self.train.lengths, options)
        self.budget = Budget(len(self.words), "levels")
        fractions = {"forecast_at": options.forecast_at}
        if options.against:
            fractions["decide_at"] = options.decided_at
        for name, fraction in fractions.items():
            if self._levels_up_to(floor_share(fraction, len(self.train))) < LEAST_LEVELS:
                raise ValueError(
                    f"step must leave {LEAST_LEVELS} levels in the first {100 * fraction:g} % of "
                    f"{len(self.train)} words ({name}), got {options.step}"
                )
        self.names: list[TaggerName] = [options.tagger, *([options.against] if options.against else [])]
        self.trained: dict[TaggerName, Tagger] = {}
        # What training changes: the accuracies, of each fold, of each level so far.
        self.curves: dict[TaggerName, list[list[float]]] = {name: [] for name in self.names}

    # --- the curve -------------------------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """How many levels are done."""
        return len(self.curves[self.names[0]])

    def train_batches(self) -> Iterator[TaggedWords]:
        """Yield the words of every level to come."""
        for sentences in self.sentences[self.level :]:
            yield self.train.first(int(sentences))

    def train_step(self, batch: TaggedWords) -> StepResult:
        """Train and measure every tagger on a level."""
        for name in self.names:
            self.curves[name].append(self._accuracies(name, batch))
        accuracy = _mean(self.curves[self.names[0]][-1])
        return StepResult(
            {"accuracy": torch.tensor(accuracy, dtype=torch.float64)}, examples=len(batch), stop=self._stop()
        )

    def _stop(self) -> str | None:
        """Return why no further level is worth it, if that is so."""
        tau, level = self.options.stop_tau, self.level
        if tau is None or level < LEAST_LEVELS or self._complete:
            return None
        name = self.names[0]
        stopping = LearningCurveStopping(self._trace(name, level - 1), tau)
        if not stopping.should_stop(self.words[level - 1], self.curves[name][-1]):
            return None
        return f"the trend promises at most {tau:g} more accuracy (stop_tau)"

    @property
    def _complete(self) -> bool:
        return self.level == len(self.words)

    def _accuracies(self, name: TaggerName, words: TaggedWords) -> list[float]:
        """Accuracy on the held-out part, or on each fold."""
        folds = self.options.folds
        if folds is None:
            self.trained[name] = self._fitted(name, words)
            return [_accuracy(self.trained[name], self.held_out)]
        # Sentences are shuffled, and keep their fold when others join them.
        fold = np.arange(len(words.lengths)) % folds
        return [_accuracy(self._fitted(name, words.where(fold != i)), words.where(fold == i)) for i in range(folds)]

    def _fitted(self, name: TaggerName, words: TaggedWords) -> Tagger:
        tagger = make_tagger(name, self.streams.key("perceptron"))
        tagger.fit(words)
        return tagger

    # --- what the curve says ---------------------------------------------------------------------------------------

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the level's accuracy and what the trace says of it, or at the end the figures of the whole run."""
        name = self.names[0]
        if split == "test":
            return self._figures(name)
        state = self._trace(name, self.level).state()
        told: dict[str, float | None] = {
            "forecast": state.prediction if self.options.forecast == "power-law" else state.score,
            "alpha": state.alpha,
            "layer": state.layer,
            "working_level": state.working_level,
            "prediction_level": state.prediction_level,
        }
        if self.options.against:
            told["against_accuracy"] = self._score(self.options.against, self.level)
        return {
            "forecast_error": self._forecast_error(name),
            "accuracy": state.score,
            "words": state.x,
            **{key: float(value) for key, value in told.items() if value is not None},
        }

    def _figures(self, name: TaggerName) -> dict[str, float]:
        for missing in [name for name in self.names if name not in self.trained]:
            self.trained[missing] = self._fitted(missing, self.train.first(self.sentences[self.level - 1]))
        final, end = self._score(name, self.level), self.words[-1]
        decision = self._trace(name, self.level).levels.decision
        if not self._complete:  # stopped: what the end would have been is not known
            return {
                "forecast_error": math.nan,
                "accuracy": _accuracy(self.trained[name], self.test),
                "held_out_accuracy": final,
                "words": float(self.words[self.level - 1]),
            }
        figures = {
            "forecast_error": self._forecast_error(name),
            "accuracy": _accuracy(self.trained[name], self.test),
            "held_out_accuracy": final,
            "decision_words": math.nan if decision is None else float(self.words[decision - 1]),
            "mape": math.nan,
            "robustness": math.nan,
        }
        if decision is not None and decision < self.level:
            later = range(decision + 1, self.level + 1)
            truth = {i: self._score(name, i) for i in later}
            off = [abs(self._forecast(name, decision, self.words[i - 1]) - truth[i]) / truth[i] for i in later]
            near = [abs(self._forecast(name, i - 1, end) - final) <= self.options.tau for i in later]
            figures |= {"mape": _mean(off), "robustness": _mean(near)}
        return figures | (self._choice() if self.options.against else {})

    def _choice(self) -> dict[str, float]:
        """Whether the tagger chosen from the first levels is the better one at the end.

        A choice that is not made is not right either, so that never to choose is no way to be right.
        """
        a, b = self.names
        seen = self._levels_up_to(floor_share(self.options.decided_at, self.words[-1]))
        if self.options.forecast == "power-law":
            winner = compare_curves(
                self._trace(a, seen, bands=True), self._trace(b, seen, bands=True), at=self.words[-1]
            ).winner
        else:
            lead = self._score(a, seen) - self._score(b, seen)
            winner = None if lead == 0 else "a" if lead > 0 else "b"
        lead = self._score(a, self.level) - self._score(b, self.level)
        right = winner is not None and lead != 0 and (winner == "a") == (lead > 0)
        return {
            "decision_right": float(right),
            "undecided": float(winner is None),
            "against_accuracy": _accuracy(self.trained[b], self.test),
        }

    def _forecast_error(self, name: TaggerName) -> float:
        """Error of the forecast of the last accuracy, made from a fraction of the words so far.

        Before the end it is a rehearsal, of a forecast that could be checked by now.
        """
        now = self.words[self.level - 1]
        seen = self._levels_up_to(floor_share(self.options.forecast_at, now))
        if seen < LEAST_LEVELS:
            return math.nan
        return abs(self._forecast(name, seen, now) - self._score(name, self.level))

    def _forecast(self, name: TaggerName, level: int, at: int) -> float:
        """Forecast of the accuracy at ``at`` words, from the levels up to this one."""
        if self.options.forecast == "last-value" or level < LEAST_LEVELS:
            return self._score(name, level)
        return self._trace(name, level).predict(at)

    def _trace(self, name: TaggerName, level: int, bands: bool = False) -> LearningTrace:
        """The trace of the levels up to this one. Fitting it anew takes milliseconds, and keeps it out of the state."""
        trace = LearningTrace(
            nu=self.options.nu,
            lookahead=self.options.lookahead,
            anchor=self.options.anchor,
            horizon=self.words[-1],
            generator=np.random.default_rng(self.streams.key("bootstrap")) if bands else None,
        )
        trace.extend([float(x) for x in self.words[:level]], self.curves[name][:level])
        return trace

    def _score(self, name: TaggerName, level: int) -> float:
        return _mean(self.curves[name][level - 1])

    def _levels_up_to(self, words: int) -> int:
        return sum(x <= words for x in self.words)

    # --- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the curves; a level is trained from nothing, so there is nothing else to keep."""
        return {"curves": {name: [list(folds) for folds in curve] for name, curve in self.curves.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.curves = {name: [list(folds) for folds in curve] for name, curve in state["curves"].items()}
        self.trained = {}


def _loaded(name: str) -> Treebank:
    loaded = load(name)
    assert isinstance(loaded, Treebank)
    return loaded


def _parts(treebank: Treebank, options: Curve, streams: Streams) -> tuple[TaggedWords, TaggedWords, TaggedWords]:
    """Return the shuffled training sentences, the held-out ones, and those for the test."""
    train, held_out = list(treebank.train), list(treebank.dev)
    if options.folds is None and not held_out:
        fixed = torch.randperm(len(train), generator=Streams(0).generator("curve", "validation", treebank.name))
        chosen = set(fixed[: len(train) // 10].tolist())
        held_out = [sentence for i, sentence in enumerate(train) if i in chosen]
        train = [sentence for i, sentence in enumerate(train) if i not in chosen]
    order = torch.randperm(len(train), generator=streams.generator("data"))
    parts = encode([[train[i] for i in order.tolist()], held_out, treebank.test], treebank.tags)
    if options.train_size is not None:
        if options.train_size > len(parts[0]):
            raise ValueError(
                f"train_size must be at most {len(parts[0])} for {treebank.name}, got {options.train_size}"
            )
        parts[0] = parts[0].first(_sentences_to_reach(parts[0].lengths, options.train_size))
    return parts[0], parts[1], parts[2]


def _levels(lengths: Int[np.ndarray, " sentences"], options: Curve) -> tuple[list[int], list[int]]:
    """Return the number of sentences and of words of every level; the last one has all of them."""
    total = int(lengths.sum())
    until = floor_share(options.levels_until, total)
    ends = [*range(options.step, until + 1, options.step)]
    ends += [x for x in range(options.words_between_controls, total, options.words_between_controls) if x > until]
    sentences = list(dict.fromkeys([*(_sentences_to_reach(lengths, end) for end in ends), len(lengths)]))
    words = np.cumsum(lengths)
    return sentences, [int(words[count - 1]) for count in sentences]


def _sentences_to_reach(lengths: Int[np.ndarray, " sentences"], words: int) -> int:
    return int(np.searchsorted(np.cumsum(lengths), words)) + 1


def _accuracy(tagger: Tagger, words: TaggedWords) -> float:
    return float(np.mean(tagger.predict(words) == words.tags))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
