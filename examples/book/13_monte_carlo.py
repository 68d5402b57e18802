"""Chapter 13: Monte Carlo sampling
================================

Which way does a feature of a tumour point, and how sure are we after 60 cases? Hamiltonian Monte Carlo draws the
weights of a logistic regression from their posterior; the chains say whether they may be believed.
"""

import torch
from sklearn.datasets import load_breast_cancer

from aleator.sde import HMC
from aleator.stats import clopper_pearson

data = load_breast_cancer()
names = ["mean radius", "mean texture", "mean smoothness"]
columns = [list(data.feature_names).index(name) for name in names]
x = torch.tensor(data.data[:60, columns])
x = torch.cat([(x - x.mean(0)) / x.std(0), torch.ones(60, 1)], 1)
malignant = 1 - torch.tensor(data.target[:60]).double()


def log_density(w: torch.Tensor) -> torch.Tensor:
    """Log posterior of each chain's weights, with prior N(0, 3²)."""
    logits = w @ x.T
    return (malignant * logits - torch.nn.functional.softplus(logits)).sum(1) - w.square().sum(1) / 18


init = 2 * torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
chains = HMC(leapfrog_steps=8, warmup=200).sample(log_density, init, 400, torch.Generator().manual_seed(0))

# %%
# What may be concluded: the posterior probability that a weight is positive, with the error of having drawn so few.

for j, (name, rhat, size) in enumerate(zip(names, chains.split_rhat(), chains.effective_sample_size(), strict=False)):
    draws = chains.draws[:, :, j]
    share, worth = float((draws > 0).double().mean()), int(min(size, draws.numel()))
    low, high = clopper_pearson(round(share * worth), worth)
    print(f"{name}: weight {draws.mean():+.2f} ± {draws.std():.2f}, positive with probability {low:.3f} to {high:.3f}")
    assert rhat < 1.1
    assert size > 100
assert int(chains.divergences.sum()) == 0
assert float((chains.draws[:, :, 0] > 0).double().mean()) > 0.95  # larger tumours are more often malignant
