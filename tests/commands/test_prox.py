"""``aleator prox report``: zeros counted tensor by tensor, and one line when something is wrong."""

import re

import pytest
import torch
from safetensors.torch import save_file

from aleator.cli import main


@pytest.fixture
def weights(tmp_path):
    """Four entries of six are zero in one matrix, two of its columns, and one of its rows; the bias has none."""
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -1.0]])
    save_file({"layer.weight": weight, "layer.bias": torch.ones(3)}, tmp_path / "model.safetensors")
    return tmp_path


def said(capsys, *args: str) -> list[list[str]]:
    assert main(["prox", "report", *args]) == 0
    return [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines() if line]


def refused(capsys, *args: str) -> str:
    assert main(["prox", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.removeprefix("aleator: ").strip()


def test_zeros_of_a_file_and_of_a_run_folder(capsys, weights):
    table = said(capsys, str(weights / "model.safetensors"))
    assert table[1:] == [
        ["layer.bias", "3", "0 of 3", "0.0 %", "0 of 3", "0.0 %"],
        ["layer.weight", "3 × 3", "7 of 9", "77.8 %", "1 of 3", "33.3 %"],
        ["together", "7 of 12", "58.3 %", "1 of 6", "16.7 %"],
    ]
    assert said(capsys, str(weights)) == table
    assert said(capsys, str(weights), "--dim", "1")[2][4:] == ["1 of 3", "33.3 %"]


def test_a_run_with_a_penalty_is_reported(capsys, tmp_path, mirror):
    words = "run classify --rounds 2 --train-size 64 --optimizer proximal-sgd --prox l1 --prox-lam 1 --trackers"
    assert main([*words.split(), "--out", str(tmp_path / "o")]) == 0
    capsys.readouterr()
    total = said(capsys, str(tmp_path / "o"))[-1]
    assert float(total[2].removesuffix(" %")) > 10


def test_numbers_that_are_not_finite_are_named(capsys, tmp_path):
    save_file({"w": torch.tensor([float("nan"), 0.0])}, tmp_path / "w.safetensors")
    assert main(["prox", "report", str(tmp_path / "w.safetensors")]) == 0
    assert "not all numbers are finite in w" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz])
def test_numbers_of_eight_bits_are_counted(capsys, tmp_path, dtype):
    save_file({"w": torch.tensor([0.0, 1.0, -2.0]).to(dtype)}, tmp_path / "w.safetensors")
    assert said(capsys, str(tmp_path / "w.safetensors"))[1][1:4] == ["3", "1 of 3", "33.3 %"]


def test_numbers_packed_two_in_a_byte_are_refused(capsys, tmp_path):
    packed = torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    save_file({"w": packed}, tmp_path / "w.safetensors")
    line = "tensors must hold a number in a byte or more, got torch.float4_e2m1fn_x2 in w"
    assert refused(capsys, "report", str(tmp_path / "w.safetensors")) == line


def test_what_is_wrong_is_one_line(capsys, tmp_path):
    assert refused(capsys, "report", str(tmp_path / "gone")) == f"there is no file {tmp_path / 'gone'}"
    assert refused(capsys, "report", str(tmp_path)) == f"there is no file {tmp_path / 'model.safetensors'}"
    (tmp_path / "w.pt").write_bytes(b"\x80\x02not weights")
    assert "is not a file of weights (safetensors)" in refused(capsys, "report", str(tmp_path / "w.pt"))
    assert refused(capsys, "report", str(tmp_path), "--dim", "-1") == "dim must be at least 0, got -1"
    assert "a verb is missing" in refused(capsys)
    assert "repot" in refused(capsys, "repot")
