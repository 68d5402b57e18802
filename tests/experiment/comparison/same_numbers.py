"""The sameness of two run folders: metrics without clocks, weights bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from aleator.experiment.tracking import read_metrics


def assert_same_numbers(one: Path, other: Path) -> None:
    (rows, weights), (rows2, weights2) = _numbers(one), _numbers(other)
    assert rows == rows2
    assert weights.keys() == weights2.keys()
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)


def _numbers(folder: Path):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(folder / "metrics.jsonl")]
    return rows, load_file(folder / "model.safetensors")
