"""Chapter 9: nearest neighbors
============================

With few examples, does a metric that was learned from the labels find better neighbours than the distance of pixels?
Discriminant analysis is such a metric: it shrinks the directions in which digits of one class differ.
"""

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from aleator.data import load
from aleator.stats import accuracy_bound, difference_bound, mcnemar

digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1).numpy() for part in (digits.train, digits.test))
y, y_test = digits.train.targets.numpy(), digits.test.targets.numpy()
discriminant = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
metrics = {"pixels": KNeighborsClassifier(3), "learned": make_pipeline(discriminant, KNeighborsClassifier(3))}
right = {name: torch.tensor(m.fit(x[:200], y[:200]).predict(x_test) == y_test).int() for name, m in metrics.items()}

# %%
# What may be concluded: each bound pays for two models; McNemar's test looks at the digits on which they disagree.

for name, answers in right.items():
    bound = accuracy_bound(int(answers.sum()), len(answers), candidates=2).bound
    print(f"{name}: right on {int(answers.sum())} of {len(answers)}, at least {bound:.1%} of new digits, 95 %")
    assert isinstance(bound, float)
    assert bound > 0.85
only = [int((right[a] > right[b]).sum()) for a, b in (("learned", "pixels"), ("pixels", "learned"))]
print(f"only the learned metric {only[0]}, only pixels {only[1]}: p = {mcnemar(*only):.2g}")
print("learned over pixels, on new digits, 95 %:", difference_bound(right["learned"], right["pixels"]).bound)
assert mcnemar(*only) > 0.05  # the answer is no: nothing shows that the learned metric is better, or worse
