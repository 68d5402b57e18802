"""A gated layer that skips against a dense one of its width, and gate estimators against Gumbel-softmax.

One CPU thread. A training step is a forward and a backward pass, input gradient included, with the gater of 64 hidden
units and the penalty; the gates are open for a tenth of examples and blocks. Straight-through needs what a shut block
would have computed for the gradient of its gate, which is one dense product of the three; the other methods do not. In
evaluation nothing needs it.

The network of the recipe ``gates`` for MNIST, with blocks, is timed against the one of as many experts without gates:
there the layer is the first, which needs no input gradient, and the softmax reads all experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.nn import STS, BernoulliST, ConditionalLinear, GateEstimator, ReinMaxBernoulli
from aleator.recipes.gates.models import GatedClassifier
from benchmarks.pairs import interleave

BATCH, INPUTS, BLOCK, GATER, ACTIVE = 256, 2048, 64, 64, 0.1


def benchmark() -> list[dict[str, Any]]:
    """Return dense / gated for training and evaluation at two widths, and Gumbel-softmax / gate."""
    rows = []
    for width in (2048, 8192):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            dense = nn.Linear(INPUTS, width)
        for gate, target in (("sts", "≥ 3"), ("sbn", "≥ 3"), ("st", "–")):
            layer = _gated(width, gate)
            what = f"training step, gate {gate}, width {INPUTS} to {width}, blocks of {BLOCK}, batch {BATCH}, 10 % open"
            pairs = interleave(_training(layer), _training(dense), pairs=9)
            rows.append(pairs.row(what, "nn.Linear", target))
        pairs = interleave(_evaluation(_gated(width, "st").eval()), _evaluation(dense), pairs=9)
        rows.append(pairs.row(f"evaluation, width {INPUTS} to {width}, batch {BATCH}, 10 % open", "nn.Linear", "≥ 3"))
    for gate, target in (("sts", "≥ 3"), ("sbn", "≥ 3"), ("st", "–")):
        pairs = interleave(_mnist_step(gate), _mnist_step("none"), pairs=9)
        what = f"training step of the MNIST network, gate {gate}, 8,192 experts in blocks of {BLOCK}, 10 % open"
        rows.append(pairs.row(what, "8,192 experts, no gates", target))
    logits = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gates: dict[str, GateEstimator] = {"ST": BernoulliST(), "STS": STS(), "ReinMax": ReinMaxBernoulli()}
    for name, estimator in gates.items():
        pairs = interleave(_through(estimator, logits), _through(_gumbel, logits), pairs=9)
        what = f"{name}, forward and backward, {logits.numel():,} gates"
        rows.append(pairs.row(what, "F.gumbel_softmax(hard=True)", "≥ 0.91 (1.1 of its time)"))
    return rows


def _gated(width: int, gate: str) -> ConditionalLinear:
    """Return a layer of which a tenth is open, whatever the input."""
    layer = ConditionalLinear(INPUTS, width, GATER, gate=gate, block=BLOCK, generator=torch.Generator().manual_seed(0))
    return _open_a_tenth(layer, gate, _inputs())


def _open_a_tenth(layer: ConditionalLinear, gate: str, inputs: Tensor) -> ConditionalLinear:
    p = ACTIVE**2 if gate == "sts" else ACTIVE
    with torch.no_grad():
        last = layer.gater[2]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.01)
        last.bias.fill_(math.log(p / (1 - p)))
    layer.calibrate_threshold([inputs], ACTIVE)
    return layer


def _mnist_step(gate: str) -> Callable[[], None]:
    """Return a training step of the whole network, without its optimizer."""
    images = torch.rand(BATCH, 784, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(10, (BATCH,), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GatedClassifier(
            784, 10, gate=gate, experts=8192, gater_hidden=GATER, block=BLOCK, sparsity=ACTIVE, penalty=None
        )
    gated = model.gated
    if gated is not None:
        _open_a_tenth(gated, gate, images)

    def step() -> None:
        model.zero_grad()
        noise = None if gated is None else torch.rand(BATCH, 8192 // BLOCK, generator=generator)
        losses = F.cross_entropy(model(images, noise), labels, reduction="none")
        total: Tensor = losses.mean()
        if gated is not None:
            total = total + gated.score_loss(losses) + gated.penalty()
        torch.autograd.backward(total)

    return step


def _inputs() -> Tensor:
    return torch.randn(BATCH, INPUTS, generator=torch.Generator().manual_seed(1))


def _training(layer: nn.Module) -> Callable[[], None]:
    x, generator = _inputs().requires_grad_(), torch.Generator().manual_seed(2)
    gated = isinstance(layer, ConditionalLinear)
    y = layer(x, generator=generator) if gated else layer(x)
    gradient = torch.randn(y.shape, generator=generator)

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        if isinstance(layer, ConditionalLinear):
            y = layer(x, generator=generator)
            total = (y * gradient).sum() + layer.score_loss(y.detach().sum(1)) + layer.penalty()
        else:
            total = (layer(x) * gradient).sum()
        total.backward()

    return step


def _evaluation(layer: nn.Module) -> Callable[[], None]:
    x = _inputs()

    def evaluate() -> None:
        with torch.no_grad():
            layer(x)

    return evaluate


def _through(gate: Callable[..., Tensor], logits: Tensor) -> Callable[[], None]:
    def step() -> None:
        with torch.random.fork_rng():
            torch.autograd.grad(gate(logits).sum(), logits)

    return step


def _gumbel(logits: Tensor) -> Tensor:
    return F.gumbel_softmax(torch.stack([logits, torch.zeros_like(logits)], -1), hard=True)[..., 0]
