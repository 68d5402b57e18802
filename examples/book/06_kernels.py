"""Chapter 6: inner products and reproducing kernels
=================================================

Does a Gaussian kernel read digits better than a linear map, and by how much for certain? Random Fourier features turn
the kernel into a layer; both heads are trained alike, and judged on test digits that nothing was chosen on.
"""

import torch

from aleator.data import load
from aleator.nn import RandomFourierFeatures
from aleator.stats import accuracy_bound, difference_bound, mcnemar

digits = load("digits")
x, x_test = (digits.normalise(part.inputs).flatten(1) for part in (digits.train, digits.test))
y, y_test = digits.train.targets, digits.test.targets

features = RandomFourierFeatures(64, 500, lengthscale=8.0, orthogonal=True, generator=torch.Generator().manual_seed(0))
inputs = {"linear": (x, x_test), "kernel": (features(x), features(x_test))}  # they do not change: computed once

right = {}
for name, (train, test) in inputs.items():
    weight = torch.zeros(train.shape[1], 10, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.01 if name == "linear" else 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(train @ weight, y))
        optimizer.step()
    right[name] = ((test @ weight).argmax(1) == y_test).int()
    bound = accuracy_bound(int(right[name].sum()), len(y_test), candidates=2).bound
    print(f"{name}: right on {right[name].double().mean():.1%} here, on at least {bound:.1%} of new digits")

# %%
# What may be concluded: the two models are compared on the same digits, so that what is hard for both cancels.

only_kernel = int((right["kernel"] > right["linear"]).sum())
only_linear = int((right["linear"] > right["kernel"]).sum())
print(f"McNemar's p: {mcnemar(only_kernel, only_linear):.2g} ({only_kernel} against {only_linear} digits)")
print("difference on new digits, 95 %:", difference_bound(right["kernel"], right["linear"]).bound)
assert only_kernel > only_linear
assert mcnemar(only_kernel, only_linear) < 0.05
