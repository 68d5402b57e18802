"""A peer: a machine's weights, its log and its place in the swarm, in step with each other.

    step:   rounds that are agreed already are applied, many in one pass;
            else: gradients are estimated, handed in, and what is agreed is applied

So joining, falling behind and coming back after a kill are one thing: applying the log up to the present. Where the
board turns out to have another history, or a comparison of weights fails, the weights are built again from θ₀.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import safetensors
import safetensors.torch
from torch import Tensor

from aleator.distributed.codes import encode
from aleator.distributed.log import GradientLog
from aleator.distributed.member import Forked, Member
from aleator.distributed.messages import Commit
from aleator.distributed.replica import Replica, fingerprint
from aleator.distributed.transport import Unreachable

_log = logging.getLogger("aleator.distributed")

_IN_ONE_PASS = 64  # rounds of a replay


class Diverged(RuntimeError):
    """The weights are not those of the swarm, though they were made from the same log."""


@dataclass(frozen=True)
class Step:
    """What a peer did.

    Attributes:
        applied: rounds that were applied.
        commit: the round that this machine took part in, or None where it only caught up or was asked to stop.
    """

    applied: int
    commit: Commit | None = None


class Peer:
    """A replica in a swarm.

    Args:
        member: its place in the swarm, where its log is.
        replica: the weights before the round ``replica.round``, which its log holds or ends with.
        start: returns θ₀, to build the weights again from.
        snapshot_every: the first machine of a round leaves the weights on the board this often, for those who join
            by `load_snapshot`; a multiple of the manifest's ``hash_every``. None: never.

    Raises:
        ValueError: if ``snapshot_every`` is no such multiple.
    """

    def __init__(
        self,
        member: Member,
        replica: Replica,
        start: Callable[[], Mapping[str, Tensor]],
        snapshot_every: int | None = None,
    ) -> None:
        compared = member.manifest.hash_every
        if snapshot_every is not None and (snapshot_every < 1 or snapshot_every % compared):
            raise ValueError(f"snapshot_every must be a multiple of hash_every, {compared}, got {snapshot_every}")
        self.member, self.replica = member, replica
        self._start, self._snapshot_every = start, snapshot_every
        self._rebuilt_at = -1

    @property
    def log(self) -> GradientLog:
        """The rounds so far."""
        return self.member.log

    def step(self, gradients: Callable[[int, int], Sequence[float]], most: int = _IN_ONE_PASS) -> Step:
        """Go on by a round, or by several that are agreed already.

        Args:
            gradients: returns the gradients of a round and a machine, at the weights as they are.
            most: rounds to apply at once, at least 1.

        Raises:
            ValueError: if ``most`` is below 1, somebody else changed the weights between rounds, or the board refuses
                this machine.
            Diverged: if a comparison of weights failed twice at the same round.
        """
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most}")
        try:
            if self.replica.round == self.log.next_round:
                self.member.catch_up()
            if self.replica.round < self.log.next_round:
                return Step(self._apply(most))
            return self._take_part(gradients)
        except Forked as fork:
            _log.warning("%s; the weights are built again from θ₀", fork)
            self.log.rewind(fork.round)
            self._rebuild()
            return Step(0)

    def load_snapshot(self, before: int | None = None) -> bool:
        """Begin from the weights that are on the board instead of θ₀, and return whether there were any.

        The log is fetched whole, and the hash that the swarm agreed on has to fit.

        Args:
            before: do not take weights before this round or a later one.

        Raises:
            ValueError: if the board's weights are not those of the swarm.
        """
        found = self.member.transport.snapshot()
        if found is None:
            return False
        number, content = found
        if before is not None and number >= before:
            return False
        while self.log.next_round <= number and self.member.catch_up():
            pass
        if self.log.next_round <= number:
            return False
        try:
            weights = safetensors.torch.load(content)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f"the snapshot of round {number} is damaged: {error}") from None
        if fingerprint(weights) != Commit.from_bytes(self.log.raw(number)).weights:
            raise ValueError(f"the snapshot of round {number} does not hold the weights that the swarm agreed on")
        self.replica.reset(weights, number)
        return True

    def _apply(self, most: int) -> int:
        """Apply rounds that the log has, up to the next comparison of weights, and return how many."""
        begin = self.replica.round
        first = Commit.from_bytes(self.log.raw(begin))
        if not self._are_the_swarms(first):
            return 0
        every = self.log.manifest.hash_every
        end = min(self.log.next_round, begin + most, (begin // every + 1) * every)
        later = (Commit.from_bytes(self.log.raw(number)) for number in range(begin + 1, end))
        self.replica.apply_all([first, *islice(later, end - begin)])
        return end - begin

    def _take_part(self, gradients: Callable[[int, int], Sequence[float]]) -> Step:
        number, manifest = self.log.next_round, self.log.manifest
        weights = self.replica.fingerprint() if number % manifest.hash_every == 0 else b""
        own = {machine: encode(gradients(number, machine), manifest.codec) for machine in self.member.machines}
        self.replica.check_untouched()
        commit = self.member.exchange(own, weights)
        if commit is None or not self._are_the_swarms(commit):
            return Step(0)
        leaves = self._snapshot_every is not None and number % self._snapshot_every == 0
        if leaves and commit.machines[0] in self.member.machines:
            with contextlib.suppress(Unreachable):  # the next one will do
                whole = {name: tensor.contiguous() for name, tensor in self.replica.parameters.items()}
                self.member.transport.save_snapshot(number, safetensors.torch.save(whole))
        self.replica.apply(commit)
        return Step(1, commit)

    def _are_the_swarms(self, commit: Commit) -> bool:
        """Whether the weights are those that the swarm had before a round; if not they are built again."""
        if not commit.weights or self.replica.fingerprint() == commit.weights:
            return True
        if self._rebuilt_at == commit.round:
            raise Diverged(
                f"the weights before round {commit.round} are not the swarm's, though they were made from its log: "
                f"this machine computes other numbers"
            )
        _log.warning("the weights before round %d are not the swarm's; they are built again from θ₀", commit.round)
        self._rebuilt_at = commit.round
        self._rebuild()
        return False

    def _rebuild(self) -> None:
        self.replica.reset(self._start(), 0)
