"""Chapter 2: matrix analysis
==========================

How much noise can be taken off pictures without knowing anything about them? Pictures of digits are nearly of low
rank, noise is not. Two proximal operators act on the singular values of all pictures at once: `LowRank` keeps the
largest ones (Eckart–Young), `Nuclear` lowers every one by λ. λ is the largest singular value of noise alone, about
σ(√n + √p).
"""

import math

import torch

from aleator.data import load
from aleator.optim.proximal import LowRank, Nuclear
from aleator.stats import paired_difference

digits = load("digits")
clean = digits.test.inputs.flatten(1).double() / digits.max_value
n, p = clean.shape
sigma = 0.25
edge = sigma * (math.sqrt(n) + math.sqrt(p))
generator = torch.Generator().manual_seed(0)

errors: dict[str, list[float]] = {"noisy": [], "low rank": [], "nuclear": []}
for _ in range(10):
    noisy = clean + sigma * torch.randn(n, p, generator=generator, dtype=torch.float64)
    values = torch.linalg.svdvals(noisy)
    rank = int((values > edge).sum())
    low_rank = LowRank(rank)(noisy, 1.0)
    # Eckart–Young: what is lost is what the discarded singular values hold, and nothing of that rank loses less.
    assert math.isclose(float((noisy - low_rank).square().sum()), float(values[rank:].square().sum()), rel_tol=1e-9)
    tried = {"noisy": noisy, "low rank": low_rank, "nuclear": Nuclear(edge)(noisy, 1.0)}
    for name, picture in tried.items():
        errors[name].append(float((picture - clean).square().mean().sqrt()))
for name, found in errors.items():
    print(f"{name}: {sum(found) / len(found):.3f} of a pixel's range from the clean pictures")

# %%
# What may be concluded: for these pictures, by how much the error falls on average over draws of the noise, 95 %.

for name in ("low rank", "nuclear"):
    gain = paired_difference(errors["noisy"], errors[name]).interval
    assert gain is not None
    print(f"{name} takes off {gain[0]:.4f} to {gain[1]:.4f}")
    assert gain[0] > 0.05
