"""A training step of ``classify`` with ``--compile`` against the same step without it, by one thread, batch included.

Both take turns, ten steps each. What compiling takes before is in the first three steps, a row of their own, once; with
a filled cache of compiled code it is less. There is no target: the figures say where the option pays, and after how
many steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from aleator.random import Streams
from aleator.recipes.classify import Classify
from benchmarks.pairs import Pairs, interleave

STEPS, FIRST = 10, 3

RECIPES: dict[str, Any] = {
    "digits, mlp": Classify(),
    "Fashion-MNIST, mlp": Classify(data="fashion-mnist"),
    "Fashion-MNIST, cnn": Classify(data="fashion-mnist", model="cnn"),
    "CIFAR-10, vit-tiny": Classify(data="cifar10", model="vit-tiny", optimizer="adamw"),
}


def benchmark() -> list[dict[str, Any]]:
    """Return what compiling gains for each network, and what the first steps take."""
    return [row for name, recipe in RECIPES.items() for row in _rows(name, recipe)]


def _rows(name: str, recipe: Any) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    plain, compiled = _steps(recipe), _steps(replace(recipe, compile=True))
    first = Pairs([_seconds(compiled)], [_seconds(plain)])
    pairs = interleave(compiled, plain, pairs=11, number=STEPS, clock=time.process_time)
    return [pairs.row(name, "as it is", "–"), first.row(f"{name}, the first {FIRST} steps", "as it is", "–")]


def _steps(recipe: Any) -> Callable[[], None]:
    task = recipe.task(Streams(0), Accelerator(cpu=True))
    batches = iter(task.train_batches())

    def step() -> None:
        task.train_step(next(batches))

    return step


def _seconds(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    for _ in range(FIRST):
        step()
    return time.perf_counter() - begin
