"""Repeated random sampling (RS2) in a distributed loop of one's own, with plain `DistributedDataParallel`.

Every process is given its rank and takes its slice of the same round: slices are disjoint and nothing is repeated to
fill up. The plan counts steps of the global batch. On one machine:

    torchrun --standalone --nproc-per-node 2 examples/rs2_distributed.py
"""

# mypy: allow-untyped-calls

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from aleator.data import BudgetPlan, RepeatedRandomSampler, load
from aleator.optim import CosineToBudget
from aleator.random import Streams

RATIO, ROUNDS, GLOBAL_BATCH, SEED = 0.1, 60, 32, 0


def main() -> None:
    """Train as one of several processes."""
    dist.init_process_group()
    train()  # returns before the group goes down, and takes what was wrapped with it
    dist.barrier()  # nobody takes the group down while another still works
    dist.destroy_process_group()


def train() -> None:
    """Train and print the test accuracy."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")

    images = load("digits")
    examples = TensorDataset(images.normalise(images.train.inputs), images.train.targets)
    plan = BudgetPlan(n=len(examples), ratio=RATIO, rounds=ROUNDS, batch_size=GLOBAL_BATCH)
    # The same seed on every rank: the ranks agree on each round without talking to each other.
    sampler = RepeatedRandomSampler(len(examples), ratio=RATIO, seed=SEED, num_replicas=processes, rank=rank)
    streams = Streams(SEED)
    loader = DataLoader(
        examples,
        GLOBAL_BATCH // processes,
        sampler=sampler,
        drop_last=True,
        generator=streams.generator("data loader", rank=rank),
    )
    with streams.scope("init"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = CosineToBudget(optimizer, plan.total_steps, lr_min=1e-4)

    for _ in range(plan.rounds):
        for inputs, targets in loader:
            loss = F.cross_entropy(parallel(inputs.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    if rank == 0:
        scores = model(images.normalise(images.test.inputs).to(device))
        accuracy = float((scores.argmax(1) == images.test.targets.to(device)).float().mean())
        print(f"{processes} processes, {schedule.last_epoch} of {plan.total_steps} steps, test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
