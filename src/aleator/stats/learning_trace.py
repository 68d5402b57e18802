"""The end of a learning curve from its first points, and the levels from which a forecast may be believed.

The power law fitted to the first ℓ observations is the trend of level ℓ; its asymptote α_ℓ, as ℓ grows, is the
*asymptotic backbone*. Early trends promise too much, so the backbone usually falls and then settles. With its slope

    v_i = |α_{i+1} − α_i| / (x_{i+1} − x_i)

the *working level* is the first ω with v_i ≤ ν^(1/ς) for all i in [ω, ω+λ], and the *prediction level* the first ℘ ≥ ω
with a possible asymptote, α_℘ ≤ 1. From ℘ on the *layer* χ_ℓ = α_ℓ − A_ℓ(x_ℓ) is all that the trend still promises, and
trends are *anchored*: an earlier asymptote is one more observation, at infinity.

The law knows no best score, so an early trend may lead beyond it. Forecasts and bands are cut at the ideal, and a flag
marks the trend as impossible.

Source: Vilares Ferro, Darriba Bilbao and Ribadas Pena, Modeling of learning curves with applications to POS tagging,
Computer Speech & Language 41, 2017 (arXiv 2402.02515). The paper's text was not available to us: the levels are
written down from memory of the family of papers, the formula of the anchor is our reconstruction, and the bound with
radius, the layer at a horizon and the bootstrap are ours. None of it is a statistical guarantee: a layer bounds the
error only if the true curve is increasing, concave and bounded, and the backbone does not rise again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, SupportsFloat

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from aleator.stats.backbone import ROUNDING, Levels, backbone_levels
from aleator.stats.curve_bootstrap import percentiles, refits
from aleator.stats.intervals import Interval
from aleator.stats.power_law import PowerLaw, PowerLaws, fit_power_law, fit_power_laws
from aleator.stats.trace_state import SizeForTarget, TraceState

FIRST = 3  # a law has three parameters

Anchor = Literal["none", "canonical", "fixed"]


class LearningTrace:
    """Follows a learning curve and says what it will come to.

    Args:
        nu: ν > 0, the slope of the backbone that counts as calm, in score per unit of x. The default is for accuracies
            as fractions against words: for a unit that is worth k words take k·ν.
        slowdown: ς ≥ 1, takes the ς-th root of ν for slow curves.
        lookahead: λ ≥ 0, guards against lucky plateaus.
        anchor: ``"none"``; ``"canonical"``: every trend from ℘+1 on is anchored at the asymptote of the one before;
            ``"fixed"``: at the asymptote of ℘. The paper anchors. The default does not, because we know its formula
            only by reconstruction, and on simulated curves with independent errors anchored forecasts were worse.
        anchor_weight: of the anchor's squared error, against 1 for an observation.
        horizon: H, the size that forecasts are for.
        higher_is_better: False for losses and error rates.
        bounded: whether scores have an ideal: 1 where higher is better, else 0. Then accuracies must be in [0, 1] and
            losses not negative, and an asymptote beyond the ideal is impossible.
        generator: of the bootstrap. One integer is drawn from it, now; without it there are no bands.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> trace = LearningTrace(horizon=40_000, nu=1e-4, lookahead=1)
        >>> for x, y in [(1000, 0.70), (2000, 0.75), (4000, 0.785), (8000, 0.81), (16000, 0.828)]:
        ...     state = trace.update(x, y)
        >>> state.status, round(state.prediction, 3)
        ('converged', 0.844)
    """

    def __init__(
        self,
        nu: float = 2e-5,
        slowdown: int = 1,
        lookahead: int = 5,
        anchor: Anchor = "none",
        anchor_weight: float = 1.0,
        horizon: float | None = None,
        higher_is_better: bool = True,
        bounded: bool = True,
        generator: np.random.Generator | None = None,
    ) -> None:
        if not 0 < nu < math.inf:
            raise ValueError(f"nu must be positive, got {nu}")
        for name, number, least in (("slowdown", slowdown, 1), ("lookahead", lookahead, 0)):
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        if anchor not in ("none", "canonical", "fixed"):
            raise ValueError(f"anchor must be one of none, canonical, fixed, got {anchor!r}")
        if not 0 <= anchor_weight < math.inf:
            raise ValueError(f"anchor_weight must not be negative, got {anchor_weight}")
        if horizon is not None and not 0 < horizon < math.inf:
            raise ValueError(f"horizon must be positive, got {horizon}")
        self.nu, self.slowdown, self.lookahead = nu, slowdown, lookahead
        self.anchor, self.anchor_weight, self.horizon = anchor, anchor_weight, horizon
        self.higher_is_better, self.bounded = higher_is_better, bounded
        self._key = None if generator is None else int(generator.integers(2**63))
        self._x: list[float] = []
        self._folds: list[list[float]] = []
        # Inside, higher is better: scores are multiplied by the sign.
        self._trends: list[PowerLaw | None] = []
        self._chain: list[PowerLaw] = []  # the anchored trends of ℘+1, ℘+2, …
        self._refits: tuple[int, PowerLaws] | None = None  # of the last level that they were asked for

    def __len__(self) -> int:
        return len(self._x)

    @property
    def x(self) -> Float[np.ndarray, " levels"]:
        """The sizes."""
        return np.array(self._x)

    @property
    def scores(self) -> Float[np.ndarray, " levels"]:
        """The score at each size, the mean of its folds."""
        return np.array([math.fsum(folds) / len(folds) for folds in self._folds])

    @property
    def backbone(self) -> Float[np.ndarray, " levels"]:
        """The asymptote of the plain trend of each level; NaN at the first two and where the scores did not rise."""
        return self._sign * self._alpha

    @property
    def levels(self) -> Levels:
        """Working, prediction and decision level so far."""
        ceiling = None if self.ideal is None else self._sign * self.ideal
        return backbone_levels(self.x, self._alpha, self.nu, self.slowdown, self.lookahead, ceiling)

    @property
    def ideal(self) -> float | None:
        """The best score there can be; None if scores are not bounded."""
        return None if not self.bounded else 1.0 if self.higher_is_better else 0.0

    @property
    def trend(self) -> PowerLaw | None:
        """The law that forecasts are made with, of minus the score where lower is better. None before level 3."""
        self._extend_chain()
        return self._chain[-1] if self._chain else self._trends[-1] if self._trends else None

    def update(self, x: SupportsFloat, y: ArrayLike) -> TraceState:
        """Add an observation.

        Args:
            x: the size, larger than those before.
            y: the score, or the scores of the folds, as many at every level; their mean is the score.

        Raises:
            ValueError: if x does not increase, or y is not a score.
        """
        return self.extend([x], [y])

    def extend(self, x: Sequence[SupportsFloat], y: Sequence[ArrayLike]) -> TraceState:
        """Add several observations; their trends are fitted in one call. Arguments and errors as for `update`.

        The trends are the same as after single updates, but for rounding.
        """
        if len(x) != len(y) or not x:
            raise ValueError(f"x and y must be two lists of equal length, got {len(x)} and {len(y)} values")
        sizes, folds = list(self._x), list(self._folds)
        for size, score in zip(x, y, strict=True):
            found = np.atleast_1d(np.asarray(score, dtype=np.float64)).tolist()
            self._check(sizes, folds, float(size), found)
            sizes.append(float(size))
            folds.append(found)
        known = len(self._x)
        self._x, self._folds = sizes, folds
        ends = np.arange(known + 1, len(sizes) + 1)
        fitted = ends[ends >= FIRST]
        self._trends += [None] * (len(ends) - len(fitted))
        if len(fitted):
            prefixes = np.where(np.arange(len(sizes)) < fitted[:, None], self._sign * self.scores, np.nan)
            laws = fit_power_laws(self.x, prefixes)
            self._trends += [laws[i] for i in range(len(laws))]
        return self.state()

    def state(self) -> TraceState:
        """Return what is known after the last observation.

        Raises:
            ValueError: if there is no observation yet.
        """
        if not self._x:
            raise ValueError("a trace without observations has no state")
        levels, plain, trend = self.levels, self._trends[-1], self.trend
        warnings = list(plain.flags) if plain else []
        rise = self._largest_rise(levels.prediction)
        if rise > 0:
            warnings.append("backbone_not_monotone")
        if self.horizon is not None and self.horizon < self._x[-1]:
            warnings.append("horizon_below_data")
        if trend is not None and self.horizon is not None and self.is_impossible(self.horizon):
            warnings.append("impossible")
        layer = at_horizon = radius = None
        if plain is not None and levels.prediction is not None and "not_increasing" not in plain.flags:
            layer = self._layer(len(self), math.inf)
            at_horizon = self._layer(len(self), self.horizon) if self.horizon is not None else None
            residuals = self._sign * self.scores - plain.predict(self.x)
            radius = float(np.max(np.abs(residuals[-self.lookahead - 1 :]))) + rise
        alpha = self.backbone[-1]
        return TraceState(
            level=len(self),
            x=self._x[-1],
            score=float(self.scores[-1]),
            alpha=None if math.isnan(alpha) else float(alpha),
            working_level=levels.working,
            prediction_level=levels.prediction,
            decision_level=levels.decision,
            layer=layer,
            layer_at_horizon=at_horizon,
            radius=radius,
            prediction=self.predict(self.horizon) if trend and self.horizon is not None else None,
            band=self.band(self.horizon) if self.horizon is not None and self.has_bands else None,
            status="undecided" if levels.prediction is None else "converged",
            warnings=tuple(warnings),
            largest_rise=rise,
        )

    def predict(self, x: float) -> float:
        """Return the forecast of the score at x, cut to what a score can be; infinity gives the asymptote.

        Raises:
            ValueError: if there are fewer than three observations.
        """
        return float(self._possible(self._sign * self._needed_trend().predict(float(x))))

    def is_impossible(self, x: float) -> bool:
        """Return whether the trend at x is no value that a score can have, so that `predict` cuts it.

        Raises:
            ValueError: if there are fewer than three observations.
        """
        return abs(self._sign * self._needed_trend().predict(float(x)) - self.predict(x)) > ROUNDING

    def convergence_level(self, tau: float, at_horizon: bool = False) -> int | None:
        """Return the first level from ℘ on whose layer is at most τ, or None.

        Args:
            tau: τ > 0, in the unit of the score.
            at_horizon: take the layer at the horizon instead of the one at infinity.

        Raises:
            ValueError: if τ is not positive, or there is no horizon where one is needed.
        """
        if not 0 < tau < math.inf:
            raise ValueError(f"tau must be positive, got {tau}")
        if at_horizon and self.horizon is None:
            raise ValueError("horizon must be given for layers at the horizon, got None")
        end = self.horizon if at_horizon and self.horizon is not None else math.inf
        start = self.levels.prediction
        for level in range(start or len(self) + 1, len(self) + 1):
            if not math.isnan(self._alpha[level - 1]) and self._layer(level, end) <= tau:
                return level
        return None

    def size_for(self, target: float) -> SizeForTarget:
        """Return the size at which the trend reaches a score, or infinity and why it does not.

        Raises:
            ValueError: if there are fewer than three observations, or no score can be the target.
        """
        trend = self._needed_trend()
        goal = self._goal(target)
        needed = trend.size_for(goal)
        end = f"the trend's asymptote {self._sign * trend.c:.4g}"
        if "flat" in trend.flags:
            x, reason = (
                (self._x[0], "every score is that good") if goal <= trend.c else (math.inf, "the scores are flat")
            )
            return SizeForTarget(x, reason)
        if "not_increasing" in trend.flags:
            return SizeForTarget(math.inf, "the scores do not get better with more data")
        if goal >= trend.c:
            return SizeForTarget(math.inf, f"{end} is not beyond {target:.4g}")
        if math.isinf(needed):
            return SizeForTarget(math.inf, f"{end} is so slowly approached that the size is not a number")
        if needed <= self._x[-1]:
            return SizeForTarget(needed, "the trend is there within the data")
        doubtful = ", which looks logarithmic," if "no_asymptote" in trend.flags else ""
        if self.is_impossible(math.inf):
            doubtful = f", which leads beyond {self.ideal:g},"
        return SizeForTarget(needed, f"where the trend{doubtful} reaches it")

    @property
    def has_bands(self) -> bool:
        """Whether there are a generator and the observations that a bootstrap needs."""
        folds = len(self._folds[0]) if self._folds else 0
        return self._key is not None and len(self) >= (FIRST if folds > 1 else FIRST + 1)

    def bootstrap(self) -> PowerLaws:
        """Return refits of the plain trend (of minus the score where lower is better), see `curve_bootstrap`.

        The numbers depend on the generator's draw and on the level, not on how often this is called. An anchored trend
        gets the same bands: refits around a fixed anchor vary too little, and their bands held the truth in less than
        half of our simulated curves.

        Raises:
            ValueError: if the trace has no generator or too few observations.
        """
        plain = self._trends[-1] if self.has_bands else None
        if plain is None:
            raise ValueError(f"a bootstrap needs a generator and 4 levels, or 3 with folds, got {len(self)} levels")
        if self._refits is None or self._refits[0] != len(self):
            rng = np.random.default_rng([self._key or 0, len(self)])
            folds = self._sign * np.array(self._folds)
            self._refits = len(self), refits(self.x, self._sign * self.scores, folds, plain, rng)
        return self._refits[1]

    def refitted(self, at: float) -> Float[np.ndarray, " refits"]:
        """Return what each refit forecasts for a size, cut to what a score can be.

        Raises:
            ValueError: as `bootstrap`.
        """
        found: Float[np.ndarray, " refits"] = self._possible(self._sign * self.bootstrap().predict(at))
        return found

    def band(self, at: float) -> Interval:
        """Return the 95 % percentile interval of what refits forecast for a size; infinity gives the asymptote's.

        Raises:
            ValueError: as `bootstrap`.
        """
        return percentiles(self.refitted(at))

    def size_band(self, target: float) -> Interval:
        """Return the 95 % percentile interval of the size that a target needs; an end may be infinite.

        Raises:
            ValueError: as `bootstrap`, or if no score can be the target.
        """
        return percentiles(self.bootstrap().size_for(self._goal(target)))

    def state_dict(self) -> dict[str, Any]:
        """Return options, observations and trends: numbers, strings and lists only, so that JSON can hold them."""
        return {
            "options": self._options(),
            "key": self._key,
            "x": list(self._x),
            "folds": [list(folds) for folds in self._folds],
            "trends": [
                t and {"a": t.a, "b": t.b, "c": t.c, "sse": t.sse, "flags": list(t.flags)} for t in self._trends
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the trace that ``state_dict`` was taken from, to the last bit.

        Raises:
            ValueError: if that trace had other options.
        """
        if state["options"] != self._options():
            raise ValueError(f"the saved trace has options {state['options']}, this one has {self._options()}")
        self._key, self._x = state["key"], list(state["x"])
        self._folds = [list(folds) for folds in state["folds"]]
        self._trends = [t and PowerLaw(**{**t, "flags": tuple(t["flags"])}) for t in state["trends"]]
        self._chain, self._refits = [], None

    def _options(self) -> dict[str, Any]:
        names = ("nu", "slowdown", "lookahead", "anchor", "anchor_weight", "horizon", "higher_is_better", "bounded")
        return {name: getattr(self, name) for name in names}

    @property
    def _sign(self) -> int:
        return 1 if self.higher_is_better else -1

    @property
    def _alpha(self) -> Float[np.ndarray, " levels"]:
        return np.array([t.c if t and "not_increasing" not in t.flags else math.nan for t in self._trends])

    def _check(self, sizes: list[float], folds: list[list[float]], x: float, scores: list[float]) -> None:
        if not 0 < x < math.inf:
            raise ValueError(f"x must be positive and finite, got {x}")
        if sizes and x <= sizes[-1]:
            raise ValueError(f"x must increase from level to level, got {x} after {sizes[-1]}")
        if not scores or (folds and len(scores) != len(folds[0])):
            raise ValueError(f"y must have as many folds at every level, got {len(scores)}")
        for y in scores:
            if not math.isfinite(y):
                raise ValueError(f"y must be a finite number, got {y}")
            if self.bounded and self.higher_is_better and not 0 <= y <= 1:
                raise ValueError(f"y must be in [0, 1], got {y}; divide percentages by 100")
            if self.bounded and y < 0:
                raise ValueError(f"y must not be negative, got {y}")

    def _possible(self, scores: Any) -> Any:
        """Cut scores to what they can be."""
        if not self.bounded:
            return scores
        return np.clip(scores, 0.0, 1.0 if self.higher_is_better else None)

    def _goal(self, target: float) -> float:
        if math.isnan(target) or self._possible(target) != target:
            raise ValueError(f"target must be {'in [0, 1]' if self.higher_is_better else 'at least 0'}, got {target}")
        return self._sign * target

    def _needed_trend(self) -> PowerLaw:
        trend = self.trend
        if trend is None:
            raise ValueError(f"a trend needs at least {FIRST} observations, got {len(self)}")
        return trend

    def _extend_chain(self) -> None:
        """Bring the anchored trends up to date."""
        prediction = self.levels.prediction
        if self.anchor == "none" or prediction is None:
            return
        first = float(self._alpha[prediction - 1])
        x, y = self.x, self._sign * self.scores
        for level in range(prediction + len(self._chain) + 1, len(self) + 1):
            at = self._chain[-1].c if self._chain and self.anchor == "canonical" else first
            self._chain.append(fit_power_law(x[:level], y[:level], anchor=at, anchor_weight=self.anchor_weight))

    def _layer(self, level: int, end: float) -> float:
        """What the plain trend of a level promises between its last observation and ``end``."""
        law = self._trends[level - 1]
        assert law is not None
        start, end = (self._sign * law.predict(x) for x in (self._x[level - 1], end))
        return max(0.0, float(self._sign * (self._possible(end) - self._possible(start))))

    def _largest_rise(self, prediction: int | None) -> float:
        if prediction is None:
            return 0.0
        alpha = self._alpha[prediction - 1 :]
        alpha = alpha[~np.isnan(alpha)]
        rise = float(np.max(alpha - np.minimum.accumulate(alpha)))
        return rise if rise > 1e-9 else 0.0  # rounding of the fit
