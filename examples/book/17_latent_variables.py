"""Chapter 17: latent variables and variational methods
====================================================

Are the sizes of tumours a mixture of two kinds? EM visits all tumours in every step. Stochastic approximation EM draws
the hidden kinds of one batch, and moves its statistics by a step that falls; does it lose anything on new tumours?
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from aleator.stats import mean_interval

g = torch.Generator().manual_seed(0)
sizes = torch.tensor(load_breast_cancer().data[:, 0]).log()
train, test = train_test_split(sizes, test_size=0.5, random_state=0)


def joint(x: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
    """Return log p(x, kind) where the statistics are the means of 1, x and x² in each kind."""
    share, mean = statistics[0], statistics[1] / statistics[0]
    variance = statistics[2] / share - mean**2
    return share.log() - (x[:, None] - mean) ** 2 / (2 * variance) - (2 * torch.pi * variance).log() / 2


powers = torch.stack([torch.ones_like(train), train, train**2], 1)
first = torch.nn.functional.one_hot((train > train.median()).long(), 2).double()
statistics = powers.T @ first / len(train)
for t in range(3000):
    rows = torch.randint(len(train), (20,), generator=g)
    kind = torch.multinomial(joint(train[rows], statistics).softmax(1), 1, generator=g)[:, 0]
    drawn = powers[rows].T @ torch.nn.functional.one_hot(kind, 2).double() / len(rows)
    statistics = statistics + (drawn - statistics) / (10 + t) ** 0.7

# %%
# What may be concluded: the mean difference in log density on new tumours, paired. Against EM a twentieth of a nat at
# most is lost; and whether there are two kinds at all, these tumours do not show.

stochastic = joint(test, statistics).logsumexp(1)
for name, kinds in (("EM", 2), ("a single kind", 1)):
    other = GaussianMixture(kinds, random_state=0).fit(train[:, None].numpy()).score_samples(test[:, None].numpy())
    interval = mean_interval((stochastic - torch.tensor(other)).tolist())
    assert interval is not None
    print(f"over {name}: {interval[0]:+.3f} to {interval[1]:+.3f} nats a tumour, 95 %")
    assert interval[0] > -0.05
    assert kinds == 2 or interval[0] < 0 < interval[1]
