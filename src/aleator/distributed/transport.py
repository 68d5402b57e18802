"""How machines reach each other: a board that all can write on, where the first agreed set of a round wins.

A `Transport` only carries bytes. What they mean, and whether they count, is for the reader to say (`Member`). This file
has the board in a store of ``torch.distributed``: `in_process` for machines that one process simulates, a `TCPStore`
for processes that can reach each other. Redis is in `aleator.distributed.redis_streams`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, Store, TCPStore


class Unreachable(ConnectionError):
    """The board cannot be reached now, or cannot be written now; later it may."""


@runtime_checkable
class Transport(Protocol):
    """A board for one swarm. Every method may raise `Unreachable`, and may be called again after that."""

    def describe(self) -> str:
        """Return where the board is, without passwords."""
        ...

    def publish(self, manifest: bytes) -> bytes:
        """Write the manifest if there is none, and return the one that is there."""
        ...

    def enrol(self) -> int:
        """Return a number that no machine has yet."""
        ...

    def reserve(self, machine: int) -> None:
        """Let nobody else get a number that a machine has from before."""
        ...

    def announce(self, machine: int, round: int) -> None:
        """Say that a machine is there from a round on; from -1, that it has left."""
        ...

    def announced(self) -> dict[int, int]:
        """Return what every machine announced last."""
        ...

    def offer(self, round: int, machine: int, contribution: bytes) -> None:
        """Hand in a contribution. Of several of a machine for a round any one may count."""
        ...

    def poll(self, round: int, seconds: float) -> tuple[list[bytes], list[bytes]]:
        """Wait for something new, not longer than this.

        Returns:
            contributions that came since the last call, in any order, some perhaps twice; and what was written as the
            agreed set of the round, in the order of writing.
        """
        ...

    def last(self) -> int:
        """Return the last round that an agreed set was written for, or -1."""
        ...

    def append(self, round: int, place: int, commit: bytes) -> bool:
        """Write an agreed set as number ``place`` (from 0) of its round, if the board is just there.

        Returns:
            False if something else stands there already or the board lacks what precedes.
        """
        ...

    def commits(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Return what was written as agreed sets from a round on, in order; a round may have several."""
        ...

    def save_snapshot(self, round: int, weights: bytes) -> None:
        """Keep the weights before a round for those who join; one set of weights is kept."""
        ...

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return what `save_snapshot` kept last."""
        ...

    def close(self) -> None:
        """Leave the board."""
        ...


class StoreTransport:
    """A board in a store of ``torch.distributed``.

    Args:
        store: any of them that knows ``compare_set`` and ``delete_key``, such as `TCPStore`, `FileStore`, `HashStore`.
        name: how to call it in messages.
    """

    # A store has no way to wait for one of several keys; a look costs microseconds here, a round trip elsewhere.
    _LOOK_EVERY = 0.01

    def __init__(self, store: Store, name: str = "the store") -> None:
        self._store, self._name = store, name
        self._beats = self._last = -1
        self._cleared = 0

    def describe(self) -> str:
        """Return where the board is."""
        return self._name

    def publish(self, manifest: bytes) -> bytes:
        """Write the manifest if there is none, and return the one that is there."""
        return self._first_writer("manifest", manifest)

    def enrol(self) -> int:
        """Return a number that no machine has yet."""
        return self._count("machines", 1) - 1

    def reserve(self, machine: int) -> None:
        """Let nobody else get a number that a machine has from before."""
        if (count := self._count("machines", 0)) <= machine:
            self._count("machines", machine + 1 - count)

    def announce(self, machine: int, round: int) -> None:
        """Say that a machine is there from a round on; from -1, that it has left."""
        self._set(f"announced/{machine}", str(round).encode())

    def announced(self) -> dict[int, int]:
        """Return what every machine announced last."""
        found = {}
        for machine in range(self._count("machines", 0)):
            if (said := self._get(f"announced/{machine}")) is not None:
                found[machine] = int(said)
        return found

    def offer(self, round: int, machine: int, contribution: bytes) -> None:
        """Hand in a contribution."""
        self._first_writer(f"offer/{round}/{machine}", contribution)

    def poll(self, round: int, seconds: float) -> tuple[list[bytes], list[bytes]]:
        """Wait for something new, not longer than this; see `Transport.poll`."""
        until = time.monotonic() + seconds
        while (beats := self._count("beats", 0)) == self._beats and time.monotonic() < until:
            time.sleep(min(self._LOOK_EVERY, max(0.0, until - time.monotonic())))
        self._beats = beats
        machines = range(self._count("machines", 0))
        offers = [found for m in machines if (found := self._get(f"offer/{round}/{m}")) is not None]
        return offers, self._of_round(round)

    def last(self) -> int:
        """Return the last round that an agreed set was written for, or -1."""
        last = self._last  # threads may share a board
        while self._do("check", [f"commit/{last + 1}/0"]):
            last += 1
        self._last = max(self._last, last)
        return last

    def append(self, round: int, place: int, commit: bytes) -> bool:
        """Write an agreed set, if the board is just there; see `Transport.append`."""
        if round != self.last() + (place == 0) or (place and len(self._of_round(round)) != place):
            return False
        written = self._first_writer(f"commit/{round}/{place}", commit) == commit
        self._forget(round - 2)
        return written

    def commits(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Return what was written as agreed sets from a round on, in order."""
        found: list[tuple[int, bytes]] = []
        for number in range(first, min(first + limit, self.last() + 1)):
            found += [(number, content) for content in self._of_round(number)]
        return found

    def save_snapshot(self, round: int, weights: bytes) -> None:
        """Keep the weights before a round for those who join."""
        self._set("snapshot", round.to_bytes(8, "little") + weights)

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return what `save_snapshot` kept last."""
        found = self._get("snapshot")
        return None if found is None else (int.from_bytes(found[:8], "little"), found[8:])

    def close(self) -> None:
        """Leave the board."""

    def _of_round(self, round: int) -> list[bytes]:
        found: list[bytes] = []
        while (content := self._get(f"commit/{round}/{len(found)}")) is not None:
            found.append(content)
        return found

    def _forget(self, round: int) -> None:
        """Delete the contributions to a round and all before it; what counts of them is in the agreed sets."""
        for number in range(self._cleared, round + 1):
            for machine in range(self._count("machines", 0)):
                self._do("delete_key", f"offer/{number}/{machine}")
        self._cleared = max(self._cleared, round + 1)

    def _first_writer(self, key: str, value: bytes) -> bytes:
        found: bytes = self._do("compare_set", key, "", value)
        self._count("beats", 1)
        return found

    def _set(self, key: str, value: bytes) -> None:
        self._do("set", key, value)
        self._count("beats", 1)

    def _get(self, key: str) -> bytes | None:
        found: bytes | None = self._do("get", key) if self._do("check", [key]) else None
        return found

    def _count(self, key: str, by: int) -> int:
        return int(self._do("add", key, by))

    def _do(self, method: str, *args: object) -> Any:
        try:
            return getattr(self._store, method)(*args)
        except dist.DistError as error:
            raise Unreachable(f"{self._name}: {str(error).splitlines()[0]}") from None


def in_process() -> StoreTransport:
    """Return a board for machines that live in this process."""
    return StoreTransport(HashStore(), "this process")


CONNECT = 5.0
"""Seconds to wait for a store."""


def tcp_store(host: str, port: int, *, serve: bool = False) -> tuple[StoreTransport, int]:
    """Return a board in a `TCPStore` and its port.

    Args:
        host: of the process that serves it. Whoever reaches the port can write: keep to hosts that trust each other.
        port: 0, with ``serve``, takes a free one.
        serve: keep the store in this process.

    Raises:
        ValueError: if there is no store to be reached.
    """
    try:
        store = TCPStore(host, port, None, serve, timedelta(seconds=CONNECT), wait_for_workers=False)
    except (dist.DistError, RuntimeError) as error:
        raise ValueError(f"there is no store at {host}:{port}: {str(error).splitlines()[0]}") from None
    return StoreTransport(store, f"store://{host}:{store.port}"), store.port


__all__: Sequence[str] = ("StoreTransport", "Transport", "Unreachable", "in_process", "tcp_store")
