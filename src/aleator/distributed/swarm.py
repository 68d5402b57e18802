"""How machines meet, in one line: on which board, how many, and how those who come late get the weights.

    Swarm("local")                                             machines of this process
    Swarm("store", address="store://10.0.0.5:29500")           a `TCPStore` that some process serves, see `tcp_store`
    Swarm("redis", address="rediss://swarm@board.example.org") Redis Streams, durable
    Swarm(board)                                               any `Transport`

It holds no connection but that of ``"local"``; `OneByteTrainer` takes it.

E. Zelikman, Q. Huang, P. Liang, N. Haber, N. D. Goodman, "Just One Byte (per gradient)", arXiv 2306.10015.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, get_args

from aleator.distributed.addresses import Address
from aleator.distributed.redis_streams import RedisTransport
from aleator.distributed.transport import Transport, in_process, tcp_store

Meeting = Literal["local", "store", "redis"]
Join = Literal["replay", "snapshot"]

_SCHEMES = {"store": ("store",), "redis": ("redis", "rediss", "unix")}


@dataclass(frozen=True)
class Swarm:
    """What a process has to know to take part in a swarm.

    A password comes from ``ALEATOR_REDIS_PASSWORD`` alone, and a key for signatures, which all machines then need, from
    ``ALEATOR_SWARM_KEY``.

    Attributes:
        transport: ``"local"``, a board in this process, for every trainer that is given this object; ``"store"`` or
            ``"redis"``, a board at ``address``; or a `Transport` that is there already, such as a store which this
            process serves.
        min_machines: the least number of machines that a round waits for, however long that takes; at least 1.
        round_timeout: seconds, above 0, after which a round goes on without the machines that are missing.
        join: how a machine that comes late gets the weights. ``"replay"``: from θ₀ and the log. ``"snapshot"``: from
            weights on the board, whose hash has to be the one that the swarm agreed on; where there are none, by
            replay. Machines with ``"snapshot"`` also leave weights for others.
        address: of the board, as ``"store://HOST:PORT"`` or ``"redis://HOST:PORT?swarm=NAME"``; see `Address`.
        machines: the number of machines that this process stands for, at least 1; more than one is for demonstrations.
        snapshot_every: weights are left before every round that this divides, a multiple of the trainer's
            ``hash_every``, which is the default.

    Raises:
        ValueError: if a value is out of its range, or an address is missing, superfluous or of another board.
    """

    transport: Meeting | Transport = "local"
    min_machines: int = 1
    round_timeout: float = 10.0
    join: Join = "replay"
    address: str | Address | None = field(default=None, kw_only=True)
    machines: int = field(default=1, kw_only=True)
    snapshot_every: int | None = field(default=None, kw_only=True)
    _board: Transport | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every value, and read the address."""
        given = self.transport
        if isinstance(given, str):
            if given not in get_args(Meeting):
                got = "an address" if ":" in given else repr(given)  # which may hold a password
                raise ValueError(f"transport must be one of {', '.join(get_args(Meeting))}, or a board, got {got}")
        elif not isinstance(given, Transport):
            raise ValueError(f"transport must be a name or a board, got {type(given).__name__}")
        if self.join not in get_args(Join):
            raise ValueError(f"join must be one of {', '.join(get_args(Join))}, got {self.join!r}")
        for name in ("min_machines", "machines", "snapshot_every"):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value)
        if not self.round_timeout > 0:
            raise ValueError(f"round_timeout must be positive, got {self.round_timeout}")
        if self.snapshot_every is not None and self.join != "snapshot":
            raise ValueError(f"snapshot_every must be None with join {self.join}, got {self.snapshot_every}")
        if given == "local":
            object.__setattr__(self, "_board", in_process())
        elif not isinstance(given, str):
            object.__setattr__(self, "_board", given)
        object.__setattr__(self, "address", self._checked_address())

    def connect(self) -> Transport:
        """Return the board.

        Raises:
            ValueError: if it cannot be reached, or refuses the password.
            ImportError: if the package ``redis`` is missing where it is needed.
        """
        if self._board is not None:
            return self._board
        address = self.address
        assert isinstance(address, Address)
        if address.scheme == "store":
            return tcp_store(address.host, address.port)[0]
        return RedisTransport(address)

    def _checked_address(self) -> Address | None:
        schemes = _SCHEMES.get(self.transport) if isinstance(self.transport, str) else None
        if schemes is None:
            if self.address is not None:
                what = self.transport if isinstance(self.transport, str) else "a board"
                raise ValueError(f"address must be None with transport {what}, got one")
            return None
        begins = " or ".join(f"{scheme}://" for scheme in schemes)
        if self.address is None:
            raise ValueError(f"address must begin with {begins} for transport {self.transport}, got None")
        try:
            found = self.address if isinstance(self.address, Address) else Address.parse(self.address)
        except ValueError as error:
            raise ValueError(f"address: {error}") from None
        if found.scheme not in schemes:
            raise ValueError(f"address must begin with {begins} for transport {self.transport}, got {found}")
        return found


def check_count(name: str, value: Any) -> None:
    """Check a whole number, at least 1.

    Raises:
        ValueError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
