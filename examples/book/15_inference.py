"""Chapter 15: probabilistic inference for random fields
=====================================================

A fifth of a digit's pixels were flipped. What was the middle one? An Ising model says that neighbours agree; variable
elimination gives the exact answer, a Gibbs sampler an approximate one that still works where the exact one is too dear.
"""

import networkx as nx
import numpy as np
import torch
from pgmpy.factors.discrete import DiscreteFactor
from pgmpy.inference import VariableElimination
from pgmpy.models import DiscreteMarkovNetwork

from aleator.data import load
from aleator.stats import clopper_pearson, effective_sample_size, split_rhat

g = torch.Generator().manual_seed(0)
picture = 2.0 * (load("digits").test.inputs[0, 0, 1:7, 1:7] > 7) - 1
seen = picture * (1 - 2.0 * (torch.rand(6, 6, generator=g) < 0.2))
coupling, strength = 0.4, 0.5 * float(np.log(4))  # ½ log((1 − 1/5)/(1/5)): what a seen pixel is worth
field = DiscreteMarkovNetwork([(str(a), str(b)) for a, b in nx.grid_2d_graph(6, 6).edges])
field.add_factors(*(DiscreteFactor(e, [2, 2], np.exp(coupling * np.array([1, -1, -1, 1]))) for e in field.edges))
for i, j in np.ndindex(6, 6):
    field.add_factors(DiscreteFactor([str((i, j))], [2], np.exp(strength * float(seen[i, j]) * np.array([-1, 1]))))
answer = VariableElimination(field).query([str((3, 3))], show_progress=False).values
exact = float(answer[1] / answer.sum())

x, odd = torch.ones(8, 6, 6), (torch.arange(6)[:, None] + torch.arange(6)) % 2 == 1
draws = []
for _ in range(1000):
    for half in (odd, ~odd):
        p = torch.nn.functional.pad(x, (1, 1, 1, 1))
        around = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
        up = torch.rand(x.shape, generator=g) < (2 * (coupling * around + strength * seen)).sigmoid()
        x = torch.where(half, 2.0 * up - 1, x)
    draws.append(x[:, 3, 3] > 0)

# %%
# What may be concluded: dependent draws are worth fewer independent ones, and with these the interval is computed.

chains = torch.stack(draws[100:], 1).double()
worth = int(min(effective_sample_size(chains), chains.numel()))
low, high = clopper_pearson(round(float(chains.mean()) * worth), worth)
print(f"+1 with probability {exact:.3f}, was {picture[3, 3]:+.0f}; draws worth {worth}: {low:.3f} to {high:.3f}, 95 %")
assert split_rhat(chains) < 1.1
assert low < exact < high
