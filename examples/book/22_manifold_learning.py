"""Chapter 22: data visualization and manifold learning
====================================================

Which map of digits in the plane keeps neighbours of one kind together? Isomap keeps distances along the data, principal
components straight ones. Both are fitted without labels; new digits are put on the map and named by their neighbours.
"""

import torch
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap
from sklearn.neighbors import KNeighborsClassifier

from aleator.data import load
from aleator.stats import accuracy_bound, difference_bound, mcnemar

digits = load("digits")
x, x_test = (part.inputs.flatten(1).double().numpy() / 16 for part in (digits.train, digits.test))
y, y_test = digits.train.targets.numpy(), digits.test.targets.numpy()
right = {}
for name, plane in (("principal components", PCA(2)), ("Isomap", Isomap(n_neighbors=10, n_components=2))):
    neighbors = KNeighborsClassifier(10).fit(plane.fit_transform(x), y)
    right[name] = torch.tensor(neighbors.predict(plane.transform(x_test)) == y_test).int()

# %%
# What may be concluded: each bound pays for two maps; their difference is paired. Two numbers say a lot about a digit;
# that Isomap's say more is not shown.

for name, answers in right.items():
    bound = accuracy_bound(int(answers.sum()), len(answers), candidates=2).bound
    print(f"{name}: right on {int(answers.sum())} of {len(answers)}, at least {bound:.1%} of new digits, 95 %")
    assert isinstance(bound, float)
    assert bound > 0.6
straight, along = right.values()
only = int((along > straight).sum()), int((straight > along).sum())
print(f"only Isomap is right about {only[0]}, only principal components about {only[1]}: p = {mcnemar(*only):.2g}")
print("Isomap over principal components, on new digits, 95 %:", difference_bound(along, straight).bound)
assert mcnemar(*only) > 0.05  # 360 digits do not tell them apart
