"""The cost of a proximal step, and the time to a sparse solution, on a CPU with one thread.

A step of `ProximalSGD` with momentum and an ℓ1 penalty against torch's SGD (foreach) without one: about 3.1 million
parameters in 122 tensors, shaped like a small transformer's. And Prox-SVRG to 75 % exact zeros against scikit-learn's
SAGA to its tolerance, on the ℓ1 digits problem of the evidence (λ = 0.001), with batches of 16 and γ = 16/L; zeros are
counted after every pass, on the clock. 1e-6 is SAGA's tolerance in the evidence; 1e-4, scikit-learn's default, makes as
many zeros sooner.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import load
from aleator.optim import SASA, ProximalSGD, ProxSVRG, linear_smoothness, sklearn_c, sparsity
from aleator.optim import proximal as prox
from benchmarks.pairs import Pairs, interleave

WIDTH, BLOCKS = 144, 12
LAM, BATCH, ZEROS, TRAIN = 1e-3, 16, 0.75, 1200


def benchmark() -> list[dict[str, Any]]:
    """Return the time of steps, and that to sparse solutions."""
    what = f"{sum(p.numel() for p in _parameters()):,} parameters in {len(_parameters())} tensors"
    plain = torch.optim.SGD(_parameters(), lr=1e-3, momentum=0.9, foreach=True)
    rows = []
    for name, penalty, target in (
        ("ℓ1", prox.L1(1e-4), "≥ 0.91 (1.1 of its time)"),
        ("elastic net", prox.ElasticNet(l1=1e-4, l2=1e-4), "–"),
        ("group lasso", prox.GroupLasso(1e-5), "–"),
    ):
        ours = ProximalSGD(_parameters(), lr=1e-3, momentum=0.9, prox=penalty)
        pairs = interleave(ours.step, plain.step, pairs=31, number=5, clock=time.process_time)
        rows.append(pairs.row(f"a ProximalSGD step, {name}, {what}", "torch SGD (foreach)", target))
    watched = torch.optim.SGD(_parameters(), lr=1e-3, momentum=0.9, foreach=True)
    SASA(watched, check_every=10**9)
    pairs = interleave(watched.step, plain.step, pairs=31, number=5, clock=time.process_time)
    rows.append(pairs.row(f"an SGD step with SASA watching, {what}", "torch SGD (foreach)", "–"))
    inputs, targets = _digits()
    for tolerance in (1e-6, 1e-4):
        ours_s, peer_s = [], []
        zeros = 0.0
        for _ in range(3):
            ours_s.append(_time_to_zeros(inputs, targets))
            seconds, zeros = _saga(inputs, targets, tolerance)
            peer_s.append(seconds)
        rows.append(
            Pairs(ours_s, peer_s).row(
                f"ℓ1 digits: Prox-SVRG to {100 * ZEROS:.0f} % zeros",
                f"scikit-learn SAGA, tol {tolerance:g}, {100 * zeros:.0f} % zeros",
                "> 1" if tolerance == 1e-6 else "–",
            )
        )
    return rows


def _digits() -> tuple[Tensor, Tensor]:
    digits = load("digits")
    inputs = torch.cat([digits.train.inputs, digits.test.inputs]).flatten(1).double()
    targets = torch.cat([digits.train.targets, digits.test.targets])
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[:TRAIN]
    return inputs[order] / inputs.max(), targets[order]


def _time_to_zeros(inputs: Tensor, targets: Tensor) -> float:
    with torch.random.fork_rng():
        model = nn.Linear(64, 10).double()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    order = torch.Generator().manual_seed(1)

    def closure(rows: Tensor | slice) -> Tensor:
        model.zero_grad()
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    began = time.perf_counter()
    optimizer = ProxSVRG(model.parameters(), BATCH / linear_smoothness(inputs, "cross-entropy"), prox.L1(LAM))
    for _ in range(200):
        optimizer.snapshot(functools.partial(closure, slice(None)))
        for rows in torch.randperm(TRAIN, generator=order).view(-1, BATCH):
            step: Callable[[], Tensor] = functools.partial(closure, rows)
            optimizer.step(step)
        if sparsity([("weight", model.weight)])["weight"].share >= ZEROS:
            return time.perf_counter() - began
    raise RuntimeError(f"no {ZEROS:.0%} zeros in 200 passes")


def _saga(inputs: Tensor, targets: Tensor, tolerance: float) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    x, y = inputs.numpy(), targets.numpy()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that has not converged is no peer
        solver = LogisticRegression(
            solver="saga", **sklearn_c(prox.L1(LAM), TRAIN), tol=tolerance, max_iter=20_000, random_state=0
        ).fit(x, y)
    return time.perf_counter() - began, float((solver.coef_ == 0).mean())


def _parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    d = WIDTH
    block = [(3 * d, d), (3 * d,), (d, d), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,), (d,), (d,)]
    shapes = [*(block * BLOCKS), (1000, d), (d,)]
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters
