"""A machine of ``--peers``: a process that takes part until its parent ends, or the last round is over.

    python -m aleator.recipes.decentral.local_peer        the options come as one line of JSON on standard input

The parent never closes its end of the pipe; when it is gone, however that came, the pipe ends and this process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aleator.recipes.decentral.options import Decentral


def launch(options: Decentral, seed: int, port: int, machine: int) -> subprocess.Popen[bytes]:
    """Start a machine as a process that ends with this one.

    Args:
        options: of the recipe.
        seed: of the swarm.
        port: of the store on this host.
        machine: its number.
    """
    import torch

    from aleator.experiment.identity import options_of

    process = subprocess.Popen(
        [sys.executable, "-m", "aleator.recipes.decentral.local_peer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    asked = {
        "options": options_of(options) | {"log": None},
        "seed": seed,
        "port": port,
        "machine": machine,
        "threads": torch.get_num_threads(),
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(asked).encode() + b"\n")
    process.stdin.flush()
    return process


def main() -> int:
    """Take part in the swarm that standard input names."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the parent says when to end
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    from aleator.distributed import tcp_store
    from aleator.recipes.decentral.machine import Machine
    from aleator.recipes.decentral.options import Decentral

    torch.set_num_threads(asked["threads"])
    options = Decentral(**asked["options"])
    machine = Machine(options, asked["seed"])
    board, _ = tcp_store("127.0.0.1", asked["port"])
    machine.join(board, lambda: False, (asked["machine"],))
    while machine.replica.round < options.rounds:
        machine.step(options.rounds - machine.replica.round)
    return 0


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
