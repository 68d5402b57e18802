"""The cost of the run loop: a step of ``classify`` under the run loop against the same step written by hand.

Both train the MNIST CNN on the same kind of batches with the same optimizer and schedule. They take turns step by step
inside one run: the task hands the loop a batch, and when the loop comes back for the next one, takes a step of the bare
loop. What the run loop adds: streams, progress, logging, the finite check, agreement, looking at signals and the clock.
Evaluation and checkpoints are left out of both. Times are of this process's CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import RunOptions, run
from aleator.random import Streams
from aleator.recipes.classify import Classify
from aleator.recipes.classify.models import image_model
from benchmarks.pairs import Pairs

BATCH = 64
BLOCKS, STEPS = 15, 30  # blocks of STEPS steps of each side, one pair a block


def benchmark() -> list[dict[str, Any]]:
    """Return the overhead of a step in the loop over a step of the bare loop."""
    recipe = Classify(data="mnist", model="cnn", batch_size=BATCH, rounds=1, stop_at=(BLOCKS + 1) * STEPS)
    options = RunOptions(evaluate_every=10**9, checkpoint_seconds=10**9, trackers=(), keep_checkpoints=0)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}

    class Interleaved(Classify):
        def task(self, streams: Any, accelerator: Any) -> Any:
            task = super().task(streams, accelerator)
            batches = task.train_batches()
            bare = _bare_steps()

            def taking_turns() -> Iterator[tuple[Tensor, ...]]:
                while True:
                    began = time.process_time()
                    batch = next(batches)
                    yield batch
                    seconds["ours"].append(time.process_time() - began)
                    began = time.process_time()
                    bare()
                    seconds["peer"].append(time.process_time() - began)

            task.train_batches = taking_turns  # type: ignore[method-assign]
            return task

    with TemporaryDirectory() as folder:
        run(Interleaved(**vars(recipe)), Path(folder) / "run", options, name="classify")
    what = f"a training step of the MNIST CNN, batch {BATCH}, under the run loop"
    pairs = Pairs(_blocks(seconds["ours"]), _blocks(seconds["peer"]))
    return [pairs.row(what, "the same step written by hand", "overhead ≤ 0.03", figure="overhead")]


def _blocks(steps: list[float]) -> list[float]:
    """Return the mean of each block of steps; the first block warms up."""
    return [sum(steps[i : i + STEPS]) / STEPS for i in range(STEPS, BLOCKS * STEPS, STEPS)]


def _bare_steps() -> Callable[[], None]:
    """Return a function that takes one step of the training that the recipe does, written down plainly."""
    images = load("mnist")
    inputs, targets = images.train
    with Streams(0).scope("init"):
        model = image_model("cnn", (1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000, eta_min=1e-4)
    batches = iter(torch.split(torch.randperm(len(inputs), generator=Streams(0).generator("data")), BATCH))

    def step() -> None:
        batch = next(batches)
        x = (inputs[batch].float() / 255 - 0.1307) / 0.3081
        loss = F.cross_entropy(model(x), targets[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step
