"""Learning curves of part-of-speech taggers: how good will the tagger be on all the words, judging by the first part?

This file holds the options; `aleator.recipes.curve.task` holds the task, `aleator.recipes.curve.taggers` the taggers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.parts.checks import refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams


@dataclass(frozen=True)
class Curve:
    """Train a tagger on more and more words, and forecast its accuracy on all of them from the first levels."""

    # --- data
    data: Literal["ud-english-ewt", "ud-galician-treegal"] = "ud-english-ewt"
    """The treebank. Its training sentences are shuffled, for every seed anew."""
    train_size: int | None = None
    """Use only the first N training words; the sentence that reaches the number is the last. The number ends the curve,
    and is what the forecast is for."""
    folds: int | None = None
    """Measure every level by cross-validation within its words, in this many parts. Default: on the published
    development part, or where there is none on a tenth of the training sentences, the same for every seed."""

    # --- the system, or two of them
    tagger: Literal["suffix", "suffix-rare", "naive-bayes", "perceptron", "hmm"] = "suffix"
    """Most frequent tag of word or suffix; the same with suffixes of rare words; naive Bayes; averaged perceptrons;
    hidden Markov model."""
    against: Literal["suffix", "suffix-rare", "naive-bayes", "perceptron", "hmm"] | None = None
    """A second tagger, trained on the same levels: which of the two will be better on all the words?"""

    # --- levels
    step: int = 5000
    """Words by which a level is larger than the one before. A level ends with the sentence that reaches the number."""
    levels_until: float = 1.0
    """Fraction of the words up to which there is a level at every step, in (0, 1]."""
    control_step: int | None = None
    """Words between the levels after that, by default 20000. They save time where forecasts are only checked."""

    # --- forecasts
    forecast: Literal["power-law", "last-value"] = "power-law"
    """The trend of the levels seen, or simply the last accuracy seen."""
    forecast_at: float = 0.45
    """Fraction of the words after which the final accuracy is forecast, in (0, 1)."""
    decide_at: float | None = None
    """Fraction of the words after which one of two taggers is chosen, in (0, 1), by default 0.4."""
    tau: float = 0.005
    """Error up to which a forecast counts as right for the robustness, in accuracy."""
    stop_tau: float | None = None
    """End the run at the first level after which the trend promises at most this much more accuracy on all the words.
    What needs the rest of the curve is then not reported, and the forecast error is not a number. Default: go on."""
    nu: float = 2e-5
    """Slope of the asymptotes that counts as calm, in accuracy per word."""
    lookahead: int = 5
    """For how many more levels they have to stay calm."""
    anchor: Literal["none", "canonical", "fixed"] = "none"
    """Whether the trends are anchored at an earlier asymptote once they are calm."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("train_size", "step", "control_step", "tau", "stop_tau", "nu"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("forecast_at", "decide_at"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} must be in (0, 1), got {value}")
        if not 0 < self.levels_until <= 1:
            raise ValueError(f"levels_until must be in (0, 1], got {self.levels_until}")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if self.lookahead < 0:
            raise ValueError(f"lookahead must not be negative, got {self.lookahead}")
        refuse_unless(self.levels_until < 1, f"levels_until {self.levels_until}", self, "control_step")
        refuse_unless(self.against is not None, "against None", self, "decide_at")
        if self.stop_tau is not None and self.against is not None:
            raise ValueError(f"stop_tau cannot be used with against, which needs the whole curve, got {self.stop_tau}")
        if self.against == self.tagger:
            raise ValueError(f"against must be another tagger than {self.tagger}, got {self.against}")

    @property
    def words_between_controls(self) -> int:
        """Words between the levels after ``levels_until``."""
        return 20_000 if self.control_step is None else self.control_step

    @property
    def decided_at(self) -> float:
        """Fraction of the words after which one of two taggers is chosen."""
        return 0.4 if self.decide_at is None else self.decide_at

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        return named("aleator.recipes.curve.task:TaggingTask")(self, streams)  # type: ignore[no-any-return]
