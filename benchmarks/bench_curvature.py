"""Spectra and products of curvature matrices on a CPU, one thread: ours against PyHessian and curvlinops.

A convolutional network of about 0.1 million parameters and a batch of 128 images of 16 × 16. The peers are no
dependencies of ours; `benchmarks.peers` reads them from a folder of their own.

A spectrum is 20 steps of Lanczos' algorithm from one random vector, with everything that has to be set up for it; both
re-orthogonalise. A product is one, set up before. In one batch our operator keeps the graph of its passes; in four it
cannot, and does the same passes as the peer. Times are CPU times of this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.optim import CurvatureOperator, slq
from benchmarks.pairs import interleave
from benchmarks.peers import package, rows_of_a_peer

STEPS = 20


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for a spectrum against PyHessian, and for products against curvlinops."""
    with rows_of_a_peer(), package("curvature") as versions:
        return _against(versions)
    return []


def _against(versions: dict[str, str]) -> list[dict[str, Any]]:
    from curvlinops import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        GGNLinearOperator,
        HessianLinearOperator,
    )
    from pyhessian import hessian  # type: ignore[import-not-found,import-untyped,unused-ignore]

    torch.eig = _removed_eig  # type: ignore[assignment, attr-defined]  # the released PyHessian calls it, on a 20 × 20 matrix

    model, inputs, targets = _problem()
    params = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in params)
    generator = torch.Generator().manual_seed(1)

    def ours() -> float:
        curvature = CurvatureOperator(model, F.cross_entropy, [(inputs, targets)])
        return slq(curvature, STEPS, generator=generator).top

    def peer() -> object:
        return hessian(model, F.cross_entropy, data=(inputs, targets), cuda=False).density(iter=STEPS, n_v=1)

    rows = [
        interleave(ours, peer, pairs=5, clock=time.process_time).row(
            f"a Hessian spectrum, m = {STEPS}, P = {size:,}", f"PyHessian {versions['pyhessian']}", "≥ 2"
        )
    ]
    vector = torch.randn(size, generator=generator)
    for pieces in (1, 4):
        data = list(zip(inputs.chunk(pieces), targets.chunk(pieces), strict=True))
        for kind, theirs in (("hessian", HessianLinearOperator), ("ggn", GGNLinearOperator)):
            operator = CurvatureOperator(model, F.cross_entropy, data, kind)  # type: ignore[arg-type]
            other = theirs(model, nn.CrossEntropyLoss(), params, data, check_deterministic=False)
            _check_equal(operator @ vector, other @ vector)
            rows.append(
                interleave(
                    _product(operator, vector), _product(other, vector), pairs=9, number=5, clock=time.process_time
                ).row(
                    f"a {kind} product, {pieces} batch{'es' if pieces > 1 else ''}",
                    f"curvlinops {versions['curvlinops-for-pytorch']}",
                    "≥ 0.83 (1.2 of its time)",
                )
            )
    return rows


def _removed_eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def _problem() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 3, 16, 16, generator=generator)
    targets = torch.randint(10, (128,), generator=generator)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(512, 192), nn.ReLU(), nn.Linear(192, 10)),
        )
    return model.eval(), inputs, targets


def _product(operator: Any, vector: Tensor) -> Callable[[], object]:
    return lambda: operator @ vector


def _check_equal(ours: Tensor, peer: Tensor) -> None:
    if float((ours - peer).norm()) > 1e-4 * float(peer.norm()):
        raise SystemExit("the two products differ: what is timed is not the same work")
