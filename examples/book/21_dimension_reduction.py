"""Chapter 21: dimension reduction and factor analysis
===================================================

What do parts that only add up cost? With as many components, principal components give back any picture best on
average; non-negative factors are parts of strokes. How much more do they lose on digits not seen?
"""

import torch
from sklearn.decomposition import NMF, PCA

from aleator.data import load
from aleator.stats import mean_interval

digits = load("digits")
x, x_test = (part.inputs.flatten(1).double().numpy() / 16 for part in (digits.train, digits.test))
pca, nmf = PCA(12).fit(x), NMF(12, init="nndsvda", max_iter=3000, tol=1e-3, random_state=0).fit(x)
lost = {
    name: torch.tensor((model.inverse_transform(model.transform(x_test)) - x_test) ** 2).sum(1)
    for name, model in (("principal components", pca), ("non-negative factors", nmf))
}
around = torch.tensor((x_test - x.mean(0)) ** 2).sum(1)
for name, values in lost.items():
    print(f"{name}: {float(values.mean() / around.mean()):.1%} of the variance of new digits is lost")

# %%
# What may be concluded: the mean difference on new digits, paired, in units of what the mean picture loses.

difference = (lost["non-negative factors"] - lost["principal components"]) / around.mean()
interval = mean_interval(difference.tolist())
assert interval is not None
print(f"non-negative factors lose {interval[0]:.1%} to {interval[1]:.1%} of the variance more, 95 %")
assert interval[0] > 0
