"""Chapter 3: optimization
=======================

When has SGD made all the progress that its step allows? With a constant step it hovers around the solution; `SASA`
tests at run time whether it does, and only then lowers the step. Nobody says beforehand after how many steps.
"""

import math

import torch

from aleator.data import load
from aleator.optim import SASA
from aleator.stats import paired_difference

digits = load("digits")
x, y = digits.train.inputs.flatten(1).float() / digits.max_value, digits.train.targets
decay = 1e-3


def objective(weight: torch.Tensor) -> torch.Tensor:
    """Return the mean loss with its ridge penalty, which is what SGD with weight decay goes down."""
    return torch.nn.functional.cross_entropy(x @ weight, y) + decay / 2 * weight.square().sum()


def minimum() -> float:
    """Return the least value of the objective."""
    weight = torch.zeros(64, 10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=300, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective(weight)
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return objective(weight).item()


def excess(seed: int, sasa: bool) -> tuple[float, list[int]]:
    """Train for 1500 steps of 8 digits; return how far above the minimum it ends, and where the step was lowered."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(64, 10, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.2, momentum=0.9, weight_decay=decay)
    schedule = SASA(optimizer, check_every=200) if sasa else None
    for rows in torch.randint(len(x), (1500, 8), generator=generator):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(x[rows] @ weight, y[rows]))
        optimizer.step()
    return objective(weight).item() - least, schedule.drops if schedule else []


least = minimum()
constant, tested = [], []
for seed in range(4):
    constant.append(excess(seed, sasa=False)[0])
    value, drops = excess(seed, sasa=True)
    tested.append(value)
    print(f"seed {seed}: {constant[-1]:.4f} above the minimum; with SASA {value:.4f}, lowered after steps {drops}")

# %%
# What may be concluded: the seeds see the same batches with and without the test, so they are pairs. How far a run is
# above the minimum differs by factors from seed to seed, so the pairs are compared by their ratio.

interval = paired_difference([math.log(value) for value in constant], [math.log(value) for value in tested]).interval
assert interval is not None
print(f"with a constant step, {math.exp(interval[0]):.1f} to {math.exp(interval[1]):.1f} times as far above, 95 %")
assert interval[0] > 0
assert max(tested) < min(constant)
