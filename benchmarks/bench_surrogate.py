"""The cost of `TargetSurrogate` beside the passes that it takes, and the time of an exact step on a batch that stays.

The loop written by hand makes the same 1 + m forward and m backward passes, with SGD as the inner optimizer; plain
steps are what the time could be spent on otherwise. Both are on the CPU with one thread, or on a GPU where there is
one. The exact step is on 100,000 cached features of 1,000 dimensions in float32; its peer is the first step, which
factors them, and there is one pair of them only.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.optim import TargetSurrogate, surrogate_loss
from benchmarks.pairs import Pairs, interleave

BATCH, INNER, GAMMA = 256, 10, 2.0
ROWS, FEATURES = 100_000, 1_000


def benchmark() -> list[dict[str, Any]]:
    """Return the overhead over a loop by hand, the time against plain steps, and the time of exact steps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, 784, generator=generator).to(device)
    classes = torch.randint(10, (BATCH,), generator=generator).to(device)
    losses = functools.partial(F.cross_entropy, target=classes, reduction="none")

    rows = []
    for tolerance in (0.0, 1e-6):
        model = _model().to(device)
        surrogate = TargetSurrogate(model, GAMMA, inner=_sgd, inner_steps=INNER, tolerance=tolerance)
        ours = functools.partial(surrogate.step, inputs, losses)
        what = f"{INNER} inner SGD steps, MLP 784-512-256-10, batch {BATCH}, tolerance {tolerance:g}"
        pairs = interleave(ours, _by_hand(_model().to(device), inputs, losses), pairs=9, number=2)
        rows.append(pairs.row(f"{what}: overhead", "loop by hand", "≤ 0.05", figure="overhead"))
    pairs = interleave(ours, _plain(_model().to(device), inputs, losses), pairs=9, number=2)
    rows.append(pairs.row(what, f"{INNER + 1} plain SGD steps", "–"))
    rows.append(_exact(generator))
    return rows


def _exact(generator: torch.Generator) -> dict[str, Any]:
    features = torch.randn(ROWS, FEATURES, generator=generator)
    wanted = torch.randn(ROWS, 1, generator=generator)

    def losses(z: Tensor) -> Tensor:
        return (z - wanted).square().sum(1)

    with torch.random.fork_rng():
        surrogate = TargetSurrogate(nn.Linear(FEATURES, 1), 0.1, inner="exact")
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        surrogate.step(features, losses)
        seconds.append(time.perf_counter() - began)
    pairs = Pairs([statistics.median(seconds[1:])], seconds[:1])
    return pairs.row(f"exact step, {ROWS:,} × {FEATURES:,}, factored before", "the first step", "ours < 1 s")


def _model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def _sgd(parameters: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=0.01)


def _by_hand(model: nn.Module, inputs: Tensor, losses: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    optimizer = _sgd(model.parameters())

    def step() -> None:
        with torch.no_grad():
            anchor = model(inputs)
        targets = anchor.clone().requires_grad_()
        (grad,) = torch.autograd.grad(losses(targets).sum(), targets)
        for _ in range(INNER):
            loss = surrogate_loss(model(inputs), anchor, grad, GAMMA)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return step


def _plain(model: nn.Module, inputs: Tensor, losses: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    optimizer = _sgd(model.parameters())

    def steps() -> None:
        for _ in range(INNER + 1):
            loss = losses(model(inputs)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return steps
