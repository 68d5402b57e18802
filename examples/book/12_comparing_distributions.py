"""Chapter 12: comparing probability distributions
===============================================

Are two sets of pictures drawn from one distribution? The maximum mean discrepancy of two samples is compared with what
it is after the samples were mixed: an exact test at any sample size.
"""

import torch

from aleator.data import load
from aleator.stats import clopper_pearson, mmd2

generator = torch.Generator().manual_seed(0)
digits = load("digits")
pixels = digits.normalise(digits.train.inputs).flatten(1)


def permutations_above(a: torch.Tensor, b: torch.Tensor, draws: int = 200) -> int:
    """Count mixtures of two samples that are at least as far apart as the samples are."""
    both = torch.cat([a, b])
    lengthscale = float(torch.pdist(both).median())
    observed = mmd2(a, b, lengthscale)
    mixed = (both[torch.randperm(len(both), generator=generator)] for _ in range(draws))
    return sum(bool(mmd2(m[: len(a)], m[len(a) :], lengthscale) >= observed) for m in mixed)


eights, threes = (pixels[digits.train.targets == digit][:60] for digit in (8, 3))
same = permutations_above(eights[:30], eights[30:])
different = permutations_above(eights, threes)

# %%
# What may be concluded: with m of 200 mixtures above, p = (m + 1)/201, and the share of all mixtures is in an interval.

print(f"eights against other eights: p = {(same + 1) / 201:.2f}, share of mixtures in {clopper_pearson(same, 200)}")
print(f"eights against threes: p = {(different + 1) / 201:.3f}, share of mixtures in {clopper_pearson(different, 200)}")
assert (different + 1) / 201 < 0.01
assert (same + 1) / 201 > 0.05
