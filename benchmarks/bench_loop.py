"""What the run loop costs: a whole run of ``classify`` against the same training written as a bare loop.

Both train the MNIST-sized CNN on the same images in the same order with the same optimizer and schedule. The run loop
adds streams, progress, logging, the finite check and agreement; evaluation and checkpoints are left out of both. Needs
MNIST (``ALEATOR_DATA``).
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.pairs import Pairs

STEPS = 150


def benchmark() -> list[dict[str, Any]]:
    """Return the overhead of a step in the loop over a step of the bare loop."""
    from aleator.experiment import RunOptions, run
    from aleator.recipes.classify import Classify

    recipe = Classify(data="mnist", model="cnn", batch_size=64, rounds=1, stop_at=STEPS, validation_size=100)
    options = RunOptions(evaluate_every=10**9, checkpoint_seconds=10**9, trackers=(), keep_checkpoints=0)
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(8):
        with TemporaryDirectory() as folder:
            result = run(recipe, Path(folder) / "run", options, name="classify")
        ours.append(result["seconds"]["train"] / STEPS)
        peer.append(_bare_loop())
    what = "one training step of the MNIST CNN, batch 64, under the run loop"
    # The first pair warms up.
    return [Pairs(ours[1:], peer[1:]).row(what, "the same loop written by hand", "overhead ≤ 0.03", overhead=True)]


def _bare_loop() -> float:
    """Return seconds per step of the training that the recipe does, written down plainly."""
    from aleator.data import load
    from aleator.random import Streams
    from aleator.recipes.image_models import image_model

    torch.set_num_threads(1)
    images = load("mnist")
    inputs, targets = images.train.inputs[100:], images.train.targets[100:]
    with Streams(0).scope("init"):
        model = image_model("cnn", (1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(inputs) // 64, eta_min=1e-4)
    order = torch.randperm(len(inputs), generator=Streams(0).generator("data"))
    began = time.perf_counter()
    for batch in torch.split(order[: STEPS * 64], 64):
        x = (inputs[batch].float() / 255 - 0.1307) / 0.3081
        loss = F.cross_entropy(model(x), targets[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return (time.perf_counter() - began) / STEPS
