"""Several processes on one program, as torchrun starts them, forked from one that has torch and one thread.

They find each other through a file in a folder and not through a port, which somebody else may take meanwhile. What a
process writes is in the folder, ``out-RANK`` and ``err-RANK``, and its exit code in ``exit-RANK``. When one fails, the
others are ended. A process goes down by ``os._exit``, and so may leave the threads of its groups running.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

GRACE = 3.0  # seconds that the others have to end by themselves when one has failed


def launch(folder: Path, count: int, words: list[str], seconds: float) -> int:
    """Carry out a program in ``count`` children; return 0 if all end well, else 1, and in each its own code."""
    import torch._dynamo  # noqa: F401  imported here for all: the first optimizer of a process needs it

    ranks = {}
    for rank in range(count):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            return _program(folder, rank, count, words)
        ranks[pid] = rank
    failed, until = 0, time.monotonic() + seconds
    while ranks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(0.02)
            if time.monotonic() > until:
                failed = 1
                sys.stderr.write(f"not done in time: {sorted(ranks.values())}\n")
                for running in ranks:
                    os.kill(running, signal.SIGKILL)
                until = float("inf")
            continue
        code = os.waitstatus_to_exitcode(status)
        (folder / f"exit-{ranks.pop(pid)}").write_text(str(code))
        if code:
            failed, until = 1, min(until, time.monotonic() + GRACE)
    return failed


def be_one_of(folder: Path, rank: int, count: int) -> None:
    """Let this process be one of several, which find each other through files in a folder."""
    import torch.distributed as dist

    if count > 1:  # one process alone is started as any program is
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    really, begun = dist.init_process_group, 0

    def init_process_group(backend: Any = None, init_method: Any = None, *args: Any, **kwargs: Any) -> None:
        nonlocal begun
        if init_method is None and kwargs.get("store") is None:
            begun += 1  # a file serves one group: what the last one wrote would be read by the next
            store = dist.FileStore(str(folder / f"store-{begun}"), count)
            kwargs |= {"store": store, "rank": rank, "world_size": count}
        really(backend, init_method, *args, **kwargs)

    dist.init_process_group = init_process_group


def _program(folder: Path, rank: int, count: int, words: list[str]) -> int:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT), number)
    be_one_of(folder, rank, count)
    _keep_groups()
    try:
        return as_program(words)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def _keep_groups() -> None:
    """Let no group be freed before this process is gone.

    A group that is freed waits for its threads, which may wait for the GIL. Torch lets go of it where Python was the
    last to hold the group, and not where `DistributedDataParallel` was, in what a program leaves behind.
    """
    import torch.distributed as dist

    really, kept = dist.destroy_process_group, []

    def destroy_process_group(group: Any = None) -> None:
        kept.extend(dist.distributed_c10d._world.pg_map)
        really(group)

    dist.destroy_process_group = destroy_process_group


def as_program(words: list[str]) -> int:
    """Carry out a Python file here, as ``python WORDS`` does, and return its exit code; its errors are raised."""
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
