"""Machines that train together over one byte per gradient, and the two ways to learn that they are compared with.

This file holds the options; `aleator.recipes.decentral.task` holds the task of a swarm, of which this process is one
machine (``--join``, ``--peers``) or all of them (``--machines``), and `aleator.recipes.decentral.references` the task
of backpropagation. What all machines of a swarm must have in common they compare before the first round; ``--seed`` is
the swarm's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.decentral.learned import TaskOptions
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

# Options that backpropagation does not have, with the default that says they were left alone.
_OF_SWARMS = {
    "samples": 1,
    "eps": 1e-3,
    "directions": "rademacher",
    "codec": "log8",
    "norm": "sqrt",
    "robust": "none",
    "hash_every": 64,
    "snapshot_every": None,
    "join": None,
    "peers": None,
    "enter_by": "replay",
    "min_machines": None,
    "round_timeout": None,
    "log": None,
}
_OF_NETWORKS = ("snapshot_every", "min_machines", "round_timeout")


@dataclass(frozen=True)
class Decentral(TaskOptions):
    """Train together with other machines: each gradient is one byte, and all weights stay equal bit for bit."""

    rounds: int = 1000
    """Rounds, or with backpropagation steps."""

    # --- learning
    method: Literal["spsa", "backprop"] = "spsa"
    """Slopes along random directions, which travel as single bytes; or, to compare, backpropagation and AdamW, whose
    gradients of all machines would travel whole."""
    samples: int = 1
    """Gradients of a machine in a round."""
    lr: float | None = None
    """Learning rate, by default 0.012, and 0.001 with backpropagation."""
    eps: float = 1e-3
    """Half the distance of the two points at which the loss is taken."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices."""
    directions: Literal["rademacher", "popcount", "gaussian"] = "rademacher"
    """Signs, which are exact on every device; counts of bits, nearly normal and exact; or normal numbers."""
    codec: Literal["log8", "log9", "float32"] = "log8"
    """What a gradient travels as: one byte, the paper's nine bits (in two bytes), or a float."""
    norm: Literal["sqrt", "mean"] = "sqrt"
    """Divide the sum over n gradients by √n, as the paper's program does, or by n."""

    # --- the swarm
    machines: int | None = None
    """Machines that this process simulates, by default 4."""
    peers: int | None = None
    """Start so many machines as processes here, which end with this one."""
    join: str | None = field(default=None, metadata={"decisive": False})
    """Take part as one machine in the swarm at this address: redis://HOST:PORT, rediss:// with TLS, unix:// or
    store://HOST:PORT. A password comes from ALEATOR_REDIS_PASSWORD, a key for signatures from ALEATOR_SWARM_KEY."""
    enter_by: Literal["replay", "snapshot"] = field(default="replay", metadata={"decisive": False})
    """How a machine that joins comes to the present: by the log, or by the weights that the swarm left last."""
    min_machines: int | None = field(default=None, metadata={"decisive": False})
    """A round waits for so many machines, however long that takes. Default: 1 with --join, all with --peers."""
    round_timeout: float | None = field(default=None, metadata={"decisive": False})
    """Seconds after which a round goes on without the machines that are missing, by default 10."""
    robust: Literal["none", "median"] = "none"
    """Bound every gradient by the median over machines of their largest one."""
    hash_every: int = 64
    """Compare all weights before every so many rounds."""
    snapshot_every: int | None = field(default=None, metadata={"decisive": False})
    """Leave the weights in the swarm every so many rounds, for those who join by them; a multiple of hash-every."""
    log: Path | None = field(default=None, metadata={"decisive": False})
    """Keep the log in this file as well, round by round; `aleator log` reads it."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        super().__post_init__()
        for name in ("rounds", "samples", "machines", "min_machines", "hash_every", "snapshot_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        positive(self, "lr", "eps", "round_timeout")
        not_negative(self, "weight_decay")
        if self.method == "backprop":
            for name, value in _OF_SWARMS.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} cannot be used with method backprop, got {getattr(self, name)}")
            return
        if self.join is not None:
            refuse_unless(False, "join", self, "machines", "peers")
            from aleator.distributed import Address

            try:
                Address.parse(self.join)
            except ValueError as error:
                raise ValueError(f"join: {error}") from None
        else:
            refuse_unless(self.peers is not None, "machines in one process", self, *_OF_NETWORKS)
            if self.enter_by != "replay":
                raise ValueError(f"enter_by must be replay without join, got {self.enter_by}")
        if self.peers is not None:
            refuse_unless(False, "peers", self, "machines")
            if not 2 <= self.peers <= 64:
                raise ValueError(f"peers must be in [2, 64], got {self.peers}")
            if self.min_machines is not None and self.min_machines > self.peers:
                raise ValueError(f"min_machines must be at most peers, {self.peers}, got {self.min_machines}")
        if self.snapshot_every is not None and self.snapshot_every % self.hash_every:
            raise ValueError(
                f"snapshot_every must be a multiple of hash_every, {self.hash_every}, got {self.snapshot_every}"
            )

    @property
    def rate(self) -> float:
        """The learning rate, chosen or by default."""
        if self.lr is not None:
            return self.lr
        return 0.012 if self.method == "spsa" else 0.001

    @property
    def machines_here(self) -> int:
        """Machines that this process simulates."""
        if self.join is not None or self.peers is not None:
            return 1
        return 4 if self.machines is None else self.machines

    @property
    def needed(self) -> int:
        """Machines that a round waits for."""
        if self.min_machines is not None:
            return self.min_machines
        return self.peers or self.machines_here

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        task = "task:SwarmedTask" if self.method == "spsa" else "references:BackpropTask"
        build = named(f"aleator.recipes.decentral.{task}")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
