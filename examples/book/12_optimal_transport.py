"""Chapter 12: optimal transport
=============================

A scanner darkens the pictures and shifts them to the right. Can labels of clean digits still be used? Optimal transport
finds where each clean digit went without a label of the shifted ones, and carries the labels there.
"""

import ot
import torch
from sklearn.neighbors import KNeighborsClassifier

from aleator.data import load
from aleator.stats import accuracy_bound, mcnemar

digits = load("digits")
clean, y = digits.train.inputs[:400].flatten(1).double().numpy() / 16, digits.train.targets[:400].numpy()
shifted = (0.6 * digits.test.inputs.roll(1, dims=-1).flatten(1).double()).numpy() / 16
plan = ot.emd(ot.unif(len(clean)), ot.unif(len(shifted)), ot.dist(clean, shifted))
carried = plan @ shifted / plan.sum(1, keepdims=True)
right = {
    name: torch.tensor(KNeighborsClassifier(3).fit(pictures, y).predict(shifted) == digits.test.targets.numpy()).int()
    for name, pictures in (("as they were", clean), ("transported", carried))
}

# %%
# What may be concluded, for these shifted digits: they were in the transport, so new ones would need another.

before, after = (int(answers.sum()) for answers in right.values())
only = [int((right[a] > right[b]).sum()) for a, b in (("transported", "as they were"), ("as they were", "transported"))]
print(f"neighbours as they were: {before} right; transported: {after} right of {len(shifted)}")
print(f"only transported {only[0]}, only as they were {only[1]}: p = {mcnemar(*only):.2g}")
print("share of such digits at 95 %, at least:", accuracy_bound(after, len(shifted), candidates=2).bound)
assert mcnemar(*only) < 0.05
assert after > before
