"""Chapter 12: optimal transport
=============================

A scanner has become dim, and shows all pixels at a third. Can labels of bright digits still be used? Dimming is the
gradient of a convex function of the picture, so the optimal transport between the two samples is an estimate of it
(Brenier); it carries the labels over and needs none of the dim digits.
"""

import ot
import torch
from sklearn.neighbors import KNeighborsClassifier

from aleator.data import load
from aleator.stats import accuracy_bound, mcnemar

digits = load("digits")
bright, y = digits.train.inputs[:400].flatten(1).double().numpy() / 16, digits.train.targets[:400].numpy()
dim = digits.test.inputs.flatten(1).double().numpy() / 16 / 3
plan = ot.emd(ot.unif(len(bright)), ot.unif(len(dim)), ot.dist(bright, dim))
carried = plan @ dim / plan.sum(1, keepdims=True)
right = {
    name: torch.tensor(KNeighborsClassifier(3).fit(pictures, y).predict(dim) == digits.test.targets.numpy()).int()
    for name, pictures in (("as they were", bright), ("transported", carried))
}

# %%
# What may be concluded, for these dim digits: they were in the transport, so new ones would need another.

before, after = (int(answers.sum()) for answers in right.values())
only = [int((right[a] > right[b]).sum()) for a, b in (("transported", "as they were"), ("as they were", "transported"))]
print(f"neighbours as they were: {before} right; transported: {after} right of {len(dim)}")
print(f"only transported {only[0]}, only as they were {only[1]}: p = {mcnemar(*only):.2g}")
print("share of such digits at 95 %, at least:", accuracy_bound(after, len(dim), candidates=2).bound)
assert mcnemar(*only) < 0.05
assert after > before
