"""Chapter 18: learning graphical models
=====================================

Do the pixels of a digit depend on each other, and can a restricted Boltzmann machine learn it? Its likelihood has no
closed form; stochastic approximation with persistent chains needs only samples (Younes 1999, Tieleman 2008):

    W ← W + γ_t (E_data[v hᵀ] − E_chain[v hᵀ]),  one Gibbs sweep of the chains an update, γ_t decreasing.
"""

import torch

from aleator.data import load
from aleator.stats import mean_interval

g = torch.Generator().manual_seed(0)
digits = load("digits")
train, test = ((part.inputs.flatten(1) >= digits.max_value / 2).float() for part in (digits.train, digits.test))
weight, hidden_bias = 0.01 * torch.randn(64, 32, generator=g), torch.zeros(32)
visible_bias = independent = ((train.sum(0) + 0.5) / (len(train) + 1)).logit()
chains = (torch.rand(100, 64, generator=g) < visible_bias.sigmoid()).float()


def drawn(logits: torch.Tensor) -> torch.Tensor:
    """Draw bits."""
    return (torch.rand(logits.shape, generator=g) < logits.sigmoid()).float()


def pseudo_likelihood(v: torch.Tensor) -> torch.Tensor:
    """Return Σ_j log p(v_j | the other pixels) of each picture."""
    inputs, total = v @ weight + hidden_bias, torch.zeros(len(v))
    for j in range(64):
        flip = 1 - 2 * v[:, j]
        gain = torch.nn.functional.softplus(inputs + flip[:, None] * weight[j]) - torch.nn.functional.softplus(inputs)
        total -= torch.nn.functional.softplus(flip * visible_bias[j] + gain.sum(1))
    return total


found = []
for t in range(3000):
    if t % 300 == 0:
        found.append(float(pseudo_likelihood(test).mean()))
    v = train[torch.randint(len(train), (100,), generator=g)]
    h, step = (v @ weight + hidden_bias).sigmoid(), 0.05 / (1 + t / 1000)
    chains = drawn(drawn(chains @ weight + hidden_bias) @ weight.T + visible_bias)
    h_chains = (chains @ weight + hidden_bias).sigmoid()
    weight = weight + step * (v.T @ h - chains.T @ h_chains) / 100
    visible_bias = visible_bias + step * (v - chains).mean(0)
    hidden_bias = hidden_bias + step * (h - h_chains).mean(0)
print("mean log pseudo-likelihood of test digits:", [round(value, 1) for value in found])

# %%
# What may be concluded: by how much a test digit is more likely than under independent pixels, with a paired interval.

probability = independent.sigmoid()
apart = torch.where(test > 0, probability, 1 - probability).log().sum(1)
interval = mean_interval((pseudo_likelihood(test) - apart).tolist())
assert interval is not None
print(f"gain over independent pixels: {interval[0]:.2f} to {interval[1]:.2f} nats a digit, 95 %")
assert interval[0] > 2
assert found[-1] > found[len(found) // 2] > found[0]
