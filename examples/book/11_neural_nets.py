"""Chapter 11: neural nets
=======================

A residual network whose layers share their weights is Euler's method for a differential equation. After training with
four steps of length 1/4, does it still read the same digits with sixteen steps of length 1/16?
"""

import torch
from torch import nn

from aleator.data import load
from aleator.stats import accuracy_bound

torch.manual_seed(0)
digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1) for part in (digits.train, digits.test))
field, head = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64)), nn.Linear(64, 10)


def answer(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the logits at the end of the flow."""
    for _ in range(steps):
        x = x + field(x) / steps
    return head(x)  # type: ignore[no-any-return]


optimizer = torch.optim.Adam([*field.parameters(), *head.parameters()], lr=2e-3)
for _ in range(150):
    optimizer.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(answer(x, 4), digits.train.targets))
    optimizer.step()

# %%
# What may be concluded: on what share of new digits the network and the finer flow agree, and are right.

coarse, fine = (answer(x_test, steps).argmax(1) for steps in (4, 16))
for name, hit in (("agree", fine == coarse), ("the finer flow is right", fine == digits.test.targets)):
    bound = accuracy_bound(int(hit.sum()), len(hit)).bound
    print(f"{name}: {int(hit.sum())} of {len(hit)}, at least {bound:.1%} of new digits, 95 %")
    assert isinstance(bound, float)
    assert bound > 0.9
