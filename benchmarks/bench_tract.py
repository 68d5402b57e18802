"""TrAct's cost in a training step: time against a plain first layer and the authors' wrapper, and memory of a stem.

The peer is no dependency of ours; `benchmarks.peers` reads it from a folder of its own. A step is forward pass,
backward pass and SGD with momentum on random images of CIFAR's size. Plain, ours and theirs take turns; the ratio of
overheads is (theirs − plain) / (ours − plain) of each turn. On a CPU it is one thread, and the seconds are the
processor's, which other processes disturb less; on a GPU, where there is one, ResNet-18 is timed too.

Peak memory is measured in a fresh process for forward and backward pass of a 7 × 7 stem with stride 2, beyond what the
process held before.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer as default_timer

from aleator.experiment.peak_memory import resident_peak
from aleator.nn import apply_tract
from aleator.random import Streams
from aleator.recipes.classify.models import image_model
from benchmarks.pairs import Pairs
from benchmarks.peers import package, rows_of_a_peer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODELS = {"cnn": 64, "three-convolutions": 64, "vit-tiny": 64} | ({"resnet18": 128} if DEVICE == "cuda" else {})
TURNS, STEPS = 31, 5
STEM_BATCH = 32


def benchmark() -> list[dict[str, Any]]:
    """Return the overhead of a step, our overhead against the peer's, and the memory of a stem."""
    rows: list[dict[str, Any]] = []
    peer = None
    with rows_of_a_peer(), package("torch_tract") as versions:
        peer = f"torch_tract {versions['torch_tract']}"
    layers = ("plain", "ours") if peer is None else ("plain", "ours", "theirs")
    for name, batch in MODELS.items():
        plain, ours, *others = _in_turn([_step(name, batch, layer) for layer in layers])
        what = f"a training step of {name}, batch {batch}, {DEVICE}"
        target = "overhead ≤ 0.02" if name == "resnet18" else "overhead ≤ 0.05"
        rows.append(Pairs(ours, plain).row(what, "plain first layer", target, figure="overhead"))
        if name == "vit-tiny" or peer is None:
            continue  # a first layer of one product: too little is added to compare what
        added = [[b - a for a, b in zip(plain, each, strict=True)] for each in (ours, *others)]
        rows.append(Pairs(*added).row(f"what TrAct adds to {what}", peer, "≥ 1.5"))
    without, own, *others_bytes = (_alone(layer) for layer in layers)
    what = f"peak memory of a 7 x 7 stem with stride 2, {STEM_BATCH} images of 224 x 224, cpu"
    rows.append(Pairs([own], [without]).row(what, "plain stem", "overhead ≤ 0.1", figure="overhead", unit="bytes"))
    if peer is not None:
        rows.append(Pairs([own], others_bytes).row(what, peer, "–", unit="bytes"))
    return rows


def _with(model: nn.Sequential, layer: str) -> nn.Module:
    """Return the model with a first layer of this kind."""
    if layer == "ours":
        return apply_tract(model)
    if layer == "theirs":
        with package("torch_tract"):
            from torch_tract import TrAct  # type: ignore[import-not-found,import-untyped,unused-ignore]
        name = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
        model.set_submodule(name, TrAct(model.get_submodule(name)))
    return model


def _model(name: str) -> Any:
    if name != "three-convolutions":
        return image_model(name, (3, 32, 32), 10)
    widths = [3, 16, 32, 64]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in pairwise(widths)
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 16, 10))


def _step(name: str, batch: int, layer: str) -> Callable[[], None]:
    with Streams(0).scope("init"):
        model = _with(_model(name), layer).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, generator=generator).to(DEVICE)
    y = torch.randint(10, (batch,), generator=generator).to(DEVICE)

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _in_turn(functions: list[Callable[[], None]]) -> list[list[float]]:
    clock = default_timer if DEVICE == "cuda" else time.process_time
    timers = [Timer("f()", globals={"f": function}, num_threads=1, timer=clock) for function in functions]
    for timer in timers:
        timer.timeit(STEPS)
    seconds: list[list[float]] = [[] for _ in timers]
    for _ in range(TURNS):
        for timer, kept in zip(timers, seconds, strict=True):
            kept.append(timer.timeit(STEPS).mean)
    return seconds


def _alone(layer: str) -> float:
    """Return by how many bytes the peak memory of a fresh process grew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_stem, (layer,))


def _stem(layer: str) -> float:
    torch.set_num_threads(1)
    with Streams(0).scope("init"):
        model = _with(nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3)), layer)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEM_BATCH, 3, 224, 224, generator=generator)
    model(x[:1, :, :16, :16]).square().mean().backward()  # what is allocated once does not count
    before = resident_peak()
    model(x).square().mean().backward()
    return resident_peak() - before
