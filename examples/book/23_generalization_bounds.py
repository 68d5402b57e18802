"""Chapter 23: generalization bounds
=================================

What does a test set of 360 digits say about digits to come? It depends on what it was used for: to look at one model,
to look again and again while pictures come in, or to choose among twenty checkpoints.
"""

import torch

from aleator.data import load
from aleator.stats import AnytimeAccuracy, accuracy_bound

digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1) for part in (digits.train, digits.test))
y, y_test = digits.train.targets, digits.test.targets
weight = torch.zeros(64, 10, requires_grad=True)
checkpoints = []
for step in range(200):
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(x @ weight, y), weight)
    weight = (weight - 0.1 * gradient).detach().requires_grad_()
    if step % 10 == 9:
        checkpoints.append(weight.detach())

right = [(x_test @ checkpoint).argmax(1) == y_test for checkpoint in checkpoints]
counts = [int(r.sum()) for r in right]
n = len(y_test)

# %%
# What may be concluded, at 95 %: the last checkpoint was fixed beforehand, the best one was not and pays for twenty.

fixed = accuracy_bound(counts[-1], n).bound
best = accuracy_bound(max(counts), n, candidates=len(counts), used_for_choosing=True).bound
stream = AnytimeAccuracy()
for answer in right[-1].tolist():
    stream.update(int(answer), 1)
print(f"fixed beforehand: right on {counts[-1]} of {n}, at least {fixed:.3f} of new digits")
print(f"looked at all the time: at least {stream.interval[0]:.3f}")
print(f"best of {len(counts)}: right on {max(counts)} of {n}, at least {best:.3f} of new digits")
assert isinstance(fixed, float)
assert isinstance(best, float)
assert stream.interval[0] < fixed < counts[-1] / n
assert best < accuracy_bound(max(counts), n).bound  # type: ignore[operator]
try:
    accuracy_bound(max(counts), n, used_for_choosing=True)
except ValueError as refused:
    print("refused:", refused)
else:
    raise AssertionError("a test set that was used for choosing must be refused")
