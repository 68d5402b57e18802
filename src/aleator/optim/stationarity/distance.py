"""The distance test: whether the distance from the start still grows as a random walk's does.

    Ω_t = ‖x_t − x_0‖²;    slope = log(Ω_{q^{k+1}}/Ω_{q^k}) / log q,    below 0.6 → stationary

While SGD travels, Ω grows as t² at first and at least about linearly in t, as a random walk's does; around a solution
it stays, and the slope falls to zero. Comparing only at the steps q^k makes the test cost one norm at a time, ever more
rarely. x_0 and t begin anew at a drop.

S. Pesme, A. Dieuleveut and N. Flammarion, "On Convergence-Diagnostic based Step Sizes for Stochastic Gradient Descent",
ICML 2020, arXiv 2007.00534, section 4, with q = 1.5 and a threshold of 0.6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.stationarity.schedule import StationaritySchedule, check_whole, names_of


class DistanceTest(StationaritySchedule):
    """Lower the learning rate when the squared distance from where it last fell grows more slowly than t^0.6.

    Keeps a copy of the weights. The device is waited for at the steps ⌈q^k⌉ alone.

    Args:
        optimizer: any.
        q: how many times as many steps lie between two looks, above 1.
        first: the least k; the first slope is between q^k and q^(k+1).
        threshold: of the slope.
        factor: what the learning rates are multiplied by.

    Raises:
        ValueError: if a number is out of range.
        RuntimeError: in a step with a closure, or if parameters are sharded.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule = DistanceTest(optimizer)
    """

    _numbers = (*StationaritySchedule._numbers, "since", "looks", "before", "start")

    def __init__(
        self, optimizer: Optimizer, q: float = 1.5, first: int = 5, *, threshold: float = 0.6, factor: float = 0.1
    ) -> None:
        check_whole("DistanceTest", [parameter for _, parameter in names_of(optimizer)])
        if not 1 < q < math.inf:
            raise ValueError(f"q must be above 1, got {q}")
        if first < 0 or math.ceil(q**first) == math.ceil(q ** (first + 1)):
            raise ValueError(f"first must be so large that q**first and q**(first + 1) are two steps, got {first}")
        if not 0 < threshold < 2:
            raise ValueError(f"threshold must be in (0, 2), got {threshold}")
        self.q = q
        self.first = first
        self.threshold = threshold
        self.since = 0
        self.looks = 0
        # t and Ω at the last look.
        self.before: list[float] = []
        self.start: dict[str, Tensor] = {}
        super().__init__(optimizer, factor)

    def before_step(self) -> None:
        """Keep x_0 before the first step."""
        if not self.start:
            self.start = {name: parameter.detach().clone() for name, parameter in names_of(self.optimizer)}

    def after_step(self) -> None:
        """Take Ω when it is time, and test."""
        self.since += 1
        if self.since < math.ceil(self.q ** (self.first + self.looks)):
            return
        self.looks += 1
        distance = self._distance()
        if self.before and self.before[1] > 0 and distance > 0:
            slope = math.log(distance / self.before[1]) / math.log(self.since / self.before[0])
            if slope < self.threshold:
                self.drop()
                return
        self.before = [float(self.since), distance]

    def forget(self) -> None:
        """Begin anew from here."""
        self.since, self.looks, self.before, self.start = 0, 0, [], {}

    def _distance(self) -> float:
        squares = [
            torch.linalg.vector_norm(p.detach() - self.start[name].to(p), dtype=torch.float64).square()
            for name, p in names_of(self.optimizer)
            if name in self.start  # one that joined later has no start yet
        ]
        return float(torch.stack([square.to(squares[0].device) for square in squares]).sum())
