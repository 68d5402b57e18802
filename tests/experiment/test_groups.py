"""Processes that share a run end in order: no thread of a group is left to an interpreter that goes down."""

import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest
import torch

from aleator.experiment.accelerators import _end_groups

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"

# A thread of gloo gives back the last tensor of rank 0 while its interpreter, which has not let go of the GIL since, is
# going down: the thread waits for the GIL, and is ended there. (An object that takes its time to be deleted lets the
# GIL go.)
LATE = """
import mmap, os, sys, time
import torch
import torch.distributed as dist

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)

torch.set_num_threads(1)
shared = mmap.mmap(-1, 1)
rank = int(os.fork() == 0)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
dist.barrier()
if sys.argv[2] == "in order":
    from aleator.experiment.accelerators import _leave_in_order
    _leave_in_order()
tensor = torch.ones(3)
if rank == 1:
    while shared[0] != 1:
        time.sleep(0.01)
    dist.all_reduce(tensor)
    shared[0] = 2
    os._exit(0)
keep = Slow()
work = dist.all_reduce(tensor, async_op=True)
del work, tensor
sys.setswitchinterval(1000)
shared[0] = 1
while shared[0] != 2:
    pass
until = time.monotonic() + 1
while time.monotonic() < until:
    pass
"""


@pytest.mark.parametrize("how", ["in order", "leave"])
def test_groups_are_ended_before_the_interpreter_goes_down(tmp_path, how):
    command = [sys.executable, "-c", LATE, str(tmp_path / "store"), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    if how == "in order":
        assert (done.returncode, done.stderr) == (0, "")
    elif done.returncode == 0:
        pytest.skip("this build of torch gives no Python object back in a thread of gloo")
    else:
        assert done.returncode == -signal.SIGABRT
        assert "terminate called without an active exception" in done.stderr


class Node:
    """It may refer to itself."""


def test_what_is_in_no_use_is_gone_before_the_groups_end(monkeypatch):
    model = Node()
    model.itself, there = model, weakref.ref(model)
    found = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: found.append(there()))
    del model
    _end_groups()
    assert found == [None]


def test_a_failing_process_ends_the_others_and_is_told(tmp_path, processes):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, time
            import torch.distributed as dist
            dist.init_process_group("gloo")
            if os.environ["RANK"] == "1":
                raise RuntimeError("rank 1 broke")
            dist.barrier()
            """
        )
    )
    with pytest.raises(pytest.fail.Exception, match="rank 1 broke"):
        processes(program, 2)


def test_groups_may_be_begun_twice_and_every_process_is_heard(tmp_path, processes):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            import torch
            import torch.distributed as dist
            for _ in range(2):
                dist.init_process_group("gloo")
                number = torch.tensor(dist.get_rank() + 1)
                dist.all_reduce(number)
                print(int(number), sys.argv[1], flush=True)
                dist.destroy_process_group()
            """
        )
    )
    assert processes(program, 2, "word") == ["3 word\n3 word\n"] * 2
