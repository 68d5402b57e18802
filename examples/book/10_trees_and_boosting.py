"""Chapter 10: tree-based algorithms, randomization and boosting
=============================================================

How often will a boosted model be right about new tumours, and do 285 of them tell it from a single tree?
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from aleator.stats import accuracy_bound, mcnemar

data = load_breast_cancer()
x, x_test, y, y_test = train_test_split(data.data, data.target, test_size=0.5, random_state=0)
models = {
    "a tree": DecisionTreeClassifier(random_state=0),
    "a forest": RandomForestClassifier(100, random_state=0),
    "boosted stumps": GradientBoostingClassifier(max_depth=1, n_estimators=200, random_state=0),
}
right = {name: torch.tensor(model.fit(x, y).predict(x_test) == y_test).int() for name, model in models.items()}

# %%
# What may be concluded: three models were looked at, so each bound pays for three.

for name, answers in right.items():
    bound = accuracy_bound(int(answers.sum()), len(answers), candidates=3).bound
    print(f"{name}: right on {int(answers.sum())} of {len(answers)}, at least {bound:.1%} of new tumours, 95 %")
    assert isinstance(bound, float)
    assert bound > 0.85
only = [int((right[a] > right[b]).sum()) for a, b in (("boosted stumps", "a tree"), ("a tree", "boosted stumps"))]
print(f"only boosting is right about {only[0]}, only the tree about {only[1]}: p = {mcnemar(*only):.2g}")
assert mcnemar(*only) > 0.05  # 285 tumours do not tell them apart
