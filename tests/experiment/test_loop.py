import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aleator.experiment import Exhibit, Interrupted, RunFailed, RunOptions, run
from aleator.experiment.files import read_json
from aleator.experiment.loop import NonFiniteLoss
from aleator.experiment.registry import resolve
from aleator.experiment.tracking import read_metrics

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"
QUIET = RunOptions(trackers=(), log_every=3)


def toy(**options):
    return resolve(TOY)(**options)


def outcome(folder: Path):
    """What must be equal between two runs: metrics without clocks, weights bit for bit."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(folder / "metrics.jsonl")]
    result = read_json(folder / "result.json")
    kept = ("steps", "examples", "validation", "test", "best_validation", "skipped_steps")
    return rows, {key: result[key] for key in kept}, load_file(folder / "model.safetensors")


def assert_same_outcome(one: Path, other: Path):
    (rows, result, weights), (rows2, result2, weights2) = outcome(one), outcome(other)
    assert rows == rows2
    assert result == result2
    assert weights.keys() == weights2.keys()
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)


def test_run_leaves_a_complete_folder(tmp_path):
    result = run(toy(), tmp_path / "run", QUIET, name=TOY)
    config = read_json(tmp_path / "run" / "config.json")
    assert result["steps"] == 40
    assert result["examples"] == 320
    assert result["validation"]["loss"] < 1.0
    assert result["best_validation"]["metrics"]["loss"] <= result["validation"]["loss"]
    assert read_json(tmp_path / "run" / "result.json")["test"] == result["test"]
    assert config["options"]["lr"] == 0.1
    assert config["seed"] == 0
    splits = [row["split"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert splits.count("validation") == 6  # every 7 of 40 steps, and the end
    assert splits.count("train") == 13
    assert splits[-1] == "test"


def test_same_seed_same_run_and_another_seed_another(tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        run(toy(), tmp_path / name, RunOptions(seed=seed, trackers=(), log_every=3), name=TOY)
    assert_same_outcome(tmp_path / "a", tmp_path / "b")
    assert outcome(tmp_path / "a")[1] != outcome(tmp_path / "c")[1]


@pytest.mark.parametrize("step", [0, 6, 7, 23, 38])
def test_interrupted_and_resumed_run_is_bit_identical(tmp_path, step):
    with pytest.raises(Interrupted, match=f"at {step + 1} steps"):
        run(toy(signal_at=step), tmp_path / "run", QUIET, name=TOY)
    assert not (tmp_path / "run" / "result.json").exists()
    # The resumed run has passed the step that sends the signal.
    run(toy(signal_at=step), tmp_path / "run", QUIET, name=TOY, resume=True)
    run(toy(), tmp_path / "whole", QUIET, name=TOY)
    assert_same_outcome(tmp_path / "run", tmp_path / "whole")


def started(out: Path) -> int:
    """Begin or resume a run in a forked child, and return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            options = RunOptions(trackers=(), log_every=3, checkpoint_seconds=0.05)
            run(toy(steps=150, slow=0.01), out, options, name=TOY, resume=(out / "config.json").exists())
            code = 0
        finally:
            os._exit(code)
    return child


def test_run_killed_at_ten_random_moments_and_resumed_is_bit_identical(tmp_path):
    assert os.waitpid(started(tmp_path / "whole"), 0)[1] == 0
    moments = random.Random(0)
    kills = 0
    while kills < 10:
        child = started(tmp_path / "killed")
        store = tmp_path / "killed" / "checkpoints"
        before = set(store.glob("step-*"))
        # A kill counts once the run has got somewhere; then it comes at a random moment.
        while os.waitpid(child, os.WNOHANG) == (0, 0) and set(store.glob("step-*")) <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            break
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            break
        kills += 1
    assert kills == 10, "the run ended before it was killed ten times"
    assert os.waitpid(started(tmp_path / "killed"), 0)[1] == 0
    assert_same_outcome(tmp_path / "killed", tmp_path / "whole")


def test_truncated_newest_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, caplog):
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(toy(signal_at=20), folder, RunOptions(trackers=(), log_every=3, checkpoint_seconds=0), name=TOY)
    newest = max((folder / "checkpoints").iterdir())
    content = (newest / "state.pt").read_bytes()
    (newest / "state.pt").write_bytes(content[: len(content) // 2])
    options = RunOptions(trackers=(), log_every=3, checkpoint_seconds=0)
    with pytest.raises(Interrupted):  # the step that sends the signal comes again
        run(toy(signal_at=20), folder, options, name=TOY, resume=True)
    assert f"{newest} is damaged" in caplog.text
    run(toy(signal_at=20), folder, options, name=TOY, resume=True)
    run(toy(), tmp_path / "whole", QUIET, name=TOY)
    assert_same_outcome(folder, tmp_path / "whole")


def test_non_finite_loss_stops_before_the_optimizer_steps(tmp_path):
    with pytest.raises(NonFiniteLoss, match="loss of step 11 is not finite"):
        run(toy(nan_at=10), tmp_path / "run", RunOptions(trackers=(), checkpoint_seconds=0), name=TOY)
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    assert newest.name == "step-00000010"
    state = torch.load(newest / "state.pt", weights_only=True)
    assert all(torch.isfinite(t).all() for t in state["task"]["model"].values())
    assert not (tmp_path / "run" / "result.json").exists()


def test_non_finite_loss_is_skipped_and_counted_on_request(tmp_path):
    options = RunOptions(trackers=(), non_finite="skip", log_every=3)
    result = run(toy(nan_at=10), tmp_path / "run", options, name=TOY)
    assert result["skipped_steps"] == 1
    assert result["steps"] == 40
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "run" / "model.safetensors").values())
    logged = [row["metrics"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert "skipped_steps" not in logged[0]
    assert logged[-1]["skipped_steps"] == 1


def test_batch_statistics_of_a_skipped_step_are_forgotten(tmp_path):
    options = RunOptions(trackers=(), non_finite="skip")
    run(toy(nan_at=10, batch_norm=True), tmp_path / "run", options, name=TOY)
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.isfinite(weights["0.running_mean"]).all()
    assert weights["0.num_batches_tracked"] == 39


def test_weights_that_are_not_numbers_are_never_saved(tmp_path):
    class Spoilt(type(toy())):
        def task(self, streams, accelerator):
            task = super().task(streams, accelerator)
            step = task.train_step

            def spoiling(batch):
                result = step(batch)
                if task.taken == 12:
                    task.critic = torch.tensor([float("nan")])
                return result

            state_dict = task.state_dict
            task.train_step = spoiling
            task.state_dict = lambda: state_dict() | {"critic": getattr(task, "critic", torch.zeros(1))}
            return task

    with pytest.raises(NonFiniteLoss, match="weights after step 12 are not finite; they are not saved"):
        run(Spoilt(), tmp_path / "run", RunOptions(trackers=(), checkpoint_seconds=0), name=TOY)
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    assert newest.name == "step-00000011"


def test_run_that_ends_for_a_reason_of_its_own_ends_there_after_a_resume_too(tmp_path):
    result = run(toy(stop_at=8), tmp_path / "run", QUIET, name=TOY)
    assert (result["steps"], result["stopped"]) == (9, "good enough")
    (tmp_path / "run" / "result.json").unlink()  # as if it was killed while it evaluated on test
    again = run(toy(stop_at=8), tmp_path / "run", QUIET, name=TOY, resume=True)
    assert (again["steps"], again["stopped"]) == (9, "good enough")
    assert again["test"] == result["test"]


def test_run_that_has_no_more_batches_is_evaluated_and_saved(tmp_path):
    result = run(toy(batches=10), tmp_path / "run", QUIET, name=TOY)
    assert (result["steps"], result["stopped"]) == (10, "the task has no more batches")
    validations = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "validation"]
    assert validations[-1]["step"] == 10
    assert result["validation"] == validations[-1]["metrics"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000010"]


def test_metric_of_some_steps_is_averaged_over_those(tmp_path):
    run(toy(), tmp_path / "run", QUIET, name=TOY)
    rows = [row["metrics"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert [row["even"] for row in rows] == [1.0] * 13


def test_state_that_cannot_be_read_back_fails(tmp_path):
    with pytest.raises(RunFailed, match="state_dict must hold tensors, numbers, strings and containers of them only"):
        run(toy(odd_state=True), tmp_path / "run", RunOptions(trackers=(), checkpoint_seconds=0), name=TOY)
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_run_in_a_moved_folder_is_resumed(tmp_path):
    (tmp_path / "here").mkdir()
    mine = tmp_path / "here" / "mine.py"
    mine.write_bytes(Path(TOY.removesuffix(":Toy")).read_bytes())
    with pytest.raises(Interrupted):
        run(resolve(f"{mine}:Toy")(signal_at=5), tmp_path / "here" / "run", QUIET, name=f"{mine}:Toy")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = f"{tmp_path / 'there' / 'mine.py'}:Toy"
    result = run(resolve(moved)(signal_at=5), tmp_path / "there" / "run", QUIET, name=moved, resume=True)
    assert result["steps"] == 40


def test_seconds_add_up_over_a_resume(tmp_path):
    with pytest.raises(Interrupted):
        run(toy(signal_at=20, slow=0.01), tmp_path / "run", QUIET, name=TOY)
    result = run(toy(signal_at=20, slow=0.01), tmp_path / "run", QUIET, name=TOY, resume=True)
    seconds = result["seconds"]
    assert seconds["train"] > 0.39
    assert seconds["total"] >= seconds["train"] + seconds["evaluate"] + seconds["checkpoint"]


def test_request_to_stop_during_the_test_evaluation_is_met_by_finishing(tmp_path):
    class Signalled(type(toy())):
        def task(self, streams, accelerator):
            task = super().task(streams, accelerator)
            evaluate = task.evaluate

            def signalling(split):
                if split == "test":
                    signal.raise_signal(signal.SIGTERM)
                return evaluate(split)

            task.evaluate = signalling
            return task

    assert run(Signalled(), tmp_path / "run", QUIET, name=TOY)["status"] == "done"
    assert (tmp_path / "run" / "result.json").exists()


def test_what_a_task_has_to_show_is_written_after_the_result(tmp_path, monkeypatch):
    drawn = [Exhibit("Weights", "one heat map", plot={"data": [{"type": "heatmap", "z": [[float("nan"), 1.0]]}]})]
    monkeypatch.setattr(sys.modules[type(toy()).__module__].ToyTask, "exhibits", lambda self: drawn, raising=False)
    run(toy(), tmp_path / "run", QUIET, name=TOY)
    assert read_json(tmp_path / "run" / "exhibits.json")["exhibits"] == [
        {
            "heading": "Weights",
            "description": "one heat map",
            "plot": {"data": [{"type": "heatmap", "z": [[None, 1.0]]}]},
        }
    ]


def test_a_picture_that_fails_loses_nothing(tmp_path, monkeypatch):
    def fail(self):
        raise KeyError("no picture")

    monkeypatch.setattr(sys.modules[type(toy()).__module__].ToyTask, "exhibits", fail, raising=False)
    with pytest.raises(RunFailed, match="no picture"):
        run(toy(), tmp_path / "run", QUIET, name=TOY)
    assert read_json(tmp_path / "run" / "result.json")["status"] == "done"


def test_finished_run_is_not_run_again(tmp_path):
    run(toy(), tmp_path / "run", QUIET, name=TOY)
    stamp = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    again = run(toy(), tmp_path / "run", QUIET, name=TOY, resume=True)
    assert again["steps"] == 40
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_metrics_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    with pytest.raises(Interrupted):
        run(toy(signal_at=20), tmp_path / "run", QUIET, name=TOY)
    log = tmp_path / "run" / "metrics.jsonl"
    late = {"step": 35, "progress": 35, "examples": 0, "seconds": 0.0, "split": "train", "metrics": {"loss": 0.0}}
    log.write_text(log.read_text() + json.dumps(late) + '\n{"step": 36, "prog')
    run(toy(signal_at=20), tmp_path / "run", QUIET, name=TOY, resume=True)
    run(toy(), tmp_path / "whole", QUIET, name=TOY)
    assert_same_outcome(tmp_path / "run", tmp_path / "whole")


def test_keep_checkpoints_bounds_their_number(tmp_path):
    run(toy(), tmp_path / "two", RunOptions(trackers=(), checkpoint_seconds=0, keep_checkpoints=2), name=TOY)
    run(toy(), tmp_path / "none", RunOptions(trackers=(), keep_checkpoints=0), name=TOY)
    assert len(list((tmp_path / "two" / "checkpoints").iterdir())) == 2
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_tensorboard_events_are_written(tmp_path):
    run(toy(), tmp_path / "run", RunOptions(), name=TOY)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("prepare", "options", "resume", "message"),
    [
        (None, {}, True, "no run to resume"),
        ("foreign", {}, False, "is not empty and holds no run"),
        ("run", {}, False, "already holds a run; add --resume"),
        ("run", {"threads": 2}, True, "threads must be 1 as in the run to resume, got 2"),
        ("run", {"seed": 5}, True, "seed must be 0 as in the run to resume, got 5"),
        ("other", {}, True, "holds a run of recipe 'classify'"),
        ("broken", {}, True, "config.json is not readable as JSON"),
    ],
)
def test_wrong_folder_is_explained_and_nothing_is_written(tmp_path, prepare, options, resume, message):
    folder = tmp_path / "run"
    if prepare == "foreign":
        folder.mkdir()
        (folder / "thesis.tex").write_text("all my work")
    elif prepare == "broken":
        folder.mkdir()
        (folder / "config.json").write_text('{"schema_version": 1, "rec')
    elif prepare:
        with pytest.raises(Interrupted):
            run(toy(signal_at=3), folder, QUIET, name=TOY)
        if prepare == "other":
            config = read_json(folder / "config.json")
            (folder / "config.json").write_text(json.dumps({**config, "recipe": "classify"}))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        run(
            toy(signal_at=3), folder, RunOptions(**{"trackers": (), "log_every": 3, **options}), name=TOY, resume=resume
        )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1, got 0"),
        ({"non_finite": "ignore"}, "non_finite must be 'stop' or 'skip', got 'ignore'"),
    ],
)
def test_bad_run_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RunOptions(**options)


@pytest.mark.plain
def test_more_threads_than_cores_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"threads must be at most \d+, the cores of this machine, got 100000"):
        run(toy(), tmp_path / "run", RunOptions(threads=100_000), name=TOY)
    assert not (tmp_path / "run").exists()


@pytest.mark.plain
def test_unavailable_precision_is_explained(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        run(toy(precision="float16"), tmp_path / "run", QUIET, name=TOY)
    with pytest.raises(ValueError, match="precision must be one of float32, float64, bfloat16, float16, got 'half'"):
        run(toy(precision="half"), tmp_path / "run", QUIET, name=TOY)
    assert not (tmp_path / "run").exists()
