"""The recipe ``decentral``: a run as a machine of a swarm, with its log, its peers, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from aleator.cli import main
from aleator.distributed import (
    Address,
    Commit,
    Contribution,
    GradientLog,
    RedisTransport,
    fingerprint,
    tcp_store,
)
from aleator.distributed.messages import link
from aleator.distributed.reading import log_of_swarm
from aleator.experiment import Interrupted, RunOptions, run
from aleator.experiment.files import read_json
from aleator.experiment.load import load_run
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes.decentral import Decentral
from aleator.recipes.decentral.machine import Machine
from aleator.recipes.decentral.task import SwarmedTask
from tests.distributed.swarms import Server

QUICK = RunOptions(trackers=(), log_every=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    own = Server(tmp_path_factory.mktemp("redis"))
    yield own
    own.kill()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three machines in one process, with its log in a file."""
    place = tmp_path_factory.mktemp("decentral")
    recipe = Decentral(rounds=6, machines=3, hash_every=3, log=place / "swarm.log")
    return place, run(recipe, place / "run", QUICK, name="decentral")


def test_run_counts_its_gradients_in_bytes_and_its_forward_passes(finished):
    place, result = finished
    assert result["test"]["gradient_bytes_sent"] == 6 * 3
    assert result["test"]["bytes_sent"] == 6 * 3 * (1 + 16) + 2 * 3 * 32
    assert result["test"]["forward_passes"] == 6 * 3 * 2
    rows = [row["metrics"] for row in read_metrics(place / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert [row["bytes_gradients_sent"] for row in rows] == [3.0 * k for k in range(1, 7)]
    assert {row["machines"] for row in rows} == {3.0}
    shown = [exhibit["heading"] for exhibit in read_json(place / "run" / "exhibits.json")["exhibits"]]
    assert shown == ["Loss against rounds", "Loss against forward passes", "Loss against bytes sent"]


def test_log_of_a_run_leads_from_its_start_to_its_model(finished, capsys, tmp_path):
    place, _ = finished
    log, start, model = place / "swarm.log", place / "run" / "start.safetensors", place / "run" / "model.safetensors"
    assert main(["log", "verify", str(log), "--start", str(start), "--claimed", str(model)]) == 0
    said = capsys.readouterr().out
    assert "6 rounds from 0 on, every record and link whole" in said
    assert "which are the claimed ones, bit for bit" in said
    assert main(["log", "replay", str(log), "--start", str(start), "--to", str(tmp_path / "again.safetensors")]) == 0
    assert fingerprint(load_file(tmp_path / "again.safetensors")) == fingerprint(load_file(model))
    assert main(["log", "verify", str(log), "--start", str(start), "--claimed", str(start)]) == 2
    assert "the log does not lead to the claimed weights" in capsys.readouterr().err


def test_log_of_a_signed_swarm_is_checked_by_who_has_the_key(server, tmp_path, monkeypatch, capsys):
    """An entry of somebody without the key comes first on the board: the machines pass over it, so must a reader."""
    address = f"{server.address}?swarm=signed"
    monkeypatch.setenv("ALEATOR_SWARM_KEY", "sixteen bytes or more")
    machine = Machine(Decentral(join=address), 0)
    board = RedisTransport(Address.parse(address))
    machine.join(board, lambda: False)
    first = link(machine.manifest.to_bytes())
    theta0 = bytes.fromhex(machine.manifest.theta0)
    forged = Commit(0, machine.manifest.lr, first, (Contribution(0, 0, b"\x7f", theta0, bytes(16)),), bytes(16))
    board.append(0, 0, forged.to_bytes())
    machine.step(1)
    assert machine.replica.round == 1
    machine.log.suffix(0, theta0, tmp_path / "right.log").close()
    log = GradientLog(machine.manifest, tmp_path / "forged.log")
    log.append(forged)
    log.close()
    assert main(["log", "verify", address]) == 0
    assert main(["log", "verify", str(tmp_path / "right.log")]) == 0
    assert capsys.readouterr().out.count("1 rounds from 0 on, every record and link whole, every signature right") == 2
    assert log_of_swarm(Address.parse(address), machine.secret).to_bytes() == machine.log.to_bytes()
    assert main(["log", "verify", str(tmp_path / "forged.log")]) == 2
    assert "the signature of the agreed set of round 0 is wrong" in capsys.readouterr().err
    monkeypatch.setenv("ALEATOR_SWARM_KEY", "another key of nobody")
    assert main(["log", "verify", address]) == 2
    assert "no round of the swarm at redis://127.0.0.1" in capsys.readouterr().err
    monkeypatch.delenv("ALEATOR_SWARM_KEY")
    assert main(["log", "verify", str(tmp_path / "forged.log")]) == 0
    assert "signatures not checked (the key comes from ALEATOR_SWARM_KEY)" in capsys.readouterr().out


def test_snapshot_of_a_later_round_than_the_run_has_is_not_taken(server, tmp_path):
    address = f"{server.address}?swarm=later"
    other = Other(address, hash_every=2, snapshot_every=2)
    for _ in range(5):
        other.machine.step(64)  # the snapshot is that of round 4
    for rounds in (3, 4, 5):
        recipe = Decentral(join=address, rounds=rounds, hash_every=2, enter_by="snapshot")
        result = run(recipe, tmp_path / str(rounds), QUICK, name="decentral")
        assert result["progress"] == result["test"]["rounds"] == rounds
        weights = {name: value.clone() for name, value in other.machine.start.items()}
        other.machine.log.replay(weights, upto=rounds)
        assert fingerprint(weights) == fingerprint(load_file(tmp_path / str(rounds) / "model.safetensors"))


def test_machine_of_a_swarm_is_not_resumed_as_machines_of_one_process():
    joined, alone = (
        SwarmedTask(recipe, Streams(0), Accelerator(cpu=True))
        for recipe in (Decentral(join="redis://127.0.0.1:1"), Decentral())
    )
    joined._numbers = (2,)
    alone.load_state_dict(joined.state_dict())
    with pytest.raises(ValueError, match="join must be given: this run is one machine of a swarm"):
        alone.begin()


def test_process_that_is_through_with_all_rounds_breaks_nothing_and_a_killed_one_does():
    class Ended:
        def __init__(self, code):
            self.code = code

        def poll(self):
            return self.code

    task = SwarmedTask(Decentral(peers=2), Streams(0), Accelerator(cpu=True))
    task._others = [Ended(0)]
    assert task._broken() is None
    task._others = [Ended(-9)]
    assert task._broken() == "machine 1 ended with exit code -9, and a round needs 2"


def test_whole_numbers_are_rates_as_well():
    manifest = Machine(Decentral(lr=1, weight_decay=0), 0).manifest
    assert (manifest.lr, manifest.weight_decay) == (1.0, 0.0)


def test_loaded_run_evaluates_as_it_did(finished):
    place, result = finished
    task = load_run(place / "run").task
    assert task.evaluate("test")["loss"] == result["test"]["loss"]


def test_two_processes_are_bit_identical_after_50_rounds(tmp_path):
    """A real process beside this one, with other batches; what one process computes for both machines is the same.

    Every seventh round holds the hash of all weights of either process.
    """
    options = {"rounds": 50, "hash_every": 7}
    alone = run(Decentral(machines=2, log=tmp_path / "1.log", **options), tmp_path / "1", QUICK, name="decentral")
    both = run(Decentral(peers=2, log=tmp_path / "2.log", **options), tmp_path / "2", QUICK, name="decentral")
    log = GradientLog.open(tmp_path / "2.log")
    assert [commit.machines for commit in log] == [(0, 1)] * 50
    assert {len({c.weights for c in commit.contributions}) for commit in log} == {1}
    assert log.to_bytes() == (tmp_path / "1.log").read_bytes()
    weights = [fingerprint(load_file(tmp_path / name / "model.safetensors")) for name in "12"]
    assert weights[0] == weights[1]
    assert alone["test"]["loss"] == both["test"]["loss"]


def test_processes_end_when_what_started_them_is_killed(tmp_path):
    starter = subprocess.Popen([sys.executable, "-c", _STARTS_A_PEER], stdout=subprocess.PIPE, text=True)
    peer = int(starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    until = time.monotonic() + 20
    while Path(f"/proc/{peer}").exists() and "Z" not in Path(f"/proc/{peer}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < until, "the peer lives on"
        time.sleep(0.02)


_STARTS_A_PEER = """
import time
from aleator.recipes.decentral import Decentral
from aleator.recipes.decentral.local_peer import launch
print(launch(Decentral(peers=2), 0, 1, 1).pid, flush=True)
time.sleep(600)
"""


class Other(threading.Thread):
    """Another machine of a swarm on Redis, in this process, until it is told to stop."""

    def __init__(self, address: str, rounds: int = 10**6, seed: int = 0, **options: object) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.machine = Machine(Decentral(join=address, **options), seed)
        self.machine.join(RedisTransport(Address.parse(address)), self.ended.is_set)
        self.rounds = rounds

    def run(self) -> None:
        while self.machine.replica.round < self.rounds and not self.ended.is_set():
            self.machine.step(64)
        self.machine.peer.member.leave()


def test_run_joins_a_swarm_that_is_under_way_and_ends_with_its_weights(server, tmp_path):
    address = f"{server.address}?swarm=under-way"
    other = Other(address, hash_every=4)
    for _ in range(5):
        other.machine.step(64)
    other.machine.peer.member.min_machines = 2
    other.start()
    try:
        run(Decentral(join=address, rounds=12, hash_every=4), tmp_path / "run", QUICK, name="decentral")
    finally:
        other.ended.set()
        other.join(20)
    weights = {name: value.clone() for name, value in other.machine.start.items()}
    other.machine.log.replay(weights, upto=12)
    assert fingerprint(weights) == fingerprint(load_file(tmp_path / "run" / "model.safetensors"))
    assert any(commit.machines == (0, 1) for commit in other.machine.log)
    assert main(["log", "stat", address]) == 0


def test_stop_is_met_while_waiting_and_a_resume_rejoins_as_the_same_machine(server, tmp_path, monkeypatch):
    """The process waits for a second machine that never comes, is interrupted, and goes on when one is there."""
    monkeypatch.chdir(tmp_path)
    address = f"{server.address}?swarm=resumed"
    recipe = Decentral(join=address, rounds=4, min_machines=2)
    asked: list[float] = []

    def ask() -> None:
        board = RedisTransport(Address.parse(address))
        while 0 not in board.announced():  # until it has handed in its gradients, and waits
            time.sleep(0.02)
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Interrupted, match="interrupted at 0 rounds; the state is saved"):
        run(recipe, tmp_path / "run", QUICK, name="decentral")
    assert time.monotonic() - asked[0] < 10  # of that a second of waiting; the rest is the evaluation and the files
    other = Other(address, rounds=4, min_machines=2)
    other.start()
    moved = Decentral(join=f"redis://localhost:{server.port}?swarm=resumed", rounds=4, min_machines=2)
    result = run(moved, tmp_path / "run", QUICK, name="decentral", resume=True)  # another address: the same run
    other.join(20)
    assert result["progress"] == 4
    assert list(other.machine.log)[-1].machines == (0, 1)
    config = (tmp_path / "run" / "config.json").read_text()
    assert json.loads(config)["options"]["join"] == address


def test_batches_and_directions_are_those_of_the_address_alone():
    first, second = Machine(Decentral(), 3), Machine(Decentral(), 3)
    first._gradients(0, 0)
    assert first._gradients(5, 2) == second._gradients(5, 2)
    assert first._gradients(5, 1) != second._gradients(5, 2)
    assert Machine(Decentral(), 4).manifest.theta0 != first.manifest.theta0
    assert first.run == Streams(3).key("swarm")


def test_gradient_that_is_not_finite_travels_as_zero_and_is_counted():
    machine = Machine(Decentral(), 0)
    machine.problem.loss = lambda theta, batch: torch.tensor(float("nan"))
    assert machine._gradients(0, 0) == [0.0]
    assert machine.not_finite == 1


def test_log_that_was_cut_off_goes_on_and_another_swarms_is_refused(finished, tmp_path, caplog):
    place, _ = finished
    log = tmp_path / "swarm.log"
    shutil.copy(place / "swarm.log", log)
    os.truncate(log, log.stat().st_size - 3)
    run(Decentral(rounds=6, machines=3, hash_every=3, log=log), tmp_path / "run", QUICK, name="decentral")
    assert "swarm.log held 5 rounds: they are computed again from round 0" in caplog.text
    assert log.read_bytes() == (place / "swarm.log").read_bytes()
    with pytest.raises(ValueError, match=r"log must be a file of this swarm or a new one, got .*swarm\.log"):
        run(Decentral(rounds=6, lr=0.5, log=log), tmp_path / "other", QUICK, name="decentral")
    assert not (tmp_path / "other").exists() or not any((tmp_path / "other").glob("*.json"))


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--eps", "0"), "eps must be positive and finite, got 0.0"),
        (("--lr", "-1"), "lr must be positive and finite, got -1.0"),
        (("--rounds", "0"), "rounds must be at least 1, got 0"),
        (("--shards", "5000"), "shards must be at most the number of training examples, 1237, got 5000"),
        (("--peers", "1"), "peers must be in [2, 64], got 1"),
        (("--join", "redis://:hunter2@host"), "put it into ALEATOR_REDIS_PASSWORD, got redis://:***@host"),
        (("--join", "redis://me:hun/ter@2@host"), "got redis://me:***@host"),
        (("--join", "redis://host?password=hunter2"), "got redis://host?password=***"),
        (("--join", "redis:/:hunter2@host"), "must hold no password"),
        (("--join", "redis:hunter2@host"), "must hold no password"),
        (("--join", "me:hunter2@host:6379"), "must hold no password"),
        (("--join", ":hunter2@host:6379"), "must hold no password"),
        (("--join", "redis//:hunter2@host"), "must hold no password"),
        (("--join", "redis://me:hunter2"), "join: the port of an address must be a number in [0, 65535]"),
        (("--join", "redis://me:hun ter@2@host"), "must hold no spaces"),
        (("--peers", "redis://:hunter2@host"), "--peers must be an integer or None, got 'redis://:***@host'"),
        (("redis://:hunter2@host",), "unexpected 'redis://:***@host'"),
        (("--join", "http://host"), "must begin with one of redis://, rediss://, unix://, store://"),
        (("--join", "store://host"), "an address with store:// must have a port"),
        (("--join", "redis://127.0.0.1:1"), "redis://127.0.0.1:1 cannot be reached"),
        (("--join", "store://127.0.0.1:1"), "there is no store at 127.0.0.1:1"),
        (("--method", "backprop", "--codec", "log9"), "codec cannot be used with method backprop, got log9"),
        (("--peers", "2", "--snapshot-every", "10"), "snapshot_every must be a multiple of hash_every, 64, got 10"),
    ],
    ids=lambda value: "-".join(value)[2:22] if isinstance(value, tuple) else "",
)
def test_bad_options_are_named_and_no_password_is_shown(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aleator.distributed.transport.CONNECT", 0.2)
    assert main(["run", "decentral", *words, "--trackers", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert "hunter2" not in said
    assert "ter@2" not in said
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.plain
def test_machine_with_another_codec_is_refused_at_the_handshake(server, tmp_path, capsys):
    address = f"{server.address}?swarm=codec"
    Other(address)
    words = ["--join", address, "--codec", "float32", "--trackers", "--out", str(tmp_path / "run")]
    assert main(["run", "decentral", *words]) == 2
    assert "codec must be log8 as in the swarm, got float32" in capsys.readouterr().err


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a verb is missing, write aleator log VERB (verbs: verify, replay, stat)"),
        (("check",), "unknown verb"),
        (("verify", "nowhere.log"), "nowhere.log: No such file"),
        (("verify", "LOG", "--claimed", "x"), "start is missing"),
        (("verify", "LOG", "--start", "x"), "there is no file x"),
        (("verify", "LOG", "--start", "LOG"), "is not a file of weights"),
        (("verify", "CUT"), "is cut off in its last record: it is whole up to round 4"),
        (("stat", "START"), "is not the log of a swarm"),
        (
            ("replay", "LOG", "--start", "START", "--to", "x", "--upto", "9"),
            "upto must be in [0, 6] for this log, got 9",
        ),
        (("stat", "redis://127.0.0.1:1"), "cannot be reached"),
        (("stat", "redis://:hunter2@127.0.0.1"), "must hold no password"),
        (("stat", "redis:/:hunter2@127.0.0.1"), "redis:***@127.0.0.1: No such file"),
    ],
    ids=lambda value: "-".join(value)[:20] if isinstance(value, tuple) else "",
)
def test_bad_logs_are_one_line(words, message, finished, tmp_path, capsys):
    place, _ = finished
    cut = tmp_path / "cut.log"
    cut.write_bytes((place / "swarm.log").read_bytes()[:-5])
    named = {"LOG": place / "swarm.log", "CUT": cut, "START": place / "run" / "start.safetensors"}
    assert main(["log", *(str(named.get(word, word)) for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert "hunter2" not in said


def test_stat_names_who_lags(finished, tmp_path, capsys):
    place, _ = finished
    log = GradientLog.open(place / "swarm.log")
    short = GradientLog(log.manifest, tmp_path / "short.log")
    for commit in log:
        there = commit.contributions[:2] if commit.round in (2, 3, 5) else commit.contributions
        short.append(Commit(commit.round, commit.lr, short.end, there))
    short.close()
    assert main(["log", "stat", str(tmp_path / "short.log")]) == 0
    said = capsys.readouterr().out
    assert "machine 2 lags: in 50.0 % of the rounds since it came, last in round 4" in said
    assert "machine 0 lags" not in said


def test_store_of_another_process_is_an_address_as_well(tmp_path):
    board, port = tcp_store("127.0.0.1", 0, serve=True)
    result = run(Decentral(join=f"store://127.0.0.1:{port}", rounds=2), tmp_path, QUICK, name="decentral")
    assert result["progress"] == 2
    assert board.last() == 1
