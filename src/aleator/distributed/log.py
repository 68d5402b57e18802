"""The log of a swarm: the agreed set of every round, in order. θ₀ and the log are the weights, to the last bit.

A log is append-only and has no gaps. Appending what it holds already does nothing, so that what comes twice does no
harm; appending another set for a round that it holds is refused. In a file every record has its length and a checksum:

    "ALEATLOG" | u32 version | u64 first round | 32 bytes hash of the weights there | records…
    record: u32 length | content | u32 crc32          the first is the manifest, the others are rounds

A record that a killed process left half-written at the end is cut off when the log is opened to be continued; anything
else that is wrong is refused. A log that begins later than round 0 belongs to a snapshot of the weights with that hash.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from aleator.distributed.manifest import Manifest
from aleator.distributed.messages import Commit, link
from aleator.distributed.replica import Replica, parameters_of
from aleator.distributed.validity import check_commit

if TYPE_CHECKING:
    from torch import Tensor, nn

_MAGIC = b"ALEATLOG"
_HEAD = struct.Struct("<8sIQ32s")
_LENGTH, _CRC = struct.Struct("<I"), struct.Struct("<I")
_LONGEST = 1 << 26  # bytes of a record; a damaged length must not ask for all memory
_VERSION = 1


class DamagedLog(ValueError):
    """The file of a log is not what was written."""


class GradientLog:
    """The rounds of a swarm, in memory or in a file as well.

    Args:
        manifest: what the swarm has in common.
        path: where the log is kept; there must be no file yet. None keeps it in memory.
        first: the round it begins with.
        weights: SHA-256 of the weights before that round; by default the manifest's θ₀.

    Raises:
        ValueError: if there is a file already.

    Example:
        >>> log = GradientLog.open("run/swarm.log")
        >>> log.replay(model)                       # doctest: +SKIP
    """

    def __init__(
        self, manifest: Manifest, path: str | Path | None = None, *, first: int = 0, weights: bytes | None = None
    ) -> None:
        self.manifest = manifest
        self.first = first
        self.weights = bytes.fromhex(manifest.theta0) if weights is None else weights
        self._rounds: list[bytes] = []
        self._ends: list[int] = []  # of the records in the file
        self._file: IO[bytes] | None = None
        self.cut_off = 0
        if path is not None:
            self._file = open(path, "x+b")  # noqa: SIM115 the log holds it until it is closed
            self._file.write(_HEAD.pack(_MAGIC, _VERSION, first, self.weights))
            self._begin = self._write(manifest.to_bytes(), at=_HEAD.size)

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False) -> GradientLog:
        """Read a log from its file.

        Args:
            path: of the file.
            writable: continue it there; a last record that is cut off is removed, and `cut_off` tells its bytes.

        Raises:
            DamagedLog: if the file is damaged, or cut off and not writable; the line says up to where it is whole.
        """
        with open(path, "rb") as file:
            content = file.read()
        log = cls._read(content, str(path), repair=writable)
        if writable:
            log._file = open(path, "r+b")  # noqa: SIM115
            log._file.truncate(log._ends[-1] if log._ends else log._begin)
            log._sync()
        return log

    @classmethod
    def from_bytes(cls, content: bytes) -> GradientLog:
        """Read a log from what `to_bytes` returned.

        Raises:
            DamagedLog: if it is anything else.
        """
        return cls._read(content, "the log", repair=False)

    def to_bytes(self) -> bytes:
        """Return the log as it is in a file."""
        head = _HEAD.pack(_MAGIC, _VERSION, self.first, self.weights)
        return head + b"".join(_record(part) for part in (self.manifest.to_bytes(), *self._rounds))

    def __len__(self) -> int:
        return len(self._rounds)

    def __iter__(self) -> Iterator[Commit]:
        return (Commit.from_bytes(content) for content in self._rounds)

    @property
    def next_round(self) -> int:
        """The round that may be appended next."""
        return self.first + len(self._rounds)

    @property
    def end(self) -> bytes | None:
        """The `link` that the next agreed set has to name; None at the beginning of a log that is a part of another."""
        if self._rounds:
            return link(self._rounds[-1])
        return link(self.manifest.to_bytes()) if self.first == 0 else None

    def raw(self, number: int) -> bytes:
        """Return the agreed set of a round as bytes.

        Raises:
            ValueError: if the log does not hold it.
        """
        if not self.first <= number < self.next_round:
            raise ValueError(f"round must be in [{self.first}, {self.next_round}) in this log, got {number}")
        return self._rounds[number - self.first]

    def append(self, commit: Commit | bytes) -> bool:
        """Add a round, and return whether it is new.

        Raises:
            Malformed: if it is not an agreed set of this swarm. Signatures are for whoever has the key to check.
            ValueError: if there is a gap before it, it follows another history, or the log has another set for the
                round.
        """
        content = commit if isinstance(commit, bytes) else commit.to_bytes()
        commit = Commit.from_bytes(content)
        number = commit.round
        if number > self.next_round:
            raise ValueError(f"gap in the log: round {number} cannot follow round {self.next_round - 1}")
        if number < self.first:
            raise ValueError(f"the log begins with round {self.first}, got round {number}")
        if number < self.next_round:
            if self._rounds[number - self.first] != content:
                raise ValueError(f"the log has another agreed set for round {number}")
            return False
        check_commit(commit, self.manifest)
        if self.end not in (None, commit.previous):
            raise ValueError(f"the agreed set of round {number} follows another round {number - 1} than this log has")
        if self._file is not None:
            self._ends.append(self._write(content, self._ends[-1] if self._ends else self._begin))
        self._rounds.append(content)
        return True

    def rewind(self, number: int) -> None:
        """Forget the rounds from this one on."""
        if not self.first <= number <= self.next_round:
            raise ValueError(f"number must be in [{self.first}, {self.next_round}], got {number}")
        del self._rounds[number - self.first :]
        if self._file is not None:
            del self._ends[number - self.first :]
            self._file.truncate(self._ends[-1] if self._ends else self._begin)
            self._sync()

    def suffix(self, number: int, weights: bytes, path: str | Path | None = None) -> GradientLog:
        """Return the part of this log from a round on, to keep beside a snapshot of the weights before that round."""
        log = GradientLog(self.manifest, path, first=number, weights=weights)
        for later in range(number, self.next_round):
            log.append(self.raw(later))
        return log

    def replay(self, parameters: nn.Module | MutableMapping[str, Tensor], upto: int | None = None) -> int:
        """Turn the weights before the first round into those after the last, in place, and return how many rounds.

        Args:
            parameters: a model, of which what requires a gradient counts, or tensors by name; in float32, and with the
                weights that the log begins with.
            upto: stop before this round; by default all are applied.

        Raises:
            ValueError: if these are other weights than the log begins with, or a comparison of weights in the log does
                not hold; the line names the round.
        """
        upto = self.next_round if upto is None else upto
        if not self.first <= upto <= self.next_round:
            raise ValueError(f"upto must be in [{self.first}, {self.next_round}] for this log, got {upto}")
        replica = Replica(parameters_of(parameters), self.manifest, self.first)
        if (found := replica.fingerprint()) != self.weights:
            raise ValueError(
                f"the weights before round {self.first} must have the hash {self.weights.hex()[:16]}…, "
                f"got {found.hex()[:16]}…"
            )
        for number in range(self.first, upto):
            commit = Commit.from_bytes(self.raw(number))
            if commit.weights and replica.fingerprint() != commit.weights:
                raise ValueError(f"the weights before round {number} are not those that the swarm had")
            replica.apply(commit)
        return upto - self.first

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> GradientLog:
        """Return the log, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _write(self, content: bytes, at: int) -> int:
        assert self._file is not None
        record = _record(content)
        self._file.seek(at)
        self._file.write(record)
        self._sync()
        return at + len(record)

    def _sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())

    @classmethod
    def _read(cls, content: bytes, name: str, repair: bool) -> GradientLog:
        if len(content) < _HEAD.size or content[: len(_MAGIC)] != _MAGIC:
            raise DamagedLog(f"{name} is not the log of a swarm")
        _, version, first, weights = _HEAD.unpack_from(content)
        if version != _VERSION:
            raise DamagedLog(f"{name} has version {version}, this library reads {_VERSION}")
        at, log = _HEAD.size, None
        while at < len(content):
            found, end = _read_record(content, at)
            if found is None:
                whole = "its manifest is cut off" if log is None else f"it is whole up to round {log.next_round - 1}"
                if end <= len(content):
                    raise DamagedLog(f"{name} is damaged at byte {at}: {whole}")
                if not repair or log is None:
                    raise DamagedLog(f"{name} is cut off in its last record: {whole}")
                log.cut_off = len(content) - at
                break
            try:
                if log is None:
                    log = cls(Manifest.from_bytes(found), first=first, weights=weights)
                    log._begin = end
                else:
                    log.append(found)
                    log._ends.append(end)
            except ValueError as error:
                raise DamagedLog(f"{name} is damaged at byte {at}: {error}") from None
            at = end
        if log is None:
            raise DamagedLog(f"{name} is cut off in its last record: its manifest is cut off")
        return log


def _record(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content + _CRC.pack(zlib.crc32(content))


def _read_record(content: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the record at a place and where it ends; None if it is damaged or ends behind the content."""
    if at + _LENGTH.size > len(content):
        return None, len(content) + 1
    (length,) = _LENGTH.unpack_from(content, at)
    begin = at + _LENGTH.size
    end = begin + length + _CRC.size
    if length > _LONGEST:
        return None, at
    if end > len(content):
        return None, end
    found = content[begin : begin + length]
    (expected,) = _CRC.unpack_from(content, begin + length)
    return (found, end) if zlib.crc32(found) == expected else (None, end)
