"""Chapter 5: prediction, basic concepts
=====================================

Which of three predictors reads digits, and how well for certain? One models the classes with independent pixels, one
with a common covariance, one minimises the empirical risk. The choice is made by cross-validation on the training part,
so that the test part can speak of one predictor only.
"""

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB

from aleator.data import load
from aleator.stats import accuracy_bound, difference_bound, mcnemar

digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1).numpy() for part in (digits.train, digits.test))
y, y_test = digits.train.targets.numpy(), digits.test.targets.numpy()

predictors = {
    "independent pixels": GaussianNB(var_smoothing=0.01),
    "common covariance": LinearDiscriminantAnalysis(),
    "empirical risk": LogisticRegression(C=0.01, max_iter=300),
}
scores = {name: cross_val_score(predictor, x, y, cv=5).mean() for name, predictor in predictors.items()}
for name, score in scores.items():
    print(f"{name}: right on {score:.1%} in cross-validation")
best, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)

# %%
# What may be concluded: nothing was chosen on the test digits, so the bound is for one candidate.

right = {name: torch.tensor(predictors[name].fit(x, y).predict(x_test) == y_test).int() for name in (best, worst)}
count, n = int(right[best].sum()), len(y_test)
certificate = accuracy_bound(count, n)
print(f"{best}: right on {count} of {n}; at 95 % on at least {certificate.bound:.1%} of new digits")
only = [int((right[a] > right[b]).sum()) for a, b in ((best, worst), (worst, best))]
print(f"against {worst}: {only[0]} digits to {only[1]}, McNemar's p {mcnemar(*only):.2g}")
print("their difference on new digits, 95 %, with no assumption:", difference_bound(right[best], right[worst]).bound)
assert isinstance(certificate.bound, float)
assert certificate.bound > 0.9
assert mcnemar(*only) < 0.05

# %%
# Had the test digits chosen among the three, the same count would say less, and the bound must be told so.

chosen = accuracy_bound(count, n, candidates=3, used_for_choosing=True).bound
assert isinstance(chosen, float)
assert chosen < certificate.bound
