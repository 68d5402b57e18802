"""Swarms on a board in this process, and in two processes: whatever happens, replicas are equal to the last bit."""

from __future__ import annotations

import logging
import random
import time

import pytest

from aleator.distributed import (
    Contribution,
    Diverged,
    Member,
    Peer,
    StoreTransport,
    Unreachable,
    fingerprint,
    in_process,
)
from tests.distributed.swarms import Machine, manifest, slopes, start, together

FOUR = {"min_machines": 4}
SOON = {"round_timeout": 0.3}


@pytest.fixture(autouse=True)
def _lines(caplog):
    caplog.set_level(logging.WARNING, "aleator.distributed")


@pytest.fixture(scope="module")
def alone():
    """The weights after rounds of four machines that one process simulates."""
    member = Machine(in_process(), 4)
    found = {0: member.weights}
    while member.replica.round < 10:
        member.step()
        found[member.replica.round] = member.weights
    return found


def test_four_members_at_once_have_the_bits_of_four_machines_in_one_process(alone):
    board = in_process()
    members = [Machine(board, options=FOUR) for _ in range(4)]
    together(members, 10)
    assert {member.weights for member in members} == {alone[10]}
    assert [member.place.log.to_bytes() for member in members[1:]] == [members[0].place.log.to_bytes()] * 3


def test_joiner_by_replay_and_joiner_by_snapshot_are_bit_identical():
    board = in_process()
    first = Machine(board, 2, snapshot_every=4)
    first.go_to(10)
    by_replay, by_snapshot = Machine(board), Machine(board)
    by_replay.go_to(10)
    assert by_snapshot.peer.load_snapshot()
    assert by_snapshot.replica.round == 8
    by_snapshot.go_to(10)
    assert by_replay.weights == by_snapshot.weights == first.weights
    together([first, by_replay, by_snapshot], 14)
    assert first.weights == by_replay.weights == by_snapshot.weights
    assert list(first.place.log)[-1].machines == (0, 1, 2, 3)


def test_snapshot_of_other_weights_is_refused():
    board = in_process()
    first = Machine(board, snapshot_every=4)
    first.go_to(5)
    number, content = board.snapshot()
    board.save_snapshot(number, content[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="snapshot of round 4 does not hold the weights that the swarm agreed on"):
        Machine(board).peer.load_snapshot()
    board.save_snapshot(number, b"\x80\x04.")
    with pytest.raises(ValueError, match="snapshot of round 4 is damaged"):
        Machine(board).peer.load_snapshot()


def test_who_is_gone_is_waited_for_once_and_rejoins_as_the_same(caplog):
    board = in_process()
    stays, goes = (Machine(board, options={**SOON, "min_machines": 1 + (n == 0)}) for n in range(2))
    together([stays, goes], 3)
    stays.place.min_machines = 1
    begun = time.monotonic()
    stays.go_to(6)
    assert time.monotonic() - begun < 3 * SOON["round_timeout"]
    assert "machine 1 did not answer in time; round 3 goes on without" in caplog.text
    back = Machine(board, again=(1,), options=SOON)
    back.go_to(6)
    stays.place.min_machines = 2
    together([stays, back], 9)
    assert stays.weights == back.weights
    assert list(stays.place.log)[-1].machines == (0, 1)


def test_who_leaves_is_not_waited_for(caplog):
    board = in_process()
    stays, goes = (Machine(board, options={"min_machines": 1}) for _ in range(2))
    together([stays, goes], 3)
    goes.place.leave()
    begun = time.monotonic()
    stays.go_to(5)
    assert time.monotonic() - begun < 5  # the time-out is 10 s
    assert "did not answer" not in caplog.text


def test_straggler_is_left_out_and_goes_on(caplog):
    board = in_process()
    quick, slow = (Machine(board, options={**SOON, "min_machines": 1 + (n == 0)}) for n in range(2))
    together([quick, slow], 2)
    quick.place.min_machines = 1
    quick.go_to(4)  # round 2 times out, round 3 does not wait
    slow.place.exchange({1: b"\x40"})
    assert "round 2 was agreed without machine 1" in caplog.text
    together([quick, slow], 6)
    assert quick.weights == slow.weights


class Disorderly(StoreTransport):
    """Gives every contribution twice, those of other rounds among them, in any order."""

    def __init__(self, board: StoreTransport, seed: int) -> None:
        super().__init__(board._store)
        self._draw, self._old = random.Random(seed), []

    def poll(self, round, seconds):
        offers, sets = super().poll(round, seconds)
        self._old = [*self._old, *offers][-40:]
        mixed = [*offers, *self._old]
        self._draw.shuffle(mixed)
        return mixed, sets * 2


def test_duplicated_and_reordered_entries_change_nothing(alone):
    board = in_process()
    members = [Machine(Disorderly(board, seed), options=FOUR) for seed in range(4)]
    together(members, 8)
    assert {member.weights for member in members} == {alone[8]}


def test_what_does_not_count_is_left_out_and_named(caplog):
    board = in_process()
    honest = Machine(board, options=SOON)
    liar, stranger = Machine(board).place.machines[0], 7
    board.reserve(stranger)
    board.announce(liar, 0)
    honest.step()
    for number in range(1, 3):
        board.announce(liar, number)
        board.offer(number, liar, Contribution(number, liar, bytes(5)).to_bytes())
        board.offer(number, stranger, Contribution(number, stranger, b"\x40").to_bytes())
        honest.step()
    board.offer(3, 3, b"\x80\x04]\x94.")  # a pickle, say
    honest.step()
    assert [commit.machines for commit in honest.place.log] == [(0,)] * 4
    assert caplog.text.count("machine 1 is left out from round 1 on: it must hold 1 to 4 gradients, got 5") == 1
    assert caplog.text.count("machine 7 is unknown to the swarm and left out") == 1
    assert "a contribution is left out: a contribution is cut off" in caplog.text


def test_signed_swarm_excludes_who_has_no_key_and_ignores_their_sets(caplog):
    board, secret = in_process(), b"a secret of the swarm"
    honest = [Machine(board, options={"secret": secret, "min_machines": 2, **SOON}, signed=True) for _ in range(2)]
    together(honest, 2)
    liar = Machine(board, options={"secret": b"another, of nobody", **SOON}, signed=True)
    forged = honest[0].place._contribution(2, 0, b"\xff", b"")
    assert board.append(2, 0, forged.to_bytes())  # any bytes at the place of round 2
    board.offer(2, liar.place.machines[0], liar.place._contribution(2, liar.place.machines[0], b"\xff", b"").to_bytes())
    together(honest, 4)
    assert honest[0].weights == honest[1].weights
    assert all(commit.machines == (0, 1) for commit in honest[0].place.log)
    assert "machine 2 is left out from round 2 on: the signature of it is wrong" in caplog.text
    assert "an entry at round 2 does not count" in caplog.text


def test_machine_with_other_weights_is_told_and_made_equal_again(caplog):
    board = in_process()
    members = [Machine(board, options={"min_machines": 3 if n else 2, "round_timeout": 0.5}) for n in range(3)]
    together(members, 3)
    for member in members:
        member.place.min_machines = 2
    wrong = members[0].replica
    wrong.reset({name: tensor + 1e-7 for name, tensor in wrong.parameters.items()}, wrong.round)
    together(members, 10)
    assert len({member.weights for member in members}) == 1
    assert "the weights before round 4 are not the swarm's; they are built again from θ₀" in caplog.text


def test_machine_that_computes_other_numbers_says_so_and_stops():
    board = in_process()
    members = [Machine(board, options={"min_machines": 2, **SOON}) for _ in range(2)]
    together(members, 6)
    late = Machine(board, options=SOON)
    exact = late.replica.apply_all

    def inexact(commits):
        exact(commits)
        late.replica.parameters["bias"].add_(1e-7)
        late.replica.reset(late.replica.parameters, late.replica.round)

    late.replica.apply_all = inexact
    with pytest.raises(Diverged, match="before round 4 are not the swarm's, though they were made from its log"):
        late.go_to(6)


def test_board_with_another_history_is_followed(caplog):
    """A board lost round 3, another set was agreed there meanwhile, and then a machine with the old one comes back."""
    first, second = in_process(), in_process()
    old = Machine(first)
    old.go_to(5)
    other = Machine(second)
    for number in range(3):
        assert second.append(number, 0, old.place.log.raw(number))
    other.go_to(3)
    other.samples = 3
    other.go_to(8)
    back = Machine.__new__(Machine)
    back.samples, back.replica = 2, old.replica
    old.place.transport, old.place._away = second, True
    back.place, back.peer = old.place, old.peer
    back.step()
    assert "the board has another agreed set for round 3; the weights are built again from θ₀" in caplog.text
    back.go_to(8)
    assert back.weights == other.weights
    assert back.place.log.to_bytes() == other.place.log.to_bytes()


def test_snapshot_that_cannot_be_left_does_not_disturb_the_round():
    board = in_process()
    member = Machine(board, snapshot_every=4)

    def away(number, content):
        raise Unreachable("the board is away")

    board.save_snapshot = away
    member.go_to(6)
    theta = start()
    member.place.log.replay(theta)
    assert fingerprint(theta) == member.weights


def test_rejoining_with_the_history_that_a_board_lost_follows_the_board(caplog):
    first, second = in_process(), in_process()
    old = Machine(first)
    old.go_to(5)
    other = Machine(second)
    other.samples = 3
    other.go_to(7)
    old.place.transport = second
    old.place.join(again=(0,))
    old.go_to(7)
    assert "the board has another agreed set for round 0" in caplog.text
    assert old.weights == other.weights


def test_the_first_set_of_a_round_wins():
    board = in_process()
    assert board.append(0, 0, b"first")
    assert not board.append(0, 0, b"second")
    assert not board.append(2, 0, b"a gap")
    assert board.append(0, 1, b"third")
    assert board.commits(0, 9) == [(0, b"first"), (0, b"third")]


def test_a_step_applies_one_round_at_least():
    member = Machine(in_process())
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        member.peer.step(slopes(member.replica), 0)


def test_a_request_to_stop_is_met_while_waiting(caplog):
    asked_at = time.monotonic() + 0.3
    member = Machine(in_process(), options={"min_machines": 2, "stop_requested": lambda: time.monotonic() > asked_at})
    assert member.step() == 0
    assert time.monotonic() - asked_at < 0.9


# --- bad input


def test_another_codec_is_refused_at_the_handshake():
    board = in_process()
    Machine(board)
    with pytest.raises(ValueError, match="codec must be log8 as in the swarm, got float32"):
        Machine(board, codec="float32")
    with pytest.raises(ValueError, match="the code version must be tests as in the swarm, got newer"):
        Machine(board, code="newer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_machines": 0}, "min_machines must be at least 1, got 0"),
        ({"round_timeout": 0.0}, r"round_timeout must be positive, got 0\.0"),
        ({"secret": b"x"}, "a key for signatures must be left out"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Machine(in_process(), options=options)


def test_snapshots_fall_on_comparisons_of_weights():
    member = Machine(in_process())
    with pytest.raises(ValueError, match="snapshot_every must be a multiple of hash_every, 4, got 6"):
        Peer(member.place, member.replica, start, 6)


def test_weights_changed_between_probe_and_apply_are_refused():
    member = Machine(in_process())
    honest = slopes(member.replica)

    def careless(number, machine):
        found = honest(number, machine)
        member.replica.parameters["bias"].add_(1.0)
        return found

    with pytest.raises(ValueError, match="parameters must stay as they are between rounds, bias was changed"):
        member.peer.step(careless)


def test_key_is_needed_where_signatures_are():
    with pytest.raises(ValueError, match="a key for signatures must be given"):
        Member(in_process(), Machine(in_process(), options={"secret": b"s"}, signed=True).place.log)
    assert manifest(signed=True).signed
