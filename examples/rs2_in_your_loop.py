"""Repeated random sampling (RS2) in a loop of one's own: the same number of steps, spent in two ways.

Both trainings see a twentieth of the handwritten digits in every round and take equally many steps. One draws its
subset once and keeps it, the other draws a new one in every round. Takes a few seconds:

    python examples/rs2_in_your_loop.py
"""

# mypy: allow-untyped-calls

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from aleator.data import BudgetPlan, RepeatedRandomSampler, load
from aleator.optim import CosineToBudget
from aleator.random import Streams

RATIO, ROUNDS, BATCH_SIZE = 0.05, 60, 32

images = load("digits")
train: Dataset[tuple[Tensor, ...]] = TensorDataset(images.normalise(images.train.inputs), images.train.targets)
plan = BudgetPlan(n=len(images.train.targets), ratio=RATIO, rounds=ROUNDS, batch_size=BATCH_SIZE)


def test_accuracy(dataset: Dataset[tuple[Tensor, ...]], sampler: RepeatedRandomSampler, seed: int) -> float:
    """Train a classifier for the planned number of steps and return its accuracy on the test set."""
    streams = Streams(seed)
    with streams.scope("init"):  # torch draws initial weights from its global generator; here it is the stream's
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = CosineToBudget(optimizer, plan.total_steps, lr_min=1e-4)
    # Without a generator of its own, a DataLoader draws from torch's global one.
    loader = DataLoader(
        dataset, BATCH_SIZE, sampler=sampler, drop_last=True, generator=streams.generator("data loader")
    )
    for _ in range(plan.rounds):
        for inputs, targets in loader:  # one pass is one round
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    scores = model(images.normalise(images.test.inputs))
    return float((scores.argmax(1) == images.test.targets).float().mean())


print(f"{plan.total_steps} steps on {plan.subset_size} of {plan.n} examples a round, test accuracy")
for seed in range(3):
    rs2 = RepeatedRandomSampler(plan.n, ratio=RATIO, seed=seed)
    fixed = Subset(train, rs2.round_indices(0).tolist())  # the first of the subsets that RS2 draws
    static = test_accuracy(fixed, RepeatedRandomSampler(plan.subset_size, ratio=1.0, seed=seed), seed)
    repeated = test_accuracy(train, rs2, seed)
    print(f"seed {seed}: static subset {static:.1%}, RS2 {repeated:.1%}")
