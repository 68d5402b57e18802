"""Swarms on a real ``redis-server``: killed, cut off, with lost writes; nothing diverges, nothing agreed is lost."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aleator.distributed import Address, GradientLog, RedisTransport
from tests.distributed.swarms import Cable, Machine, Server, manifest, together

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")

HERE = Path(__file__).parent
SOON = {"round_timeout": 0.5}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path):
    own = Server(tmp_path / "redis")
    yield own
    own.kill()


@pytest.fixture(autouse=True)
def _lines(caplog):
    caplog.set_level(logging.WARNING, "aleator.distributed")


def board(server: Server, swarm: str = "default", port: int | None = None) -> RedisTransport:
    return RedisTransport(Address.parse(f"redis://127.0.0.1:{port or server.port}?swarm={swarm}"))


def whole(member: Machine) -> GradientLog:
    """The log again from its bytes, which checks every round of it."""
    return GradientLog.from_bytes(member.place.log.to_bytes())


def test_members_joiners_by_replay_and_by_snapshot_are_bit_identical(shared):
    members = [Machine(board(shared, "equal"), options={"min_machines": 3}, snapshot_every=4) for _ in range(3)]
    together(members, 9)
    by_replay, by_snapshot = Machine(board(shared, "equal")), Machine(board(shared, "equal"))
    by_replay.go_to(9)
    assert by_snapshot.peer.load_snapshot()
    by_snapshot.go_to(9)
    assert {member.weights for member in (*members, by_replay, by_snapshot)} == {members[0].weights}


def test_first_set_of_a_round_wins_and_none_may_follow_a_gap(shared):
    one, two = board(shared, "first"), board(shared, "first")
    assert one.append(0, 0, b"a")
    assert not two.append(0, 0, b"b")
    assert not two.append(2, 0, b"c")
    assert two.append(0, 1, b"d")
    assert not one.append(0, 1, b"e")
    assert one.append(1, 0, b"f")
    assert two.commits(0, 9) == [(0, b"a"), (0, b"d"), (1, b"f")]
    assert (one.last(), two.poll(1, 0.01)[1]) == (1, [b"f"])


def test_peer_that_is_killed_in_a_round_rejoins_as_the_same(shared, caplog):
    """A real process: SIGKILL between the hand-in of its gradients and the end of the round."""
    stays = Machine(board(shared, "killed"), options={**SOON, "min_machines": 2})
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(HERE.parents[1])]),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", _HANDS_IN_AND_WAITS.format(address=f"{shared.address}?swarm=killed")],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        runner = threading.Thread(target=stays.go_to, args=(3,), daemon=True)
        runner.start()
        assert child.stdout.readline() == "handed in 3\n"
        runner.join(30)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    stays.place.min_machines = 1
    stays.go_to(6)
    # What was handed in before the kill counts; then it is missing.
    assert [commit.machines for commit in stays.place.log][3:] == [(0, 1), (0,), (0,)]
    assert "machine 1 did not answer in time; round 4 goes on without" in caplog.text
    stays.place.min_machines = 2  # or it would be through before the other is back
    back = Machine(board(shared, "killed"), again=(1,), options={"min_machines": 2})
    together([stays, back], 9)
    assert stays.weights == back.weights
    assert list(whole(stays))[-1].machines == (0, 1)


_HANDS_IN_AND_WAITS = """
import time
from aleator.distributed import Address, RedisTransport
from aleator.distributed.codes import encode
from tests.distributed.swarms import Machine, slopes
member = Machine(RedisTransport(Address.parse("{address}")), options={{"min_machines": 2, "round_timeout": 60.0}})
member.go_to(3)
own = [member.place._contribution(3, 1, encode(slopes(member.replica)(3, 1), "log8"), b"")]
member.place._hand_in(own)
print("handed in 3", flush=True)
time.sleep(600)
"""


def during(members, rounds, act):
    """Let members go on while something happens."""
    errors = []

    def run():
        try:
            together(members, rounds)
        except BaseException as error:
            errors.append(error)

    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    act()
    runner.join(60)
    assert not runner.is_alive(), "the members are stuck"
    if errors:
        raise errors[0]


def test_server_that_is_killed_and_started_again_loses_nothing(server, caplog):
    members = [Machine(board(server), options={"min_machines": 2}) for _ in range(2)]

    def restart():
        while members[0].replica.round < 5:
            time.sleep(0.01)
        server.kill()
        time.sleep(0.5)
        server.start()

    during(members, 60, restart)
    assert members[0].weights == members[1].weights
    assert caplog.text.count(f"{server.address} cannot be reached") == 2  # once for each member
    assert "is back at round" in caplog.text
    late = Machine(board(server))
    late.go_to(60)
    assert late.weights == members[0].weights


@pytest.mark.parametrize("how", ["last entry cut off", "everything lost"])
def test_what_a_server_lost_in_a_power_cut_is_appended_again(server, how, caplog):
    members = [Machine(board(server), options={"min_machines": 2}) for _ in range(2)]
    together(members, 6)
    agreed = members[0].place.log.to_bytes()
    server.kill()
    if how == "everything lost":
        for file in (server.folder / "appendonlydir").iterdir():
            file.unlink()
    else:
        server.cut_off(20)  # in the middle of the entry of round 5
    server.start()
    together(members, 9)
    # Both members see it, and each may append a part before the other does.
    said = re.findall(r"had lost rounds (\d) to (\d); they were appended again from here", caplog.text)
    assert min(first for first, _ in said) == ("0" if how == "everything lost" else "5")
    assert max(last for _, last in said) == "5"
    assert members[0].weights == members[1].weights
    assert members[0].place.log.to_bytes().startswith(agreed)
    late = Machine(board(server))
    late.go_to(9)
    assert late.weights == members[0].weights


def test_connection_that_is_cut_for_a_while_divides_nothing(shared, caplog):
    cable = Cable(shared.port)
    here = Machine(board(shared, "cut"), options={**SOON, "min_machines": 1})
    there = Machine(board(shared, "cut", cable.port), options={**SOON, "min_machines": 1})
    try:
        together([here, there], 3)

        def cut():
            cable.cut()
            time.sleep(1.5)
            cable.mend()

        during([here, there], 8, cut)
    finally:
        cable.close()
    late = Machine(board(shared, "cut"))
    late.go_to(8)
    assert here.weights == there.weights == late.weights
    assert caplog.text.count("cannot be reached") == 1


def test_a_request_to_stop_is_met_within_a_second_while_the_server_is_away(server):
    asked = threading.Event()
    member = Machine(board(server), options={"min_machines": 2, "stop_requested": asked.is_set})
    runner = threading.Thread(target=member.step, daemon=True)
    runner.start()
    time.sleep(0.3)
    server.kill()
    time.sleep(0.5)
    asked.set()
    begun = time.monotonic()
    runner.join(10)
    assert time.monotonic() - begun < 1.0


def test_a_request_to_stop_and_the_leave_take_less_than_a_second_while_the_server_answers_nothing(server):
    asked = threading.Event()
    member = Machine(board(server), options={"min_machines": 2, "stop_requested": asked.is_set})

    def go():
        member.step()
        member.place.leave()

    runner = threading.Thread(target=go, daemon=True)
    runner.start()
    time.sleep(0.3)
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(0.95)  # the next answer is waited for since 0.05 s or less
    asked.set()
    begun = time.monotonic()
    runner.join(10)
    assert time.monotonic() - begun < 1.0


# --- bad input


def test_peer_of_another_code_version_is_refused(shared):
    Machine(board(shared, "version"))
    with pytest.raises(ValueError, match="the code version must be tests as in the swarm, got newer"):
        Machine(board(shared, "version"), code="newer")


def test_password_comes_from_the_environment_and_a_wrong_one_is_one_line(tmp_path, monkeypatch):
    server = Server(tmp_path, "--requirepass", "correct horse")
    try:
        for wrong in (None, "wrong"):
            monkeypatch.delenv("ALEATOR_REDIS_PASSWORD", raising=False)
            if wrong:
                monkeypatch.setenv("ALEATOR_REDIS_PASSWORD", wrong)
            with pytest.raises(ValueError, match=r"the password|a password") as raised:
                Machine(board(server))
            assert "ALEATOR_REDIS_PASSWORD" in str(raised.value)
            assert "\n" not in str(raised.value)
        monkeypatch.setenv("ALEATOR_REDIS_PASSWORD", "correct horse")
        Machine(board(server)).go_to(2)
    finally:
        server.kill()


def test_server_that_is_not_there_is_one_line():
    with pytest.raises(ValueError, match=r"redis://127\.0\.0\.1:1 cannot be reached"):
        RedisTransport(Address.parse("redis://127.0.0.1:1"))


def test_user_that_may_do_only_what_the_documentation_lists_can_take_part(server):
    """The access rule of docs/distributed-training.md, and one without streams."""
    admin = server.client()
    rule = (
        "on nopass resetkeys ~aleator:* -@all +ping +get +set +incr +incrby +hset +hgetall +hkeys +xadd +xread +xrange"
    )
    admin.execute_command("ACL", "SETUSER", "peer", *rule.split(), "+xrevrange", "+evalsha", "+script|load", "+eval")
    admin.execute_command("ACL", "SETUSER", "none", "on", "nopass", "-@all", "+ping")
    member = Machine(RedisTransport(Address.parse(f"redis://peer@127.0.0.1:{server.port}")), snapshot_every=4)
    member.go_to(5)
    with pytest.raises(ValueError, match="does not permit what a swarm needs"):
        Machine(RedisTransport(Address.parse(f"redis://none@127.0.0.1:{server.port}")))
    admin.close()


def test_tls_is_used_and_a_certificate_of_nobody_refused(tmp_path):
    pem, key = tmp_path / "server.pem", tmp_path / "server.key"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate with")
    # The plain port is for the fixture's question whether the server is up.
    server = Server(tmp_path / "redis", "--tls-port", "0")
    server.kill()
    tls = server.port + 1 if server.port < 65535 else server.port - 1
    server.options = ("--tls-port", str(tls), "--tls-cert-file", str(pem), "--tls-key-file", str(key),
                      "--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no")  # fmt: skip
    server.start()
    try:
        Machine(RedisTransport(Address.parse(f"rediss://127.0.0.1:{tls}?ca={pem}"))).go_to(2)
        with pytest.raises(ValueError, match="certificate verify failed"):
            RedisTransport(Address.parse(f"rediss://127.0.0.1:{tls}"))
    finally:
        server.kill()


def test_swarms_of_one_server_do_not_meet(shared):
    one, two = Machine(board(shared, "left")), Machine(board(shared, "right"), codec="float32")
    one.go_to(3)
    two.go_to(2)
    assert (one.place.transport.last(), two.place.transport.last()) == (2, 1)
    assert manifest(codec="float32") == two.place.manifest


@pytest.mark.parametrize(
    ("machine", "number"),
    [("4294967295", "0"), ("9223372036854775807", "0"), ("-3", "0"), ("--3", "0"), ("all", "0"), ("9" * 5000, "0"),
     ("7", "--1"), ("7", "9" * 5000), ("007", "0")],
    ids=lambda word: word[:10],
)  # fmt: skip
def test_a_machine_that_cannot_be_keeps_nobody_out(shared, machine, number):
    swarm = f"liar-{machine[:10]}-{number[:10]}"
    first = Machine(board(shared, swarm), options=SOON)
    first.go_to(1)
    first.place.transport._client.hset(f"aleator:{swarm}:announced", machine, number)
    second = Machine(board(shared, swarm), options=SOON)
    together([first, second], 4)
    assert (first.place.machines, second.place.machines) == ((0,), (1,))
    assert first.weights == second.weights


def test_a_server_that_counts_from_too_low_gives_nobodys_number_twice(shared):
    transport = board(shared, "forgot")
    for machine in (0, 1, 4):
        transport.announce(machine, 3)
    assert [transport.enrol() for _ in range(2)] == [5, 6]
