"""What a test of the batch costs: per-example norms without gradients, and a training step that is tested now and then.

Statistics of 128 examples by ghost norms against ``vmap`` of ``grad``, in turn, on an MLP and a small convolutional
net: their time, and the memory that each adds at most to a process of its own (Linux). Then steps of a training loop
on batches of 2048, tested on 128 examples every tenth step, against the same loop without a test; and steps of the
recipe ``classify`` with its defaults, which test every step of small batches.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.experiment.accelerators import make_accelerator
from aleator.gradients import example_gradients
from aleator.random import Streams
from aleator.recipes.classify import Classify
from benchmarks.pairs import Pairs, interleave

EXAMPLES, BATCH, EVERY = 128, 2048, 10


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of times of the two ways to per-example norms, and the overheads."""
    rows = []
    for name, (model, shape) in _models().items():
        batch = _batch(EXAMPLES, shape)
        ghost, vmapped = (_statistics(model, batch, method) for method in ("ghost", "vmap"))
        found = interleave(ghost, vmapped, pairs=9, clock=process_time)
        what = f"norms of the gradients of {EXAMPLES} examples, {name}"
        rows.append(found.row(what, "vmap of grad", "≥ 3 in time or memory", unit="s of CPU"))
        memory = [[_peak_megabytes(name, method) for _ in range(5)] for method in ("ghost", "vmap")]
        rows.append(Pairs(*memory).row(f"memory of the {what}", "vmap of grad", "≥ 3 in time or memory", unit="MB"))
    tested, plain = _loop(test=True), _loop(test=False)
    rows.append(
        interleave(tested, plain, pairs=21, clock=process_time).row(
            f"{EVERY} steps on batches of {BATCH}, one of them tested on {EXAMPLES} examples, MLP",
            "without a test", "≤ 3 %", figure="overhead", unit="s of CPU",
        )
    )  # fmt: skip
    for size in (8, 512):
        tested, plain = _recipe(size, tests=True), _recipe(size, tests=False)
        rows.append(
            interleave(tested, plain, pairs=7, clock=process_time).row(
                f"20 steps of classify on batches of {size}, each of them tested, MLP",
                "max_batch_size = batch_size", "no target", figure="overhead", unit="s of CPU",
            )
        )  # fmt: skip
    return rows


def _models() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        cnn = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(),
            nn.Linear(128, 10),
        )  # fmt: skip
    return {"MLP 784-512-512-10": (mlp, (784,)), "two convolutions on 28 × 28": (cnn, (1, 28, 28))}


def _batch(count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 10


def _losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def _statistics(model: nn.Module, batch: tuple[Tensor, Tensor], method: Any) -> Callable[[], object]:
    return lambda: example_gradients(model, _losses, batch, method=method)


def _peak_megabytes(name: str, method: str) -> float:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_measure_peak, args=(theirs, name, method))
    child.start()
    peak: float = ours.recv()
    child.join()
    return peak


def _measure_peak(answer: Connection, name: str, method: str) -> None:
    torch.set_num_threads(1)
    model, shape = _models()[name]
    _statistics(model, _batch(4, shape), method)()  # what is loaded at the first use is no part of it
    work = _statistics(model, _batch(EXAMPLES, shape), method)
    Path("/proc/self/clear_refs").write_text("5")  # the highest use so far is forgotten
    before = _kilobytes("VmRSS")
    work()
    answer.send((_kilobytes("VmHWM") - before) / 1000)


def _kilobytes(line: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(found for found in status if found.startswith(f"{line}:")).split()[1])


def _loop(test: bool) -> Callable[[], object]:
    model, shape = _models()["MLP 784-512-512-10"]
    batch = _batch(BATCH, shape)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def steps() -> None:
        for step in range(EVERY):
            _losses(model, batch).mean().backward()  # type: ignore[no-untyped-call]
            if test and step == 0:
                example_gradients(model, _losses, (batch[0][:EXAMPLES], batch[1][:EXAMPLES]))
            optimizer.step()
            optimizer.zero_grad()

    return steps


def _recipe(size: int, tests: bool) -> Callable[[], object]:
    # An η that no batch of this size fails: what is timed is the test, and not a batch that grows.
    most = 1200 if tests else size
    streams = Streams(0)
    recipe = Classify(batch_test="norm", batch_size=size, max_batch_size=most, eta=1e6, rounds=10_000)
    with streams.scope("init"):
        task = recipe.task(streams, make_accelerator("float32"))
    batches = iter(task.train_batches())

    def steps() -> None:
        for _ in range(20):
            with streams.scope("step"):
                task.train_step(next(batches))

    return steps
