"""Chapter 4: bias and variance
============================

How wide should the kernel of a density estimate be? A narrow one follows the sample (variance), a wide one hides what
is there (bias). The width is chosen by cross-validation, and judged against the extremes on tumours not seen.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KernelDensity

from aleator.stats import mean_interval

radius = load_breast_cancer().data[:, :1]
train, test = train_test_split(radius, test_size=0.5, random_state=0)
widths = np.geomspace(0.1, 10, 15)
search = GridSearchCV(KernelDensity(), {"bandwidth": widths}, cv=10).fit(train)
chosen = search.best_estimator_
print(f"chosen width: {chosen.bandwidth:.2f} mm, from {widths[0]:.1f} to {widths[-1]:.1f}")

# %%
# What may be concluded: the mean gain in log density on new tumours, over each extreme, with paired intervals.

for name, width in (("narrowest", widths[0]), ("widest", widths[-1])):
    other = KernelDensity(bandwidth=width).fit(train)
    interval = mean_interval((chosen.score_samples(test) - other.score_samples(test)).tolist())
    assert interval is not None
    print(f"over the {name}: {interval[0]:.3f} to {interval[1]:.3f} nats a tumour, 95 %")
    assert interval[0] > 0
