"""The peak of memory is this process's own."""

import subprocess
import sys

import torch

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
    from aleator.experiment import peak_memory as module

    run = subprocess.run([sys.executable, "-c", PROGRAM, module.__file__], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) < len(held) / 2
