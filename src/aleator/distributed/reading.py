"""What a log says to somebody who took no part: whether it leads to the claimed weights, and who was there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from aleator.distributed.addresses import SECRET, Address
from aleator.distributed.codes import decode
from aleator.distributed.log import GradientLog
from aleator.distributed.manifest import Manifest
from aleator.distributed.member import first_valid
from aleator.distributed.messages import Malformed, link
from aleator.distributed.redis_streams import RedisTransport
from aleator.distributed.replica import fingerprint
from aleator.distributed.validity import check_commit

LAGS = 0.9
"""Who was in fewer than this share of the rounds since it came lags."""


@dataclass(frozen=True)
class Attendance:
    """One machine in a log.

    Attributes:
        machine: its number.
        first: the first round that it was in.
        last: the last one.
        rounds: that it was in.
        share: of the rounds from the first on, up to the end of the log.
        gradients: that it gave.
        typical: the root of their mean square.
        largest: of their magnitudes.
    """

    machine: int
    first: int
    last: int
    rounds: int
    share: float
    gradients: int
    typical: float
    largest: float

    @property
    def lags(self) -> bool:
        """Whether it was missing in a good part of the rounds since it came, or left before the end."""
        return self.share < LAGS


def log_of_swarm(address: Address, secret: bytes | None = None) -> GradientLog:
    """Return the log of a swarm on a Redis server, without taking part.

    Args:
        address: of the server.
        secret: the swarm's key; with it what is not signed by it does not count, as for the machines. Without it what
            is well-formed counts.

    Raises:
        ValueError: if there is no such swarm, nothing of it counts, or the server cannot be reached.
    """
    if address.scheme == "store":
        raise ValueError(f"a log is read from a file or from Redis, got {address}")
    board = RedisTransport(address)
    try:
        manifest = board.manifest()
        if manifest is None:
            raise ValueError(f"there is no swarm {address.swarm!r} at {address}")
        log = GradientLog(Manifest.from_bytes(manifest))
        reasons: list[Malformed] = []
        while True:
            entries = board.commits(log.next_round, 1000)
            previous = log.end or link(manifest)
            valid = first_valid(
                entries, log.next_round, previous, log.manifest, secret, lambda *why: reasons.append(why[-1])
            )
            for _, content in valid:
                log.append(content)
            if not valid:
                if reasons and not len(log):
                    raise ValueError(f"no round of the swarm at {address} counts: {reasons[0]}")
                return log
    finally:
        board.close()


def selected(log: GradientLog, weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return of a file's tensors those that the swarm trains.

    Raises:
        ValueError: if one is not there.
    """
    if missing := [tensor for tensor in log.manifest.names if tensor not in weights]:
        raise ValueError(f"{name} lacks {missing[0]}, which the swarm trains")
    return {tensor: weights[tensor] for tensor in log.manifest.names}


def verify(
    log: GradientLog,
    start: Mapping[str, Tensor] | None,
    claimed: Mapping[str, Tensor] | None,
    secret: bytes | None = None,
) -> list[str]:
    """Check a log and return in words what was found.

    Args:
        log: whose records and links were checked when it was read.
        start: the weights that it begins with; without them nothing is said about weights.
        claimed: the weights that it shall lead to.
        secret: the swarm's key, to check signatures by.

    Raises:
        Malformed: if a signature is wrong.
        ValueError: if a comparison of weights in the log, or the claim, does not hold.
    """
    if secret is not None:
        for commit in log:
            check_commit(commit, log.manifest, secret)
    compared = sum(bool(commit.weights) for commit in log)
    found = [f"{len(log)} rounds from {log.first} on, every record and link whole, {_signed(log, secret)}"]
    if start is None:
        found.append(f"weights not checked: {compared} comparisons of the swarm wait for the weights to begin with")
        return found
    weights = {name: value.clone() for name, value in start.items()}
    log.replay(weights)
    found.append(f"{compared} comparisons of all weights hold; the weights after round {log.next_round - 1} are")
    found.append(fingerprint(weights).hex())
    if claimed is not None:
        if (theirs := fingerprint(claimed)) != fingerprint(weights):
            raise ValueError(
                f"the log does not lead to the claimed weights: {fingerprint(weights).hex()[:16]}… after round "
                f"{log.next_round - 1}, claimed {theirs.hex()[:16]}…"
            )
        found.append("which are the claimed ones, bit for bit")
    return found


def attendances(log: GradientLog) -> list[Attendance]:
    """Return who was there, by machine."""
    rounds: dict[int, list[int]] = {}
    sizes: dict[int, list[np.ndarray]] = {}
    for commit in log:
        for contribution in commit.contributions:
            rounds.setdefault(contribution.machine, []).append(commit.round)
            decoded = np.abs(decode(contribution.gradients, log.manifest.codec))
            sizes.setdefault(contribution.machine, []).append(decoded)
    found = []
    for machine, present in sorted(rounds.items()):
        magnitudes = np.concatenate(sizes[machine])
        share = len(present) / (log.next_round - present[0])
        typical = float(np.sqrt(np.square(magnitudes).mean()))
        found.append(
            Attendance(
                machine, present[0], present[-1], len(present), share, len(magnitudes), typical, float(magnitudes.max())
            )
        )
    return found


def _signed(log: GradientLog, secret: bytes | None) -> str:
    if not log.manifest.signed:
        return "not signed"
    return "every signature right" if secret is not None else f"signatures not checked (the key comes from {SECRET})"
