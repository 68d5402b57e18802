"""A small problem for swarms: a quadratic of two tensors, whose slope along a direction has a closed form."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
import torch

from aleator.distributed import GradientLog, Manifest, Member, Peer, Replica, Transport, fingerprint
from aleator.gradients import direction

SHAPES = {"weight": (5, 3), "bias": (3,)}


def start() -> dict[str, torch.Tensor]:
    """θ₀."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def manifest(**changes: Any) -> Manifest:
    usual = Manifest(
        run=7,
        theta0=fingerprint(start()).hex(),
        names=tuple(sorted(SHAPES)),
        codec="log8",
        directions="rademacher",
        norm="sqrt",
        lr=0.01,
        weight_decay=0.0,
        samples=4,
        robust="none",
        hash_every=4,
        signed=False,
        code="tests",
    )
    return replace(usual, **changes)


def slopes(replica: Replica, samples: int = 2, run: int = 7) -> Callable[[int, int], Sequence[float]]:
    """The slopes of ½‖θ − machine/10‖² along the directions of a round and a machine."""

    def of(number: int, machine: int) -> list[float]:
        found = []
        for sample in range(samples):
            along = 0.0
            for tensor, name in enumerate(sorted(replica.parameters)):
                value = replica.parameters[name]
                z = direction((run, number, machine, sample), value.shape, replica.manifest.directions, tensor=tensor)
                along += float(((value - 0.1 * machine) * z).double().sum())
            found.append(along)
        return found

    return of


class Machine:
    """A peer of the small problem, in this process."""

    def __init__(
        self, transport: Transport, count: int = 1, *, again: tuple[int, ...] = (), log: GradientLog | None = None,
        snapshot_every: int | None = None, options: dict[str, Any] | None = None, **changes: Any,
    ) -> None:  # fmt: skip
        log = log if log is not None else GradientLog(manifest(**changes))
        self.replica = Replica(start(), log.manifest)
        self.place = Member(transport, log, **(options or {}))
        self.peer = Peer(self.place, self.replica, start, snapshot_every)
        self.place.join(count, again=again)
        self.samples = 2

    def step(self) -> int:
        return self.peer.step(slopes(self.replica, self.samples)).applied

    def go_to(self, number: int) -> None:
        """Take steps until so many rounds are applied."""
        while self.replica.round < number:
            self.step()

    @property
    def weights(self) -> bytes:
        return self.replica.fingerprint()


def together(members: Sequence[Machine], number: int) -> None:
    """Let members take steps at once, each in a thread, until so many rounds are applied."""
    errors: list[BaseException] = []

    def go(member: Machine) -> None:
        try:
            member.go_to(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(member,), daemon=True) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive() or errors, "a member is stuck"
    if errors:
        raise errors[0]


class Server:
    """A real ``redis-server`` on a free port of loopback, durable in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        return redis.Redis(port=self.port, **options)

    def start(self) -> None:
        log = self.folder / "server.log"
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--logfile", str(log), *self.options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text() if log.exists() else "redis-server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def append_only_file(self) -> Path:
        (found,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return found

    def cut_off(self, size: int) -> None:
        """Take bytes from the end of the append-only file, as a power cut does."""
        file = self.append_only_file()
        os.truncate(file, file.stat().st_size - size)


class Cable:
    """A TCP proxy that can be cut: existing connections then get no answer, and new ones are refused."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.pulled = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.pulled.set()

    def mend(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()
        self._pairs = []
        self.pulled.clear()

    def close(self) -> None:
        self._listener.close()
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.pulled.is_set():
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.target))
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while content := source.recv(65536):
                if self.pulled.is_set():
                    return  # lost on the way
                sink.sendall(content)
        except OSError:
            pass
        finally:
            if not self.pulled.is_set():
                for end in (source, sink):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
