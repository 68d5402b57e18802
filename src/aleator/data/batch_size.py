"""A batch size that grows when the gradient is too noisy, and how it is cut for processes and memory.

A batch of b is used for a step and tested; b_req is what the test asks for (`aleator.data.required_batch_size`). The
next batches have

    b ← min(b_max, ⌊cap·b⌋, max(b, ⌈b_req⌉))

examples: they never become fewer, and one test multiplies them by the cap at most, because one noisy test near a
stationary point would otherwise take the largest batch for good. Where noise rules, b_req is about b/η² anyway. A batch
is cut into ``accumulation`` pieces of ``micro`` examples on each of W processes, and b is rounded up to their product,
never above b_max.

T. Lau, H. Liu and M. Kolar, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods", arXiv 2402.11215.
The cap, patience and the hard b_max are the house's; the authors' program may round b above its largest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from aleator.data.batch_tests import BatchTest, check_test, quotient, terms
from aleator.gradients import GradStats, TraceStats

Estimator = Literal["per_sample", "micro_batch", "official"]


@dataclass(frozen=True)
class BatchPlan:
    """A batch and how it is cut.

    Attributes:
        global_size: examples over all processes and pieces: micro · accumulation · processes.
        micro: examples of a piece on one process.
        accumulation: pieces on each process.
    """

    global_size: int
    micro: int
    accumulation: int


def split_batch(
    size: int,
    maximum: int,
    *,
    world_size: int = 1,
    accumulation: int = 1,
    min_micro: int = 2,
    max_micro: int | None = None,
    multiple_of: int = 1,
) -> BatchPlan:
    """Return how a batch of at least ``size`` examples is cut, and at most ``maximum``.

    The number of pieces stays as it is while they fit; it may fall where fewer do.

    Args:
        size: b, before it is rounded up.
        maximum: b_max.
        world_size: W, the processes that share a batch in equal parts.
        accumulation: the pieces of the plan in use.
        min_micro: the fewest examples of a piece.
        max_micro: the most; None is any number.
        multiple_of: what a piece is a multiple of.

    Raises:
        ValueError: if b_max has no room for a piece on every process, or ``max_micro`` is less than twice the least.
    """
    least = _up(min_micro, multiple_of)
    most = None if max_micro is None else _down(max_micro, multiple_of)
    if most is not None and most < 2 * least:
        raise ValueError(f"max_micro must be at least {2 * least}, twice the smallest piece, got {max_micro}")
    if maximum < world_size * least:
        raise ValueError(f"maximum must be at least {world_size * least}, a piece for every process, got {maximum}")
    micro = max(least, _up(-(-size // (world_size * accumulation)), multiple_of))
    if most is not None:
        micro = min(micro, most)
    pieces = -(-size // (micro * world_size))
    if micro * world_size * pieces > maximum:
        pieces = 1 if most is None else -(-maximum // (world_size * most))
        micro = _down(maximum // (world_size * pieces), multiple_of)
    return BatchPlan(micro * world_size * pieces, micro, pieces)


def largest_micro(attempt: Callable[[int], object], smallest: int, largest: int) -> int:
    """Return how many examples fit into memory at once: found by trying, to an eighth.

    Args:
        attempt: passes so many examples forward and backward, and raises ``torch.OutOfMemoryError`` where they are too
            many. Processes that share a batch have to take the smallest of their answers.
        smallest: has to fit.
        largest: more are not tried.

    Raises:
        ValueError: if the smallest does not fit.
    """
    fits = _fits(attempt)
    if not fits(smallest):
        raise ValueError(f"a micro-batch of {smallest} examples must fit into memory, and does not")
    low, high = smallest, smallest
    while low == high and high < largest:
        high = min(2 * high, largest)
        if fits(high):
            low = high
    while high - low > max(low // 8, 1):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _fits(attempt: Callable[[int], object]) -> Callable[[int], bool]:
    def fits(count: int) -> bool:
        try:
            attempt(count)
        except torch.OutOfMemoryError:
            fitted = False
        else:
            fitted = True
        if not fitted and torch.cuda.is_available():  # outside the handler, which still holds what was computed
            torch.cuda.empty_cache()
        return fitted

    return fits


class BatchSizeController:
    """Decides the size of the batches from what the last ones' gradients were like.

    The caller says what was seen, `observe`, and asks for the batches to come, `propose`. On several processes everyone
    has to observe the same numbers, reduced over all of them, or be told the size by one. With `due` it is asked
    whether a batch is to be tested at all: at the largest size no test can change anything.

    Args:
        initial: b_0, in examples over all processes. Small enough for the first tests to fail: above
            B_simple/η² nothing ever happens.
        maximum: b_max, hard.
        test: see `required_batch_size`.
        eta: η, of ``"norm"`` and ``"coordinate"``. 1 and more are legal, and outside of the theory.
        theta: ϑ, of ``"inner"`` and ``"augmented"``.
        nu: ν, of ``"orthogonal"`` and ``"augmented"``.
        estimator: what is observed: ``"per_sample"``, `aleator.gradients.GradStats` of examples; or a
            `aleator.gradients.TraceStats`: ``"micro_batch"``, from the means of micro-batches alone, or ``"official"``,
            as the authors' program has it.
        every: steps from one test to the next.
        sample_cap: examples of a batch that are looked at, at most; the caller draws them. At least 2.
        growth_cap: a test multiplies the batch that it was made on by this at most; ``math.inf`` is the paper.
        patience: (p, q): the batch grows when a test fails and p of the last q failed.
        smooth: decay, in [0, 1), of running means of noise and of gradient, apart, whose quotient is then tested. None
            tests every batch by itself.
        world_size: W, the processes that share a batch.
        max_micro: the most examples of a piece on one process; None is any number, ``"auto"`` asks ``attempt``.
        min_micro: the fewest, at least 2: of one example there is no variance.
        multiple_of: what a piece is a multiple of.
        floor: of the test ``"coordinate"``.
        quantile: of the test ``"coordinate"``.
        attempt: with ``max_micro="auto"``; see `largest_micro`.

    Raises:
        ValueError: if a value is out of range, or the estimator cannot give what the test needs.

    Example:
        >>> controller = BatchSizeController(initial=8, maximum=512)
        >>> controller.observe(TraceStats(trace=100.0, mean_sq_norm=1.0, n=8))
        Traceback (most recent call last):
        ...
        ValueError: stats must be GradStats with the estimator 'per_sample', got TraceStats
    """

    def __init__(
        self,
        initial: int,
        maximum: int,
        test: BatchTest = "norm",
        eta: float = 0.5,
        theta: float = 0.5,
        nu: float = 1.0,
        *,
        estimator: Estimator = "per_sample",
        every: int = 1,
        sample_cap: int = 128,
        growth_cap: float = 4.0,
        patience: tuple[int, int] = (1, 1),
        smooth: float | None = None,
        world_size: int = 1,
        max_micro: int | Literal["auto"] | None = None,
        min_micro: int = 2,
        multiple_of: int = 1,
        floor: float = 0.0,
        quantile: float = 1.0,
        attempt: Callable[[int], object] | None = None,
    ) -> None:
        check_test(test, eta, theta, nu, floor, quantile)
        if estimator not in get_args(Estimator):
            raise ValueError(f"estimator must be one of {', '.join(map(repr, get_args(Estimator)))}, got {estimator!r}")
        if estimator != "per_sample" and test != "norm":
            raise ValueError(f"test must be 'norm' with the estimator {estimator!r}, got {test!r}")
        for name, value, least in (
            ("initial", initial, 2 * world_size),
            ("maximum", maximum, initial),
            ("every", every, 1),
            ("sample_cap", sample_cap, 2),
            ("world_size", world_size, 1),
            ("min_micro", min_micro, 2),
            ("multiple_of", multiple_of, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not growth_cap > 1:
            raise ValueError(f"growth_cap must be above 1, got {growth_cap}")
        if not 1 <= patience[0] <= patience[1]:
            raise ValueError(f"patience must be a pair 1 <= p <= q, got {patience}")
        if smooth is not None and not 0 <= smooth < 1:
            raise ValueError(f"smooth must be in [0, 1), got {smooth}")
        if smooth is not None and test == "coordinate":
            raise ValueError(f"smooth cannot be used with the test 'coordinate', got {smooth}")
        if (max_micro == "auto") != (attempt is not None):
            raise ValueError(f"attempt must be given with max_micro='auto' and only there, got max_micro={max_micro!r}")
        if max_micro == "auto":
            assert attempt is not None
            least = 2 * _up(min_micro, multiple_of)
            max_micro = largest_micro(attempt, least, max(-(-maximum // world_size), least))
        self.maximum = maximum
        self.test: BatchTest = test
        self.eta, self.theta, self.nu, self.floor, self.quantile = eta, theta, nu, floor, quantile
        self.estimator: Estimator = estimator
        self.every, self.sample_cap, self.growth_cap = every, sample_cap, growth_cap
        self.patience, self.smooth = patience, smooth
        self.world_size, self.max_micro, self.min_micro, self.multiple_of = (
            world_size,
            max_micro,
            min_micro,
            multiple_of,
        )
        self.required: float | None = None
        """What the last test asked for, before any limit; None before the first."""
        self._failed: deque[bool] = deque(maxlen=patience[1])
        self._means: list[tuple[float, float]] | None = None
        self._plan = self._split(initial, 1)

    def due(self, step: int) -> bool:
        """Whether the batch of a step, counted from 0, is to be tested."""
        return step % self.every == 0 and self._split(self.maximum, 1).global_size > self._plan.global_size

    def observe(self, stats: GradStats | TraceStats) -> None:
        """Test a batch that a step was taken on; the batches drawn from now on may be larger.

        A test whose numbers are not finite is no test: the size stays. Where ḡ is zero and the noise is not, the batch
        grows as far as the cap lets it.

        Args:
            stats: of its raw gradients, before clipping.

        Raises:
            ValueError: if these are not what the estimator or the test needs.
        """
        wanted = GradStats if self.estimator == "per_sample" else TraceStats
        if not isinstance(stats, wanted):
            got = type(stats).__name__
            raise ValueError(f"stats must be {wanted.__name__} with the estimator {self.estimator!r}, got {got}")
        pairs = terms(stats, self.test, self.eta, self.theta, self.nu, self.floor, self.quantile)
        # A coordinate with noise and no gradient asks for an infinite batch; numbers that overflowed ask for nothing.
        overflow = self.test != "coordinate" and any(math.isinf(above) for above, _ in pairs)
        if overflow or not math.isfinite(math.fsum([below for _, below in pairs]) + stats.mean_sq_norm):
            return
        if any(math.isnan(above) for above, _ in pairs):
            return
        if self.smooth is not None:
            old = self._means or pairs
            keep = self.smooth
            pairs = [
                (keep * a + (1 - keep) * c, keep * b + (1 - keep) * d)
                for (a, b), (c, d) in zip(old, pairs, strict=True)
            ]
            self._means = pairs
        self.required = max(quotient(above, below) for above, below in pairs)
        failed = self.required > self._plan.global_size
        self._failed.append(failed)
        if failed and sum(self._failed) >= self.patience[0]:
            # Of the batch that was tested: those drawn ahead before it grew shall not multiply it again.
            most = min(self.growth_cap * stats.n, self.maximum)
            self._grow(math.floor(most) if self.required > most else math.ceil(self.required))

    def propose(self) -> BatchPlan:
        """Return the plan for batches drawn from now on."""
        return self._plan

    def pieces(self, examples: int) -> int:
        """Return into how many pieces a batch of so many examples is cut on each process.

        It may be another than the plan's: one that was drawn ahead, or the last, which is shorter.
        """
        return -(-examples // (self.world_size * self._plan.micro))

    def set_size(self, size: int) -> None:
        """Take a size that another process has found; a smaller one than the present changes nothing."""
        self._grow(min(size, self.maximum))

    def _grow(self, wanted: int) -> None:
        """Take a plan for at least so many examples, unless that in use is larger."""
        plan = self._split(wanted, self._plan.accumulation)
        if plan.global_size > self._plan.global_size:
            self._plan = plan
            self._failed.clear()

    def _split(self, size: int, accumulation: int) -> BatchPlan:
        return split_batch(
            size,
            self.maximum,
            world_size=self.world_size,
            accumulation=accumulation,
            min_micro=self.min_micro,
            max_micro=None if self.max_micro is None else int(self.max_micro),
            multiple_of=self.multiple_of,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the size, its cut and what is remembered of tests: numbers and lists of them."""
        return {
            "size": self._plan.global_size,
            "accumulation": self._plan.accumulation,
            "required": self.required,
            "failed": list(self._failed),
            "means": None if self._means is None else [list(pair) for pair in self._means],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called; with another number of processes the size is cut anew."""
        self._plan = self._split(state["size"], state["accumulation"])
        self.required = state["required"]
        self._failed = deque(state["failed"], maxlen=self.patience[1])
        self._means = None if state["means"] is None else [(a, b) for a, b in state["means"]]


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _down(number: int, unit: int) -> int:
    return number // unit * unit
