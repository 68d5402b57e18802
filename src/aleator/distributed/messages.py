"""What travels: a machine's contribution to a round, and the agreed set of a round. All of it is described here.

A contribution, 16 bytes besides its gradients, little-endian:

    kind u8 | flags u8 | length u16 | round u32 | machine u32 | [weights 32] | gradients | [signature 16] | crc32 u32

The flags say whether the hash of the weights before the round (on rounds of comparison) and a signature are there. An
agreed set, 28 bytes besides the contributions, which are in it as they were sent, by machine in ascending order:

    kind u8 | flags u8 | number u16 | round u32 | lr f64 | previous 8 | contributions… | [signature 16] | crc32 u32

It names the set that it follows by 8 bytes of its SHA-256, so that no two histories can be mixed. It has no time stamp
and no author: whoever writes the set of the same contributions writes the same bytes. A signature is HMAC-SHA256 over
the swarm's run key and all that precedes, cut to 16 bytes. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

_CONTRIBUTION, _COMMIT = 0x31, 0x32
_WITH_WEIGHTS, _WITH_SIGNATURE = 1, 2
_HEAD = struct.Struct("<BBHII")
_COMMIT_HEAD = struct.Struct("<BBHId8s")
_CRC = struct.Struct("<I")
WEIGHTS_BYTES, SIGNATURE_BYTES = 32, 16

CONTRIBUTION_HEADER = _HEAD.size + _CRC.size
"""Bytes of a contribution besides its gradients, where it has neither weights nor signature."""
COMMIT_HEADER = _COMMIT_HEAD.size + _CRC.size
"""Bytes of an agreed set besides its contributions, where it has no signature."""

MAX_MACHINE = (1 << 32) - 1
"""The largest number that a machine may have."""


class Malformed(ValueError):
    """Bytes that are not what they should be."""


@dataclass(frozen=True)
class Contribution:
    """The gradients of one machine in one round.

    Attributes:
        round: counted from 0.
        machine: its number in the swarm.
        gradients: encoded, in the order of the samples.
        weights: SHA-256 of all weights before the round, or nothing.
        signature: or nothing.
    """

    round: int
    machine: int
    gradients: bytes
    weights: bytes = b""
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        content = self.signed_part() + self.signature
        return content + _CRC.pack(zlib.crc32(content))

    def sign(self, secret: bytes, run: int) -> Contribution:
        """Return the same with a signature."""
        with_room = replace(self, signature=bytes(SIGNATURE_BYTES))
        return replace(self, signature=signature_of(secret, run, with_room.signed_part()))

    def signed_part(self) -> bytes:
        """Return the bytes that a signature is of."""
        flags = (_WITH_WEIGHTS if self.weights else 0) | (_WITH_SIGNATURE if self.signature else 0)
        head = _HEAD.pack(_CONTRIBUTION, flags, len(self.gradients), self.round, self.machine)
        return head + self.weights + self.gradients

    @classmethod
    def from_bytes(cls, content: bytes) -> Contribution:
        """Read what `to_bytes` returned.

        Raises:
            Malformed: if it is anything else.
        """
        found, end = _read_contribution(content, 0)
        if end != len(content):
            raise Malformed(f"a contribution has {len(content) - end} bytes too many")
        return found


@dataclass(frozen=True)
class Commit:
    """The agreed set of a round.

    Attributes:
        round: counted from 0.
        lr: the learning rate of the round, as everybody applies it.
        previous: `link` of what precedes: the set of the round before, or the manifest.
        contributions: by machine in ascending order, one of each.
        signature: or nothing.
    """

    round: int
    lr: float
    previous: bytes
    contributions: tuple[Contribution, ...]
    signature: bytes = b""

    @property
    def machines(self) -> tuple[int, ...]:
        """The machines that are in it."""
        return tuple(contribution.machine for contribution in self.contributions)

    @property
    def weights(self) -> bytes:
        """The hash of the weights before the round that most machines have; of equally many, the smaller one."""
        return most_frequent([contribution.weights for contribution in self.contributions])

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        content = self.signed_part() + self.signature
        return content + _CRC.pack(zlib.crc32(content))

    def sign(self, secret: bytes, run: int) -> Commit:
        """Return the same with a signature."""
        with_room = replace(self, signature=bytes(SIGNATURE_BYTES))
        return replace(self, signature=signature_of(secret, run, with_room.signed_part()))

    def signed_part(self) -> bytes:
        """Return the bytes that a signature is of."""
        flags = _WITH_SIGNATURE if self.signature else 0
        head = _COMMIT_HEAD.pack(_COMMIT, flags, len(self.contributions), self.round, self.lr, self.previous)
        return head + b"".join(contribution.to_bytes() for contribution in self.contributions)

    @classmethod
    def from_bytes(cls, content: bytes) -> Commit:
        """Read what `to_bytes` returned.

        Raises:
            Malformed: if it is anything else.
        """
        if len(content) < COMMIT_HEADER:
            raise Malformed(f"an agreed set of {len(content)} bytes is cut off")
        kind, flags, count, number, lr, previous = _COMMIT_HEAD.unpack_from(content)
        if kind != _COMMIT or flags & ~_WITH_SIGNATURE:
            raise Malformed("these bytes are no agreed set")
        _check_crc(content, "an agreed set")
        if not 0 < lr < math.inf:
            raise Malformed(f"lr must be positive and finite, got {lr}")
        at, contributions = _COMMIT_HEAD.size, []
        for _ in range(count):
            contribution, at = _read_contribution(content, at)
            contributions.append(contribution)
        signature = content[at : len(content) - _CRC.size]
        if len(signature) != (SIGNATURE_BYTES if flags else 0):
            raise Malformed(f"an agreed set has {len(signature)} bytes where its signature should be")
        return cls(number, lr, previous, tuple(contributions), signature)


def link(content: bytes) -> bytes:
    """Return what the next agreed set names as its previous one: 8 bytes of the SHA-256 of a set or a manifest."""
    return hashlib.sha256(content).digest()[:8]


def most_frequent(values: Sequence[bytes]) -> bytes:
    """Return the value that is there most often; of equally many, the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _read_contribution(content: bytes, at: int) -> tuple[Contribution, int]:
    """Return the contribution that begins at a place, and where it ends."""
    if len(content) - at < CONTRIBUTION_HEADER:
        raise Malformed("a contribution is cut off")
    kind, flags, length, number, machine = _HEAD.unpack_from(content, at)
    if kind != _CONTRIBUTION or flags & ~(_WITH_WEIGHTS | _WITH_SIGNATURE):
        raise Malformed("these bytes are no contribution")
    begin = at + _HEAD.size
    gradients = begin + (WEIGHTS_BYTES if flags & _WITH_WEIGHTS else 0)
    signature = gradients + length
    end = signature + (SIGNATURE_BYTES if flags & _WITH_SIGNATURE else 0) + _CRC.size
    if end > len(content):
        raise Malformed("a contribution is cut off")
    _check_crc(content[at:end], "a contribution")
    parts = content[begin:gradients], content[gradients:signature], content[signature : end - _CRC.size]
    return Contribution(number, machine, parts[1], parts[0], parts[2]), end


def _check_crc(content: bytes, what: str) -> None:
    (expected,) = _CRC.unpack_from(content, len(content) - _CRC.size)
    if zlib.crc32(content[: -_CRC.size]) != expected:
        raise Malformed(f"the checksum of {what} is wrong")


def signature_of(secret: bytes, run: int, content: bytes) -> bytes:
    """Return the signature of a content in a swarm."""
    return hmac.new(secret, run.to_bytes(8, "little") + content, hashlib.sha256).digest()[:SIGNATURE_BYTES]
