"""A run in a worker process gives the numbers of a run in a fresh interpreter, and its end is known however it ends."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aleator.experiment import RunOptions
from aleator.experiment.comparison.plan import Variant, plan_runs, run_folder
from aleator.experiment.comparison.workers import LocalWorkers, carry_out, default_workers, job_of
from aleator.experiment.files import read_json
from aleator.experiment.registry import resolve
from tests.experiment.comparison.same_numbers import assert_same_numbers

GRID = f"{Path(__file__).parent / 'grid_recipe.py'}:Grid"
TOY = f"{Path(__file__).parents[1] / 'toy_recipe.py'}:Toy"
QUIET = RunOptions(trackers=(), log_every=3)


def planned(recipe=GRID, seed=0, **options):
    variants = [Variant("v", resolve(recipe)(**options))]
    return plan_runs(variants, [seed], name=recipe, options=QUIET)[0]


def work(crew, runs, out, name=GRID):
    """Carry out runs and return their outcomes in order."""
    outcomes = {}
    for run in runs:
        crew.start(run.folder, job_of(run, name, out, ["the", "command"]), carry_out)
    while len(outcomes) < len(runs):
        outcomes |= crew.wait(60)
    return [outcomes[run.folder] for run in runs]


@pytest.fixture
def crew():
    workers = LocalWorkers(4)
    yield workers
    workers.close()


def test_a_worker_gives_the_numbers_of_a_fresh_interpreter(tmp_path, crew):
    run = planned(TOY, seed=3)
    (outcome,) = work(crew, [run], tmp_path, TOY)
    assert outcome.status == "done"
    script = (
        "from pathlib import Path; from aleator.experiment import RunOptions, run;"
        "from aleator.experiment.registry import resolve;"
        f"run(resolve({TOY!r})(), Path({str(tmp_path / 'fresh')!r}),"
        f" RunOptions(seed=3, trackers=(), log_every=3), name={TOY!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert_same_numbers(run_folder(tmp_path, run), tmp_path / "fresh")
    ours, theirs = (read_json(folder / "config.json") for folder in (run_folder(tmp_path, run), tmp_path / "fresh"))
    assert ours["identity"] == theirs["identity"] == run.identity
    assert ours["command"] == ["the", "command"]


def look_at_processes(job):
    """Threads of the fork server, and of this child before it computes."""

    def threads(pid):
        return len(list(Path(f"/proc/{pid}/task").iterdir()))

    return {"server": threads(os.getppid()), "cuda": torch.cuda.is_initialized(), "torch": torch.get_num_threads()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_fork_server_has_one_thread_and_no_device(tmp_path, crew):
    crew.start("look", job_of(planned(), GRID, tmp_path, []), look_at_processes)
    outcome = crew.wait(60)["look"]
    assert outcome.answer["server"] == 1
    assert not outcome.answer["cuda"]


def test_every_end_is_known_and_loses_only_its_own_run(tmp_path, crew):
    runs = [
        planned(say="good morning"),
        planned(kill_seed=0),
        planned(break_seed=0),
        planned(refuse=True),
    ]
    done, killed, broken, refused = work(crew, runs, tmp_path)
    assert done.status == "done"
    assert (killed.status, killed.error.split(",")[0]) == ("failed", "the process was killed by SIGKILL")
    assert broken.status == "failed"
    assert re.fullmatch(r"ValueError: a number was not what it should be \(.*grid_recipe\.py:\d+\)", broken.error)
    assert refused.status == "refused"
    assert refused.error == "batch_size must be at most 3, got 8"
    logs = [(run_folder(tmp_path, run) / "run.log").read_text() for run in runs]
    assert logs[0].count("good morning") == 30
    assert "Traceback" in logs[2]


def test_an_interrupted_worker_saves_and_its_run_continues_to_the_same_numbers(tmp_path, crew):
    run = planned(announce=str(tmp_path / "pid"))
    crew.start("first", job_of(run, GRID, tmp_path, []), carry_out)
    while not (tmp_path / "pid").exists():
        assert not crew.wait(0.01)
    crew.interrupt()
    assert crew.wait(60)["first"].status == "interrupted"
    assert not (run_folder(tmp_path, run) / "result.json").exists()
    (tmp_path / "pid").unlink()
    continued, through = work(crew, [run, planned()], tmp_path)
    assert (continued.status, through.status) == ("done", "done")
    assert not (tmp_path / "pid").exists()  # step 5 was not taken again
    assert_same_numbers(run_folder(tmp_path, run), run_folder(tmp_path, planned()))


def test_a_process_that_cannot_be_started_is_a_failed_run_and_the_next_one_starts(tmp_path, crew, monkeypatch):
    from multiprocessing.context import ForkServerProcess

    def exhausted(self):
        raise EOFError("unexpected EOF")  # what the fork server's end looks like from here

    with monkeypatch.context() as patch:
        patch.setattr(ForkServerProcess, "start", exhausted)
        crew.start("first", job_of(planned(), GRID, tmp_path, []), long_answer)
    outcome = crew.wait(60)["first"]
    assert (outcome.status, outcome.error) == ("failed", "its process could not be started: unexpected EOF")
    crew.start("second", job_of(planned(), GRID, tmp_path, []), long_answer)
    assert crew.wait(60)["second"].status == "done"


def long_answer(job):
    return {"classes": ["x" * 1000] * 500}


def test_a_long_answer_arrives(tmp_path, crew):
    crew.start("long", job_of(planned(), GRID, tmp_path, []), long_answer)
    outcomes = crew.wait(60)
    assert len(outcomes["long"].answer["classes"]) == 500


def test_environment_and_working_directory_are_those_of_the_moment(tmp_path, crew, monkeypatch):
    """The fork server was started in another directory and without the variable."""
    work(crew, [planned()], tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("ALEATOR_DATA", "somewhere")
    crew.start("tell", job_of(planned(), GRID, tmp_path, []), tell_place)
    answer = crew.wait(60)["tell"].answer
    assert answer == {"data": "somewhere", "directory": str(tmp_path / "elsewhere")}


def tell_place(job):
    return {"data": os.environ.get("ALEATOR_DATA"), "directory": os.getcwd()}


SCRIPT = """
import json, sys
from pathlib import Path
from aleator.experiment import RunOptions
from aleator.experiment.comparison.execute import compare
from aleator.experiment.comparison.plan import Variant
from aleator.experiment.registry import resolve

spec, out, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
recipe = resolve(spec)(**options)
print("script runs", flush=True)
compare([Variant("v", recipe)], name=spec, seeds=[0], out=out, options=RunOptions(trackers=()))
"""


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, script, GRID, tmp_path / "out", "{}"], check=True, capture_output=True, text=True
    )
    assert ran.stdout.count("script runs") == 1
    assert read_json(tmp_path / "out" / "comparison.json")["finished_runs"] == 1


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")
def test_a_worker_whose_parent_was_killed_saves_and_leaves(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    os.mkfifo(tmp_path / "pid")  # reading it waits for the worker to write
    options = json.dumps({"announce": str(tmp_path / "pid")})
    parent = subprocess.Popen([sys.executable, script, GRID, tmp_path / "out", options])
    worker = os.pidfd_open(int((tmp_path / "pid").read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    left, _, _ = select.select([worker], [], [], 60)
    assert left, "the worker goes on without its parent"
    (saved,) = (tmp_path / "out" / "runs").glob("v-seed0-*/checkpoints/step-*")
    assert (saved / "manifest.json").exists()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")
def test_a_hung_worker_does_not_outlive_its_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from aleator.experiment.comparison import workers\nworkers.PATIENCE = 0.5\n" + SCRIPT)
    os.mkfifo(tmp_path / "pid")
    options = json.dumps({"announce": str(tmp_path / "pid"), "hang": True})
    parent = subprocess.Popen([sys.executable, script, GRID, tmp_path / "out", options])
    worker = os.pidfd_open(int((tmp_path / "pid").read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    left, _, _ = select.select([worker], [], [], 60)
    assert left, "the worker hangs for ever"


def test_a_comparison_that_is_asked_to_stop_ends_although_a_worker_hangs(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from aleator.experiment.comparison import workers\nworkers.PATIENCE = 0.5\n" + SCRIPT)
    os.mkfifo(tmp_path / "pid")
    options = json.dumps({"announce": str(tmp_path / "pid"), "hang": True})
    parent = subprocess.Popen(
        [sys.executable, script, GRID, tmp_path / "out", options], stderr=subprocess.PIPE, text=True
    )
    (tmp_path / "pid").read_text()
    parent.send_signal(signal.SIGTERM)
    parent.send_signal(signal.SIGTERM)
    _, said = parent.communicate(timeout=120)
    assert "Interrupted" in said
    (failure,) = read_json(tmp_path / "out" / "comparison.json")["failures"]
    assert (failure["status"], failure["error"]) == ("interrupted", "the process was killed before its state was saved")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_the_fork_server_hears_no_ctrl_c_and_a_worker_does(tmp_path, crew):
    from multiprocessing import forkserver

    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGINT)
    crew.start("ask", job_of(planned(), GRID, tmp_path, []), blocked_signals)
    assert crew.wait(60)["ask"].answer == {"blocked": []}


INTERRUPTED_SERVER = """
import os, signal
from multiprocessing import forkserver
from aleator.experiment.comparison import workers

workers._PRELOADED.clear()
crew = workers.LocalWorkers(1, ["imported_slowly"])
open("begun").read()
os.kill(forkserver._forkserver._forkserver_pid, signal.SIGINT)
open("heard", "w").close()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_a_ctrl_c_while_the_fork_server_imports_says_nothing(tmp_path):
    for name in ("begun", "heard"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "imported_slowly.py").write_text('open("begun", "w").close()\nopen("heard").read()\n')
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_SERVER],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def blocked_signals(job):
    return {"blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]}


def test_default_workers_fill_the_usable_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [default_workers(threads) for threads in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]


def test_workers_below_one_are_refused():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        LocalWorkers(0)
