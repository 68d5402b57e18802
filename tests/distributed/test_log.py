"""The log: append-only, checksummed, idempotent; θ₀ and the log are the weights."""

import os
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.distributed import (
    Commit,
    Contribution,
    DamagedLog,
    GradientLog,
    Malformed,
    Manifest,
    Replica,
    fingerprint,
    in_process,
)
from aleator.distributed.codes import applied_gradients, decode, encode
from aleator.distributed.member import commit_bytes, contribution_bytes
from aleator.distributed.validity import check_commit, check_contribution
from tests.distributed.swarms import Machine, manifest, start

LENGTH = 6


@pytest.fixture(scope="module")
def member():
    """Two machines after six rounds."""
    one = Machine(in_process(), 2)
    one.go_to(LENGTH)
    return one


@pytest.fixture
def log(member):
    return GradientLog.from_bytes(member.place.log.to_bytes())


def test_log_turns_theta_0_into_the_weights(member, log):
    theta = start()
    assert log.replay(theta) == LENGTH
    assert fingerprint(theta) == member.weights


def test_log_replays_a_module_in_place_and_only_what_it_trains(member, log):
    model = torch.nn.Module()
    for name, value in start().items():
        model.register_parameter(name, torch.nn.Parameter(value))
    model.register_parameter("frozen", torch.nn.Parameter(torch.ones(3), requires_grad=False))
    log.replay(model)
    assert fingerprint({name: getattr(model, name) for name in start()}) == member.weights
    assert torch.equal(model.frozen, torch.ones(3))


def test_many_rounds_in_one_pass_are_the_bits_of_one_after_the_other(log):
    commits = list(log)
    first, second = (Replica(start(), log.manifest) for _ in range(2))
    first.apply_all(commits)
    for commit in commits:
        second.apply(commit)
    assert first.fingerprint() == second.fingerprint()


def test_snapshot_and_suffix_are_the_whole_log(member, log, tmp_path):
    theta = start()
    log.replay(theta, upto=3)
    suffix = log.suffix(3, fingerprint(theta), tmp_path / "suffix.log")
    suffix.close()
    again = GradientLog.open(tmp_path / "suffix.log")
    assert (again.first, len(again)) == (3, LENGTH - 3)
    again.replay(theta)
    assert fingerprint(theta) == member.weights


def test_other_weights_than_theta_0_are_refused(log):
    theta = start()
    theta["bias"][0] = torch.nextafter(theta["bias"][0], torch.tensor(9.0))
    with pytest.raises(ValueError, match="weights before round 0 must have the hash"):
        log.replay(theta)


def test_log_of_other_gradients_fails_the_comparison_of_weights(log):
    forged = GradientLog(log.manifest)
    for commit in log:
        contributions = commit.contributions
        if commit.round == 1:
            first = contributions[0]
            changed = Contribution(1, first.machine, bytes(len(first.gradients)), first.weights)
            contributions = (changed, *contributions[1:])
        forged.append(Commit(commit.round, commit.lr, forged.end, contributions))
    with pytest.raises(ValueError, match="weights before round 4 are not those that the swarm had"):
        forged.replay(start())


def test_appending_again_changes_nothing_and_a_gap_or_another_set_is_refused(log):
    before = log.to_bytes()
    assert not log.append(log.raw(2))
    assert log.to_bytes() == before
    commit = Commit.from_bytes(log.raw(2))
    with pytest.raises(ValueError, match="another agreed set for round 2"):
        log.append(Commit(2, commit.lr, commit.previous, commit.contributions[:1]))
    last = Commit.from_bytes(log.raw(5))
    moved = Contribution(7, 0, last.contributions[0].gradients)
    with pytest.raises(ValueError, match="gap in the log: round 7 cannot follow round 5"):
        log.append(Commit(7, last.lr, last.previous, (moved,)))
    other = Contribution(6, 0, last.contributions[0].gradients)
    with pytest.raises(ValueError, match="round 6 follows another round 5 than this log has"):
        log.append(Commit(6, last.lr, last.previous, (other,)))


def test_file_of_a_log_holds_what_memory_holds(log, tmp_path):
    path = tmp_path / "swarm.log"
    with GradientLog(log.manifest, path) as written:
        for commit in log:
            written.append(commit)
        assert path.read_bytes() == log.to_bytes()
        written.rewind(4)
    with GradientLog.open(path, writable=True) as again:
        assert again.next_round == 4
        again.append(log.raw(4))
    assert len(GradientLog.open(path)) == 5
    with pytest.raises(FileExistsError):
        GradientLog(log.manifest, path)


@pytest.mark.parametrize("missing", [1, 5, 40])
def test_log_that_is_cut_off_says_so_and_is_continued_from_its_last_whole_round(log, missing, tmp_path):
    path = tmp_path / "swarm.log"
    path.write_bytes(log.to_bytes())
    os.truncate(path, path.stat().st_size - missing)
    with pytest.raises(DamagedLog, match="cut off in its last record: it is whole up to round 4"):
        GradientLog.open(path)
    with GradientLog.open(path, writable=True) as repaired:
        assert repaired.cut_off > 0
        assert repaired.append(log.raw(5))
    assert path.read_bytes() == log.to_bytes()


@given(st.data())
def test_no_byte_of_a_log_can_change_unseen(member, data):
    content = bytearray(member.place.log.to_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        log = GradientLog.from_bytes(bytes(content))
    except DamagedLog:
        return
    with pytest.raises(ValueError, match=r"must have the hash|must be"):  # the head has no checksum, the weights have
        log.replay(start())


@given(st.binary(max_size=200))
def test_bytes_from_outside_are_a_message_or_malformed(content):
    for kind in (Contribution, Commit):
        try:
            found = kind.from_bytes(content)
        except Malformed:
            continue
        assert found.to_bytes() == content


def test_headers_are_as_documented(log):
    commits = list(log)
    for commit in commits:
        for contribution in commit.contributions:
            compared = commit.round % 4 == 0
            assert len(contribution.to_bytes()) == contribution_bytes(log.manifest, 2, compared=compared)
            assert contribution_bytes(log.manifest, 2, compared=compared) == 16 + 2 + 32 * compared
        sizes = [len(contribution.to_bytes()) for contribution in commit.contributions]
        assert len(commit.to_bytes()) == commit_bytes(log.manifest, sizes) == 28 + sum(sizes)


def test_traffic_is_the_number_of_gradients_and_the_documented_headers(member):
    traffic = member.place.traffic
    compared = 2  # rounds 0 and 4
    assert traffic.gradients_sent == LENGTH * 2 * 2
    assert traffic.headers_sent == LENGTH * 2 * 16 + compared * 2 * 32
    assert traffic.gradients_received == 0  # both machines are here
    assert traffic.headers_received == traffic.headers_sent + LENGTH * 28 + traffic.gradients_sent


# --- codecs and bounds


@pytest.mark.parametrize(("codec", "width", "within"), [("log8", 1, 0.0645), ("log9", 2, 0.0318), ("float32", 4, 6e-8)])
def test_codecs_bring_back_what_they_took(codec, width, within):
    values = [0.0, -0.0, 1.0, -3.7, 0.01, 2000.0, float("nan"), float("inf"), -float("inf")]
    content = encode(values, codec)
    assert len(content) == width * len(values)
    found = decode(content, codec)
    expected = [value if abs(value) < 1e4 else 0.0 for value in values]
    assert found == pytest.approx(expected, rel=within, abs=0)
    assert (abs(decode(encode([1e9, -1e9], codec), codec)) < 5000).all()


def test_median_over_machines_bounds_a_liar():
    robust = manifest(robust="median", codec="float32")
    numbers = {0: [1.0, -2.0], 1: [4000.0, -4000.0], 2: [0.5, 3.0]}
    contributions = tuple(Contribution(1, machine, encode(found, "float32")) for machine, found in numbers.items())
    applied = applied_gradients(Commit(1, 0.01, bytes(8), contributions), robust)
    assert [found.tolist() for found in applied] == [[1.0, -2.0], [3.0, -3.0], [0.5, 3.0]]


@pytest.mark.parametrize(
    ("contribution", "message"),
    [
        (Contribution(1, 0, b""), "1 to 4 gradients, got 0"),
        (Contribution(1, 0, bytes(5)), "1 to 4 gradients, got 5"),
        (Contribution(1, 0, b"\x40", bytes(32)), "hash of all weights every 4 rounds"),
        (Contribution(4, 0, b"\x40"), "hash of all weights every 4 rounds"),
        (Contribution(1, 0, b"\x40", b"", bytes(16)), "signed, which this swarm does not use"),
    ],
)
def test_contribution_that_the_swarm_does_not_accept_says_why(contribution, message):
    with pytest.raises(Malformed, match=message):
        check_contribution(contribution, manifest())


@pytest.mark.parametrize(
    ("codec", "content", "message"),
    [
        ("float32", struct.pack("<f", float("nan")), "not finite or beyond 4096"),
        ("float32", struct.pack("<f", 1e30), "not finite or beyond 4096"),
        ("float32", b"abc", "multiple of 4 bytes"),
        ("log9", b"\x00\x02", "more than nine bits"),
    ],
)
def test_not_a_number_never_counts(codec, content, message):
    with pytest.raises(Malformed, match=message):
        check_contribution(Contribution(1, 0, content), manifest(codec=codec))


def test_signature_is_of_every_byte_and_of_the_swarm():
    secret, signed = b"sixteen bytes ok", manifest(signed=True)
    contribution = Contribution(1, 3, b"\x40").sign(secret, signed.run)
    commit = Commit(1, 0.01, bytes(8), (contribution,)).sign(secret, signed.run)
    check_commit(Commit.from_bytes(commit.to_bytes()), signed, secret)
    with pytest.raises(Malformed, match="signature of it is wrong"):
        check_contribution(Contribution(1, 3, b"\x41", b"", contribution.signature), signed, secret)
    with pytest.raises(Malformed, match="signature of it is wrong"):
        check_contribution(Contribution(1, 4, b"\x40", b"", contribution.signature), signed, secret)
    with pytest.raises(Malformed, match="signature of it is wrong"):
        check_contribution(contribution, manifest(signed=True, run=8), secret)
    with pytest.raises(Malformed, match="is not signed"):
        check_commit(Commit(1, 0.01, bytes(8), (contribution,)), signed, secret)
    with pytest.raises(Malformed, match=r"lr must be 0\.01"):
        check_commit(Commit(1, 1e9, bytes(8), (contribution,)).sign(secret, signed.run), signed, secret)


# --- the manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codec": "log9"}, "codec must be log8 as in the swarm, got log9"),
        ({"directions": "gaussian"}, "directions must be rademacher as in the swarm, got gaussian"),
        ({"norm": "mean"}, "norm must be sqrt as in the swarm, got mean"),
        ({"code": "older", "lr": 1.0}, "the code version must be tests as in the swarm, got older"),
        ({"run": 8}, "the swarm's seed must be 7 as in the swarm, got 8"),
        ({"theta0": "ab" * 32}, "the hash of θ₀ must be"),
    ],
)
def test_another_manifest_is_refused_by_its_first_difference(changes, message):
    assert Manifest.from_bytes(manifest().to_bytes()) == manifest()
    with pytest.raises(ValueError, match=message):
        manifest(**changes).check_against(manifest())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04.", "must be JSON"),
        (b"[]", "must be JSON"),
        (b"{}", "has no code, codec"),
        (manifest().to_bytes().replace(b'"lr": 0.01', b'"lr": "0.01"'), "lr must be of type float"),
        (manifest().to_bytes().replace(b'"wire": 1', b'"wire": 9'), "wire format 9, this library reads 1"),
    ],
)
def test_manifest_from_outside_is_read_field_by_field(content, message):
    with pytest.raises(ValueError, match=message):
        Manifest.from_bytes(content)


def test_weights_that_somebody_else_changed_are_named(log):
    replica = Replica(start(), log.manifest)
    replica.apply(Commit.from_bytes(log.raw(0)))
    replica.parameters["bias"].add_(1.0)
    with pytest.raises(ValueError, match="between rounds, bias was changed"):
        replica.apply(Commit.from_bytes(log.raw(1)))
