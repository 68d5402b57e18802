"""A machine among others: how the set of contributions that a round consists of is agreed, whatever breaks.

A round is over when an agreed set for it is on the board; the first valid one counts, for everybody. Who proposes it:
anyone who has the contributions of all that are expected, or, after the time-out, of those that came in time.

    expected   the machines of the round before, and those that announced themselves and were not waited for in vain
               since, less those that left

Who is expected is an opinion, and only moves the moment of a proposal; who was there is part of the log. A machine that
comes too late is left out, announces itself and goes on; one that joins first applies what the log has.
Whoever cannot reach the board waits; when it is back, machines append again what it lost, from their own logs.

What is not well-formed, not signed where signatures are used, or from a machine that nobody announced, is left out, and
said once in a line.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aleator.distributed.log import GradientLog
from aleator.distributed.manifest import Manifest
from aleator.distributed.messages import (
    COMMIT_HEADER,
    CONTRIBUTION_HEADER,
    SIGNATURE_BYTES,
    WEIGHTS_BYTES,
    Commit,
    Contribution,
    Malformed,
    link,
    most_frequent,
)
from aleator.distributed.transport import Transport, Unreachable
from aleator.distributed.validity import check_commit, check_contribution

_log = logging.getLogger("aleator.distributed")

SLICE = 0.2
"""Seconds between two looks at whether a stop was requested."""
_AT_ONCE = 1000  # rounds that are read from the board in one go
_SAID = 10_000  # different lines, against a board that somebody fills with rubbish
_AHEAD = 64  # rounds before their turn that contributions are kept


class Forked(Exception):
    """The board has another agreed set for a round that this machine has applied: it lost the one that was there.

    Attributes:
        round: the first that differs.
    """

    def __init__(self, round: int) -> None:
        super().__init__(f"the board has another agreed set for round {round}")
        self.round = round


@dataclass
class Traffic:
    """Bytes of contributions and agreed sets: what they hold of gradients, and everything else in them."""

    gradients_sent: int = 0
    gradients_received: int = 0
    headers_sent: int = 0
    headers_received: int = 0

    def sent(self, contribution: Contribution) -> None:
        """Count a contribution that was handed in."""
        self.gradients_sent += len(contribution.gradients)
        self.headers_sent += len(contribution.to_bytes()) - len(contribution.gradients)

    def received(self, commit: Commit, own: Iterable[int]) -> None:
        """Count an agreed set. The gradients of this machine in it are counted as sent, and here with the headers."""
        others = sum(len(c.gradients) for c in commit.contributions if c.machine not in own)
        self.gradients_received += others
        self.headers_received += len(commit.to_bytes()) - others


@dataclass
class Member:
    """A process's place in a swarm, with one machine in it or several.

    Attributes:
        transport: the board.
        log: the rounds so far, this process's own copy.
        machines: the numbers of the machines here; empty until `join`.
        min_machines: a round needs so many contributions, however long that takes.
        round_timeout: seconds after which a round is agreed without those that are missing.
        secret: the key of signatures, where the manifest says that they are used.
        stop_requested: asked every fifth of a second while waiting.
        traffic: what was sent and received.
    """

    transport: Transport
    log: GradientLog
    machines: tuple[int, ...] = ()
    min_machines: int = 1
    round_timeout: float = 10.0
    secret: bytes | None = field(default=None, repr=False)
    stop_requested: Callable[[], bool] = lambda: False
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        """Check the options and that this machine and the swarm have the same manifest.

        Raises:
            ValueError: naming what is wrong.
        """
        if self.min_machines < 1:
            raise ValueError(f"min_machines must be at least 1, got {self.min_machines}")
        if not self.round_timeout > 0:
            raise ValueError(f"round_timeout must be positive, got {self.round_timeout}")
        if self.manifest.signed != (self.secret is not None):
            raise ValueError(f"a key for signatures must be {'given' if self.manifest.signed else 'left out'}")
        self._offers: dict[tuple[int, int], Contribution] = {}  # by round and machine
        self._said: set[object] = set()
        self._away = False
        self._compared = False  # the board with the own log, since this machine is here
        self._announced = False
        self._expected: dict[int, int] = {}  # in this round: what each announced last
        self._in_vain: dict[int, int] = {}  # by machine, the announcement after which it was missing
        self._handshake()

    @property
    def manifest(self) -> Manifest:
        """What the swarm has in common."""
        return self.log.manifest

    # --- coming and going ------------------------------------------------------------------------------------------

    def join(self, count: int = 1, *, again: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Take numbers for the machines of this process.

        Args:
            count: how many machines there are here.
            again: the numbers that they had before, to rejoin as the same.
        """
        for machine in again:
            self.transport.reserve(machine)
        self.machines = again or tuple(self.transport.enrol() for _ in range(count))
        self._announced = self._compared = False
        return self.machines

    def leave(self) -> None:
        """Tell the others not to wait for the machines here. Where the board is away, they find out by waiting."""
        if self._away:  # to try would take as long as an answer may
            return
        with contextlib.suppress(Unreachable, ValueError):
            for machine in self.machines:
                self.transport.announce(machine, -1)

    def catch_up(self, limit: int = _AT_ONCE) -> list[Commit]:
        """Return rounds that are agreed already and that the log did not have, and append them to it.

        Where the board is away there are none; `exchange` waits for it.

        Raises:
            Forked: if the board has another set for a round that the log has.
        """
        found: list[Commit] = []
        try:
            if not self._compared:
                self._mend()
            entries = self.transport.commits(self.log.next_round, limit)
        except Unreachable as error:
            self._lost(error)
            return found
        for _, content in self._first_valid(entries, self.log.next_round, self.log.end):
            commit = Commit.from_bytes(content)
            self._take(commit)
            found.append(commit)
        if entries and not found and self._entries_not_ours(entries):
            self._mend()
        return found

    # --- one round -------------------------------------------------------------------------------------------------

    def exchange(self, gradients: Mapping[int, bytes], weights: bytes = b"") -> Commit | None:
        """Hand in gradients for the next round and return what was agreed.

        Args:
            gradients: encoded, by machine.
            weights: SHA-256 of all weights, on rounds of comparison.

        Returns:
            the agreed set, appended to the log; None if a stop was requested before there was one.

        Raises:
            Forked: if the board has another set for a round that the log has.
        """
        number = self.log.next_round
        own = [self._contribution(number, machine, content, weights) for machine, content in sorted(gradients.items())]
        handed_in = False
        until = time.monotonic() + self.round_timeout
        while not self.stop_requested():
            try:
                if self._away:
                    self._come_back()
                    handed_in, self._announced = False, False
                    until = time.monotonic() + self.round_timeout
                if not self._compared:
                    self._mend()
                if not handed_in:
                    self._hand_in(own)
                    handed_in = True
                commit = self._agreed(number, until)
            except Unreachable as error:
                self._lost(error)
                time.sleep(SLICE)
                continue
            if commit is not None:
                if missing := [machine for machine in self.machines if machine not in commit.machines]:
                    _log.warning("round %d was agreed without machine %s", number, _listed(missing))
                    self._announced = False
                return commit
        return None

    def _agreed(self, number: int, until: float) -> Commit | None:
        """Look at the board, propose a set if it is time, and return the agreed one if there is one."""
        left = until - time.monotonic()
        contributions, sets = self.transport.poll(number, min(SLICE, left) if left > 0 else SLICE)
        for content in contributions:
            self._note(number, content)
        entries = [(number, content) for content in sets]
        if valid := self._first_valid(entries, number, self.log.end):
            commit = Commit.from_bytes(valid[0][1])
            self._take(commit)
            return commit
        if self._entries_not_ours(entries):
            self._mend()
        if sets:  # the board has something for the round that does not count, and would answer at once for ever
            time.sleep(SLICE / 10)
        offers = {machine: offer for (of, machine), offer in self._offers.items() if of == number}
        due = time.monotonic() >= until
        before = self._members(number - 1)
        if len(offers) < self.min_machines:
            if due:
                self._say_once(("few", number), "round %d waits for %d machines, %d are here",
                               number, self.min_machines, len(offers))  # fmt: skip
            return None
        announced = self.transport.announced()
        expected = {m for m in before if announced.get(m, 0) >= 0}
        expected |= {m for m, r in announced.items() if 0 <= r <= number and self._in_vain.get(m) != r}
        self._expected = {m: announced.get(m, 0) for m in expected}
        if due or expected <= offers.keys():
            if absent := sorted(expected - offers.keys()):
                _log.warning("machine %s did not answer in time; round %d goes on without", _listed(absent), number)
            self._propose(number, offers, before | announced.keys(), len(sets))
        return None

    def _propose(self, number: int, offers: dict[int, Contribution], known: set[int], place: int) -> None:
        """Write the set of these contributions, less those that do not count, as number ``place`` of the round."""
        for machine in offers.keys() - known:
            self._say_once(("unknown", machine), "machine %d is unknown to the swarm and left out", machine)
            del offers[machine]
        agreed_weights = most_frequent([offer.weights for offer in offers.values()]) if offers else b""
        for machine in [m for m, offer in offers.items() if offer.weights != agreed_weights]:
            _log.warning("machine %d has other weights before round %d and is left out of it", machine, number)
            del offers[machine]
        if len(offers) < self.min_machines:
            return
        previous = self.log.end
        assert previous is not None
        commit = Commit(number, self.manifest.lr, previous, tuple(offers[machine] for machine in sorted(offers)))
        if self.secret is not None:
            commit = commit.sign(self.secret, self.manifest.run)
        if not self.transport.append(number, place, commit.to_bytes()) and self.transport.last() < number - 1:
            self._mend()

    def _hand_in(self, own: list[Contribution]) -> None:
        for contribution in own:
            number, machine = contribution.round, contribution.machine
            if not self._announced:
                self.transport.announce(machine, number)
            self._offers[number, machine] = contribution
            self.transport.offer(number, machine, contribution.to_bytes())
            self.traffic.sent(contribution)
        self._announced = True

    def _contribution(self, number: int, machine: int, gradients: bytes, weights: bytes) -> Contribution:
        found = Contribution(number, machine, gradients, weights)
        return found if self.secret is None else found.sign(self.secret, self.manifest.run)

    def _note(self, number: int, content: bytes) -> None:
        """Keep a contribution to this round if it counts, and say so once if it does not."""
        try:
            offer = Contribution.from_bytes(content)
        except Malformed as error:
            self._say_once(("bytes", content), "a contribution is left out: %s", error)
            return
        # Others may be a round ahead; what is far ahead comes again or is agreed without this machine.
        if not number <= offer.round < number + _AHEAD or offer.machine in self.machines:
            return
        try:
            check_contribution(offer, self.manifest, self.secret)
        except Malformed as error:
            self._say_once((offer.machine, str(error)), "machine %d is left out from round %d on: %s",
                           offer.machine, number, error)  # fmt: skip
            return
        self._offers[offer.round, offer.machine] = offer

    def _first_valid(
        self, entries: Iterable[tuple[int, bytes]], number: int, previous: bytes | None
    ) -> list[tuple[int, bytes]]:
        return first_valid(entries, number, previous, self.manifest, self.secret, self._does_not_count)

    def _does_not_count(self, number: int, content: bytes, why: Malformed) -> None:
        self._say_once((number, content), "an entry at round %d does not count: %s", number, why)

    def _entries_not_ours(self, entries: Iterable[tuple[int, bytes]]) -> bool:
        """Whether there is a set of the swarm that follows another history, and that was not looked into yet."""
        strange = {content for at, content in entries if at == self.log.next_round and self._is_a_set(at, content)}
        new = {("strange", content) for content in strange} - self._said
        self._said |= new
        return bool(new)

    def _is_a_set(self, number: int, content: bytes) -> bool:
        with contextlib.suppress(Malformed):
            _checked(number, content, self.manifest, self.secret)
            return True
        return False

    def _take(self, commit: Commit) -> None:
        self.log.append(commit)
        self.traffic.received(commit, self.machines)
        self._offers = {key: offer for key, offer in self._offers.items() if key[0] > commit.round}
        self._in_vain |= {m: r for m, r in self._expected.items() if m not in commit.machines}
        self._expected = {}

    def _members(self, number: int) -> set[int]:
        return set() if number < self.log.first else set(Commit.from_bytes(self.log.raw(number)).machines)

    # --- the board was away ----------------------------------------------------------------------------------------

    def _lost(self, error: Unreachable) -> None:
        if not self._away:
            _log.warning("%s; waiting for it at round %d", error, self.log.next_round)
        self._away = True

    def _come_back(self) -> None:
        self._handshake()
        self._mend()
        self._away = False
        _log.warning("%s is back at round %d", self.transport.describe(), self.log.next_round)

    def _handshake(self) -> None:
        self.manifest.check_against(Manifest.from_bytes(self.transport.publish(self.manifest.to_bytes())))

    def _mend(self) -> None:
        """Compare the board with the own log, and append what it lost.

        Raises:
            Forked: if it has another set for a round that the log has.
        """
        at, previous = 0, link(self.manifest.to_bytes())
        last = self.transport.last()
        while at <= min(last, self.log.next_round - 1):
            entries = self.transport.commits(at, _AT_ONCE)
            valid = self._first_valid(entries, at, previous)
            if not valid:
                break
            for at, content in valid:
                if self.log.first <= at < self.log.next_round and self.log.raw(at) != content:
                    raise Forked(at)
                previous = link(content)
            at += 1
        self._compared = True
        appended = [n for n in range(at, self.log.next_round) if self.transport.append(n, 0, self.log.raw(n))]
        if appended:
            _log.warning("%s had lost rounds %d to %d; they were appended again from here",
                         self.transport.describe(), appended[0], appended[-1])  # fmt: skip

    def _say_once(self, what: object, message: str, *values: object) -> None:
        if what not in self._said and len(self._said) < _SAID:
            self._said.add(what)
            _log.warning(message, *values)


def first_valid(
    entries: Iterable[tuple[int, bytes]],
    number: int,
    previous: bytes | None,
    manifest: Manifest,
    secret: bytes | None = None,
    not_counting: Callable[[int, bytes, Malformed], None] | None = None,
) -> list[tuple[int, bytes]]:
    """Return of every round from a number on the first entry that counts: it is well-formed and follows the last.

    Args:
        entries: of a board, in order.
        number: the round to begin with.
        previous: the `link` of what precedes it.
        manifest: of the swarm.
        secret: the key of signatures; None leaves them unchecked.
        not_counting: told of every entry that is not well-formed.
    """
    found: list[tuple[int, bytes]] = []
    for at, content in entries:
        if at != number:
            continue
        try:
            commit = _checked(at, content, manifest, secret)
        except Malformed as error:
            if not_counting is not None:
                not_counting(at, content, error)
            continue
        if commit.previous == previous:
            found.append((at, content))
            number, previous = number + 1, link(content)
    return found


def _checked(number: int, content: bytes, manifest: Manifest, secret: bytes | None) -> Commit:
    commit = Commit.from_bytes(content)
    if commit.round != number:
        raise Malformed(f"it is for round {commit.round}")
    check_commit(commit, manifest, secret)
    return commit


def contribution_bytes(manifest: Manifest, gradients: int, *, compared: bool = False) -> int:
    """Return the bytes of a contribution with so many bytes of gradients, on a round of comparison or not."""
    return CONTRIBUTION_HEADER + gradients + WEIGHTS_BYTES * compared + SIGNATURE_BYTES * manifest.signed


def commit_bytes(manifest: Manifest, contributions: Iterable[int]) -> int:
    """Return the bytes of an agreed set besides its contributions, which have so many bytes each."""
    return COMMIT_HEADER + SIGNATURE_BYTES * manifest.signed + sum(contributions)


def _listed(machines: Iterable[int]) -> str:
    return ", ".join(map(str, machines))
