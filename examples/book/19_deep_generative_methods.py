"""Chapter 19: deep generative methods
===================================

How many nats does a digit cost if a decoder may ask for 16 hidden bits? A variational autoencoder with bits that the
gradient goes straight through; its bound on the likelihood is compared with independent pixels.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from aleator.data import load
from aleator.nn import bernoulli_st
from aleator.stats import mean_interval

torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
digits = load("digits")
train, test = ((part.inputs.flatten(1) > 7).float() for part in (digits.train, digits.test))
encoder = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 16))
decoder = torch.nn.Sequential(torch.nn.Linear(16, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64))
probability = (train.sum(0) + 0.5) / (len(train) + 1)
decoder[2].bias.data = probability.logit()


def cost(x: torch.Tensor) -> torch.Tensor:
    """Return the negative evidence bound of each digit: of its pixels, and of the bits against fair coins."""
    a: torch.Tensor = encoder(x)
    entropy = softplus(a) - a * a.sigmoid()
    pixels = binary_cross_entropy_with_logits(decoder(bernoulli_st(a, generator=g)), x, reduction="none")
    return pixels.sum(1) + (0.6931 - entropy).sum(1)


optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
for _ in range(1000):
    optimizer.zero_grad()
    torch.autograd.backward(cost(train[torch.randint(len(train), (100,), generator=g)]).mean())
    optimizer.step()

# %%
# What may be concluded: the bound is a bound, so a test digit is at least this much more likely than by its pixels.

apart = torch.nn.functional.binary_cross_entropy(probability.expand_as(test), test, reduction="none").sum(1)
interval = mean_interval((apart - cost(test).detach()).tolist())
assert interval is not None
print(f"at least {interval[0]:.2f} to {interval[1]:.2f} nats a digit, 95 %, of {apart.mean():.1f}")
assert interval[0] > 2
