"""Chapter 14: Markov random fields
================================

Does a chain say all about a row of pixels? In a chain, a pixel depends on far ones only through its neighbours. With
the counts of neighbours as its factors, it is compared with independent pixels and with a table of all 64 rows.
"""

import itertools

import numpy as np
from pgmpy.factors import factor_product
from pgmpy.factors.discrete import DiscreteFactor
from pgmpy.models import DiscreteMarkovNetwork

from aleator.data import load
from aleator.stats import mean_interval

digits = load("digits")
train, test = ((part.inputs[:, 0, 3, 1:7] > 7).long().numpy() for part in (digits.train, digits.test))
chain = DiscreteMarkovNetwork([(f"x{j}", f"x{j + 1}") for j in range(5)])
for j in range(5):
    pairs = np.histogram2d(train[:, j], train[:, j + 1], bins=2)[0] + 0.5
    values = pairs / pairs.sum() if j == 0 else pairs / pairs.sum(1, keepdims=True)  # p(x0, x1), then p(x_j+1 | x_j)
    chain.add_factors(DiscreteFactor([f"x{j}", f"x{j + 1}"], [2, 2], values))
print("given", " and ".join(sorted(chain.markov_blanket("x2"))), "no other pixel says anything about x2")

share = (train.sum(0) + 0.5) / (len(train) + 1)
table = np.histogramdd(train, bins=2)[0] + 0.5
joint = factor_product(*chain.factors)
rows = tuple(test[:, int(name[1:])] for name in joint.scope())
log_density = {
    "independent pixels": (test * np.log(share) + (1 - test) * np.log(1 - share)).sum(1),
    "the chain": np.log(joint.values[rows] / joint.values.sum()),
    "the table": np.log(table[tuple(test.T)] / table.sum()),
}

# %%
# What may be concluded: the mean gain of each over the one before in log density of new digits, with paired intervals.

for before, after in itertools.pairwise(log_density):
    interval = mean_interval((log_density[after] - log_density[before]).tolist())
    assert interval is not None
    print(f"{after} over {before}: {interval[0]:.3f} to {interval[1]:.3f} nats a row, 95 %")
    assert interval[0] > 0
