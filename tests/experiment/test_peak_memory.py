"""The peak of memory is this process's own."""

import subprocess
import sys

import pytest
import torch

from aleator.experiment import peak_memory as module
from aleator.experiment.peak_memory import peak_memory, resident_peak

PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("peak", sys.argv[1])
peak = importlib.util.module_from_spec(spec)
sys.modules["torch"] = type(sys)("torch")
sys.modules["torch"].device = object
spec.loader.exec_module(peak)
print(peak.resident_peak())
"""


def test_it_grows_with_what_is_held_and_stays():
    before = resident_peak()
    held = torch.ones(before // 4 + (64 << 20))
    assert resident_peak() >= held.nbytes
    del held
    assert resident_peak() >= before
    assert peak_memory(torch.device("cpu")) >= before


def test_a_process_does_not_inherit_its_parents():
    held = bytearray(1) * (512 << 20)
    run = subprocess.run([sys.executable, "-c", PROGRAM, module.__file__], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) < len(held) / 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
@pytest.mark.parametrize("status", [None, b"Name:\tpython\nVmRSS:\t10 kB\n"], ids=["no file", "no line"])
def test_where_linux_does_not_say_it_the_system_is_asked(status, tmp_path, monkeypatch):
    file = tmp_path / "status"
    if status is not None:
        file.write_bytes(status)
    monkeypatch.setattr(module, "_STATUS", file)
    assert resident_peak() > 1 << 20


def test_a_process_may_have_any_name(tmp_path, monkeypatch):
    file = tmp_path / "status"
    file.write_bytes("Name:\tgröße".encode()[:-1] + b"\xff\nVmHWM:\t  10 kB\n")
    monkeypatch.setattr(module, "_STATUS", file)
    assert resident_peak() == 10 * 1024
