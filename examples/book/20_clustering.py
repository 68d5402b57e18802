"""Chapter 20: clustering
======================

Do groups that were found without labels say which digit it is? Each cluster gets the label of most of its training
digits; a new digit, that of the cluster with the nearest centre.
"""

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import AgglomerativeClustering, KMeans

from aleator.data import load
from aleator.stats import accuracy_bound, difference_bound

digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1).double().numpy() for part in (digits.train, digits.test))
y, y_test = digits.train.targets.numpy(), digits.test.targets.numpy()
methods = {"k-means": KMeans(20, n_init=3, random_state=0), "Ward": AgglomerativeClustering(20)}
right = {}
for name, method in methods.items():
    clusters = method.fit_predict(x)
    centers = np.stack([x[clusters == k].mean(0) for k in range(20)])
    label = np.array([np.bincount(y[clusters == k]).argmax() for k in range(20)])
    right[name] = torch.tensor(label[cdist(x_test, centers).argmin(1)] == y_test).int()

# %%
# What may be concluded: each bound pays for two methods.

for name, answers in right.items():
    bound = accuracy_bound(int(answers.sum()), len(answers), candidates=2).bound
    print(f"{name}: right on {int(answers.sum())} of {len(answers)}, at least {bound:.1%} of new digits, 95 %")
    assert isinstance(bound, float)
    assert bound > 0.7
print("Ward over k-means, on new digits, 95 %:", difference_bound(right["Ward"], right["k-means"]).bound)
