"""A table of gradient estimators for a module: the bias and variance of each on the module's own loss.

A module has one layer of stochastic units; for some examples, the loss is looked at as a function of the gates and
audited under every estimator, see `GradientAudit`. With up to 16 units, whatever has finitely many cases is exact. The
rest is sampled, and with more units biases are those against the mean of DisARM, which has none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aleator.gradients.modes import modes_kept
from aleator.nn.gate_estimator import GateEstimator, StochasticUnits
from aleator.nn.gradient_audit import Audit, GradientAudit, LossEstimator
from aleator.nn.noisy_relu import NoisyReLU
from aleator.nn.score_function import Losses, arm, disarm, reinforce, rloo
from aleator.nn.stochastic_binary import STS, BernoulliST, ReinMaxBernoulli, RelaxedBernoulliST

ESTIMATORS: dict[str, GateEstimator | LossEstimator] = {
    "straight-through, sigmoid": BernoulliST(),
    "straight-through, identity": BernoulliST("identity"),
    "relaxed straight-through, 0.5": RelaxedBernoulliST(),
    "ReinMax": ReinMaxBernoulli(),
    "STS": STS(),
    "STS, rescaled": STS(rescale=True),
    "noisy rectifier": NoisyReLU(),
    "REINFORCE": reinforce,
    "REINFORCE, best baseline": reinforce,  # with a baseline found for every example
    "RLOO, 2 samples": rloo,
    "ARM": arm,
    "DisARM": disarm,
}


@dataclass(frozen=True)
class Row:
    """An estimator over all units and examples.

    Attributes:
        name: of the estimator.
        bias: root mean square of mean minus truth; None where there is no truth to compare with.
        error: root mean square of what sampling makes of the bias: of this size, a bias may be none. 0 where exact.
        deviation: root of the mean variance of an estimate.
        cosine: of the angle between mean and truth.
    """

    name: str
    bias: float | None
    error: float
    deviation: float
    cosine: float | None


@dataclass(frozen=True)
class EstimatorReport:
    """The rows, and what they are about.

    Attributes:
        rows: one for each estimator.
        examples: how many were looked at.
        units: stochastic units of one example.
        gradient: root mean square of the true gradient of bits; the scale of bias and deviation.
    """

    rows: tuple[Row, ...]
    examples: int
    units: int
    gradient: float

    def __str__(self) -> str:
        """Return the table as text."""
        head = f"{self.units} units, {self.examples} examples; root mean square of the gradient {self.gradient:.3g}"
        lines = [head, f"{'estimator':<30} {'bias':>9} {'± error':>9} {'deviation':>10} {'cosine':>7}"]
        for row in self.rows:
            bias = "–" if row.bias is None else f"{row.bias:.3g}"
            error = "exact" if row.error == 0 else f"{row.error:.2g}"
            cosine = "–" if row.cosine is None else f"{row.cosine:.3f}"
            lines.append(f"{row.name:<30} {bias:>9} {error:>9} {row.deviation:>10.3g} {cosine:>7}")
        return "\n".join(lines)


def estimator_report(
    module: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    generator: torch.Generator,
    samples: int = 2**14,
) -> EstimatorReport:
    """Return bias and variance of every estimator at the logits of a module's stochastic units.

    The module is run in evaluation mode, each example apart. An estimator whose gates are not bits (STS, the noisy
    rectifier) has a truth of its own; the noisy rectifier's is not known, and its gradient has no bias.

    Args:
        module: has one layer of `StochasticUnits` or one `ConditionalLinear`.
        loss: takes outputs and targets and returns one loss per example.
        inputs: of a few examples.
        targets: of these.
        generator: of the noise, on the device of the module.
        samples: how many, where not everything can be gone through.

    Raises:
        ValueError: if the module has no layer of stochastic units or several, or there is no example.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), StochasticUnits(BernoulliST()), nn.Linear(3, 1))
        >>> square = lambda outputs, targets: (outputs[:, 0] - targets).square()
        >>> report = estimator_report(model, square, torch.randn(2, 4), torch.ones(2), generator=torch.Generator())
        >>> report.rows[-1].name, report.rows[-1].bias < 1e-6
        ('DisARM', True)
    """
    found = [layer for layer in module.modules() if isinstance(layer, StochasticUnits)]
    if len(found) != 1:
        raise ValueError(f"module must have one layer of stochastic units, got {len(found)}")
    if not len(inputs):
        raise ValueError("inputs must have at least one example, got none")
    audits: dict[str, list[Audit]] = {name: [] for name in ESTIMATORS}
    with _as_a_function_of_gates(module, found[0]) as (run, logits_of):
        for x, target in zip(torch.split(inputs, 1), torch.split(targets, 1), strict=True):
            logits = logits_of(x)
            f = functools.partial(_losses, run, loss, x, target, logits.shape[1:])
            flat = logits.flatten()
            for name, estimator in ESTIMATORS.items():
                if name == "REINFORCE, best baseline":
                    best = _best_baseline(f, flat, samples, generator)
                    estimator = functools.partial(reinforce, baseline=best)
                audits[name].append(_audited(GradientAudit(estimator, f, flat), samples, generator))
    reference = torch.stack([a.mean if a.truth is None else a.truth for a in audits["DisARM"]])
    noise = torch.stack([a.standard_error if a.truth is None else torch.zeros_like(a.mean) for a in audits["DisARM"]])
    rows = tuple(_row(name, of_examples, reference, noise) for name, of_examples in audits.items())
    return EstimatorReport(rows, len(inputs), reference.shape[1], _rms(reference))


@contextmanager
def _as_a_function_of_gates(
    module: nn.Module, units: StochasticUnits
) -> Iterator[tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Give a function from inputs and gates to outputs, and one from inputs to logits; leave the module as it was."""
    given: list[Tensor | None] = [None]
    seen: list[Tensor] = []

    def exchange(_: nn.Module, arguments: tuple[Tensor, ...], gates: Tensor) -> Tensor:
        seen[:] = [arguments[0].detach()]
        return gates if given[0] is None else given[0]

    def run(x: Tensor, gates: Tensor | None) -> Tensor:
        given[0] = gates
        output: Tensor = module(x)
        return output

    def logits_of(x: Tensor) -> Tensor:
        with torch.no_grad():
            run(x, None)
        return seen[0]

    estimator = units.estimator
    hook = units.register_forward_hook(exchange)
    with modes_kept(module):
        try:
            module.eval()
            units.estimator = BernoulliST()  # the layer must not leave out the gradient of gates that are shut
            yield run, logits_of
        finally:
            hook.remove()
            units.estimator = estimator


def _losses(
    run: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    shape: torch.Size,
    gates: Tensor,
) -> Tensor:
    rows = len(gates)
    outputs = run(x.expand(rows, *x.shape[1:]), gates.view(rows, *shape))
    return loss(outputs, target.expand(rows, *target.shape[1:]))


def _audited(audit: GradientAudit, samples: int, generator: torch.Generator) -> Audit:
    try:
        return audit.exact()
    except ValueError:
        return audit.monte_carlo(samples, generator)


def _best_baseline(f: Losses, logits: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    p = logits.sigmoid()
    with torch.no_grad():
        noise = torch.rand(samples, len(p), generator=generator, dtype=p.dtype, device=p.device)
        bits = (noise < p).to(p.dtype)
        square = (bits - p).square()
        return (square * f(bits)[:, None]).sum(0) / square.sum(0).clamp(min=torch.finfo(p.dtype).tiny)


def _row(name: str, audits: list[Audit], reference: Tensor, noise: Tensor) -> Row:
    mean = torch.stack([audit.mean for audit in audits])
    deviation = math.sqrt(torch.stack([audit.variance for audit in audits]).mean())
    error = torch.stack([audit.standard_error for audit in audits])
    estimator = ESTIMATORS[name]
    truths = [audit.truth for audit in audits if audit.truth is not None]
    if truths:
        truth = torch.stack(truths)
    elif isinstance(estimator, GateEstimator) and not estimator.binary:
        return Row(name, None, _rms(error), deviation, None)
    else:
        truth, error = reference, (error.square() + noise.square()).sqrt()
    cosine = float(torch.nn.functional.cosine_similarity(mean.flatten(), truth.flatten(), dim=0))
    return Row(name, _rms(mean - truth), _rms(error), deviation, cosine)


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
