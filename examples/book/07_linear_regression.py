"""Chapter 7: linear regression
============================

Which measurements foretell how diabetes progresses? The lasso answers with exact zeros. A path of penalties is solved
by `FISTA`, each from the solution before; cross-validation within the training patients chooses the penalty.
"""

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from sklearn.model_selection import KFold, train_test_split

from aleator.optim import FISTA, lam_grid, lam_path, largest_lam
from aleator.optim.proximal import L1
from aleator.stats import mean_interval

data = load_diabetes(scaled=False)
x, x_test, y, y_test = (torch.tensor(part) for part in train_test_split(data.data, data.target, random_state=0))
x_test, x = (x_test - x.mean(0)) / x.std(0), (x - x.mean(0)) / x.std(0)
y_test, y = (y_test - y.mean()) / y.std(), (y - y.mean()) / y.std()
lams = lam_grid(largest_lam([x.T @ y / len(y)]), 12, ratio=0.02)


def path(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Return the lasso's weights at every λ, where half the mean square is the loss."""
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    step = 1 / float(torch.linalg.matrix_norm(x, 2) ** 2 / len(y))

    def fit(lam: float) -> None:
        optimizer = FISTA([weight], lr=step, prox=L1(lam), restart="gradient")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (x @ weight - y).square().mean() / 2
            torch.autograd.backward(loss)
            return loss

        optimizer.minimize(closure, tolerance=1e-6)

    return [point.weights["weight"] for point in lam_path([("weight", weight)], fit, lams)]


errors = np.zeros(len(lams))
for kept, held_out in KFold(5, shuffle=True, random_state=0).split(x):
    errors += [float((x[held_out] @ weight - y[held_out]).square().mean()) / 5 for weight in path(x[kept], y[kept])]
chosen = int(errors.argmin())
weight = path(x, y)[chosen]
for name, value in zip(data.feature_names, weight.tolist(), strict=True):
    print(f"{name}: {value:+.3f}" if value else f"{name}: 0 exactly")

reference = Lasso(alpha=lams[chosen], tol=1e-8, fit_intercept=False).fit(x, y).coef_
assert torch.allclose(weight, torch.tensor(reference), atol=1e-4)
assert ((weight != 0).numpy() == (reference != 0)).all()

# %%
# What may be concluded: what the prediction takes off the squared error of new patients, in units of the variance; and
# whether the measurements with weight zero would have helped.

least_squares = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
residual = (x_test @ weight - y_test).square()
gain = mean_interval((y_test.square() - residual).tolist())
against_all = mean_interval(((x_test @ least_squares - y_test).square() - residual).tolist())
assert gain is not None
assert against_all is not None
print(f"the lasso takes off {gain[0]:.2f} to {gain[1]:.2f} of the variance, 95 %")
print(f"least squares on all measurements has a larger squared error by {against_all[0]:+.3f} to {against_all[1]:+.3f}")
assert gain[0] > 0
assert against_all[0] < 0 < against_all[1]  # no difference is shown: the zeros cost nothing that can be seen
assert int((weight == 0).sum()) >= 1
