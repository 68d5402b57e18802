"""Chapter 8: linear classification
================================

Is a digit odd? A support vector machine on random features of a Gaussian kernel, trained by `Pegasos`, which has no
learning rate to tune: does a single pass through the training digits do, and forty?
"""

import torch
from sklearn.svm import LinearSVC

from aleator.data import load
from aleator.nn import RandomFourierFeatures
from aleator.optim import Pegasos
from aleator.stats import accuracy_bound, difference_bound

generator = torch.Generator().manual_seed(0)
digits = load("digits")
features = RandomFourierFeatures(64, 400, lengthscale=8.0, orthogonal=True, generator=generator)
x, x_test = (features(digits.normalise(part.inputs).flatten(1)) for part in (digits.train, digits.test))
y, y_test = (2 * (part.targets % 2) - 1 for part in (digits.train, digits.test))
lam = 1e-3
weight = torch.zeros(400, requires_grad=True)
optimizer = Pegasos([weight], lam=lam)


def hinge(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean hinge loss."""
    return (1 - y * (x @ weight)).clamp(min=0).mean()


right, objective = {}, {}
for epoch in range(1, 41):
    for rows in torch.randperm(len(x), generator=generator).chunk(45):
        optimizer.zero_grad()
        torch.autograd.backward(hinge(x[rows], y[rows]))
        optimizer.step()
    if epoch in (1, 40):
        objective[epoch] = (hinge(x, y) + lam / 2 * weight.square().sum()).item()
        right[epoch] = (y_test * (x_test @ weight) > 0).int()
        print(f"{epoch} passes: objective {objective[epoch]:.4f}, right on {int(right[epoch].sum())} of {len(y_test)}")

solver = LinearSVC(loss="hinge", C=1 / (lam * len(x)), fit_intercept=False, max_iter=20_000, random_state=0)
solution = torch.tensor(solver.fit(x.numpy(), y.numpy()).coef_[0], dtype=torch.float32)
least = float((1 - y * (x @ solution)).clamp(min=0).mean() + lam / 2 * solution.square().sum())
print(f"the least objective, by scikit-learn's LIBLINEAR: {least:.4f}")
assert objective[40] < 1.02 * least

# %%
# What may be concluded: two models were looked at, so each bound pays for two; and what the other passes bring.

bounds = {
    epoch: accuracy_bound(int(answers.sum()), len(answers), candidates=2).bound for epoch, answers in right.items()
}
for epoch, bound in bounds.items():
    print(f"{epoch} passes: right on at least {bound:.1%} of new digits, 95 %")
difference = difference_bound(right[40], right[1]).bound
print("what the other passes bring on new digits, 95 %:", difference)
assert isinstance(bounds[40], float)
assert bounds[40] > 0.9
assert isinstance(difference, tuple)
assert difference[0] > 0
