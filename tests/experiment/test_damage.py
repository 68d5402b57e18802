"""Damage is reported in plain words, without a traceback, and the run falls back to what is sound."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from aleator.experiment import Interrupted, RunFailed, RunOptions, run
from aleator.experiment.checkpoint import CheckpointStore
from aleator.experiment.comparison.execute import compare
from aleator.experiment.comparison.plan import Variant
from aleator.experiment.files import UnusableFolder, read_json, write_json
from aleator.experiment.registry import resolve
from aleator.experiment.report import read
from aleator.experiment.report.read import read_log
from aleator.experiment.tracking import LogPosition, MetricLog
from tests.experiment.endurance import damage_a_row, write_log
from tests.experiment.survival import left

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"
OPTIONS = RunOptions(trackers=(), log_every=3, checkpoint_seconds=0, keep_checkpoints=3)


def toy(**options):
    return resolve(TOY)(**options)


def again(folder, **options):
    return run(toy(signal_at=20, **options), folder, OPTIONS, name=TOY, resume=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that was interrupted in its 21st step, one that has just begun, and one that was not interrupted."""
    place = tmp_path_factory.mktemp("made")
    with pytest.raises(Interrupted):
        run(toy(signal_at=20), place / "cut", OPTIONS, name=TOY)
    # Step 21 sends no signal any more, so the whole one has other options with the same numbers.
    with pytest.raises(Interrupted):
        run(toy(signal_at=20), place / "whole", OPTIONS, name=TOY)
    again(place / "whole")
    return place


@pytest.fixture
def cut(made, tmp_path):
    shutil.copytree(made / "cut", tmp_path / "o")
    return tmp_path / "o"


def newest(folder):
    return max((folder / "checkpoints").glob("step-*"))


def manifest_of_another_shape(folder):
    (newest(folder) / "manifest.json").write_text('{"schema_version": 1, "bytes": "many"}')


def state_that_cannot_be_read_with_a_matching_sum(folder):
    import hashlib

    content = b"no state at all"
    (newest(folder) / "state.pt").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    write_json(newest(folder) / "manifest.json", {"step": 1, "bytes": len(content), "sha256": digest})


def state_of_another_shape(folder):
    path = newest(folder)
    shutil.rmtree(path)
    CheckpointStore(path.parent, 99).save(int(path.name[5:]), {"weights": 1})


def file_in_the_place_of_a_step(folder):
    path = newest(folder)
    shutil.rmtree(path)
    path.write_text("not a folder")


@pytest.mark.parametrize(
    "damage",
    [
        manifest_of_another_shape,
        state_that_cannot_be_read_with_a_matching_sum,
        state_of_another_shape,
        file_in_the_place_of_a_step,
    ],
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_used(made, cut, caplog, damage):
    damage(cut)
    name = newest(cut).name
    with pytest.raises(Interrupted):  # the step that sends the signal comes again
        again(cut)
    assert f"{name} is damaged" in caplog.text
    again(cut)
    assert left(cut) == left(made / "whole")


def test_names_that_are_no_steps_are_left_alone(made, cut):
    (cut / "checkpoints" / "step-foo").mkdir()
    again(cut)
    assert (cut / "checkpoints" / "step-foo").is_dir()


def test_left_overs_of_a_killed_process_are_cleared(made, cut):
    (cut / "checkpoints" / ".step-00000022.partial").mkdir()
    files = [f".{name}.0123abcd.partial" for name in ("metrics.jsonl", "model.safetensors", "model-ema.safetensors")]
    for name in files:
        (cut / name).write_text("half")
    (cut / "notes").write_text("mine")
    (cut / ".notes.0123abcd.partial").write_text("mine, too")
    again(cut)
    assert not (cut / "checkpoints" / ".step-00000022.partial").exists()
    assert not any((cut / name).exists() for name in files)
    assert (cut / ".notes.0123abcd.partial").exists()
    assert (cut / "notes").read_text() == "mine"


def test_a_run_killed_while_it_wrote_its_first_file_is_started_again(tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / ".config.json.0123abcd.partial").write_text('{"schema')
    (tmp_path / "o" / ".lock").write_text("process 1 on host\n")
    with pytest.raises(ValueError, match=r"no run to resume in .*; start one without --resume"):
        run(toy(steps=2), tmp_path / "o", OPTIONS, name=TOY, resume=True)
    assert run(toy(steps=2), tmp_path / "o", OPTIONS, name=TOY)["steps"] == 2


def test_checkpoints_that_are_all_damaged_are_bad_input_with_a_remedy(cut):
    for path in (cut / "checkpoints").iterdir():
        (path / "state.pt").write_bytes(b"")
    with pytest.raises(UnusableFolder, match=r"every checkpoint in .* is damaged; delete that folder to begin the run"):
        again(cut)
    shutil.rmtree(cut / "checkpoints")
    with pytest.raises(Interrupted):
        again(cut)


def test_a_checkpoint_of_another_run_is_refused_and_its_folder_named(cut, tmp_path):
    with pytest.raises(Interrupted):
        run(toy(signal_at=20, lr=0.3), tmp_path / "other", OPTIONS, name=TOY)
    shutil.rmtree(cut / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", cut / "checkpoints")
    with pytest.raises(UnusableFolder, match=f"the newest checkpoint in {cut}/checkpoints is of another run"):
        again(cut)


@pytest.mark.parametrize("lr", [0.1, 0.3], ids=["the run's", "the edited"])
def test_options_edited_in_the_config_are_noticed(cut, lr):
    config = read_json(cut / "config.json")
    config["options"]["lr"] = 0.3
    (cut / "config.json").write_text(json.dumps(config))
    message = "lr must be 0.3 as in the run to resume, got 0.1" if lr == 0.1 else "its config.json was changed by hand"
    with pytest.raises(ValueError, match=message):
        again(cut, lr=lr)


@pytest.mark.parametrize("field", ["recipe", "options", "seed", "threads", "loop", "identity"])
def test_a_config_without_a_field_is_named(cut, field):
    config = read_json(cut / "config.json")
    del config[field]
    (cut / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config\.json is not the config of a run: {field} is missing"):
        again(cut)


# --- the log ------------------------------------------------------------------------------------------------------


def test_rows_that_a_damaged_log_has_lost_are_said(cut, caplog):
    log = cut / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + "x" * 40 + "\n" + "".join(lines[4:]))
    again(cut)
    assert f"has lost 2 of the {len(lines)} rows that it had at step 21" in caplog.text


def test_a_log_that_is_gone_is_said(cut, caplog):
    count = len((cut / "metrics.jsonl").read_text().splitlines())
    (cut / "metrics.jsonl").unlink()
    again(cut)
    assert f"has lost {count} of the {count} rows" in caplog.text


def test_the_log_is_on_the_disk_before_the_checkpoint_that_counts_its_rows(tmp_path, monkeypatch):
    order = []
    real = os.fsync

    def fsync(descriptor):
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    run(toy(steps=3), tmp_path / "o", RunOptions(trackers=(), log_every=1), name=TOY)
    synced = [name for name in order if name == "metrics.jsonl" or name.startswith(".state.pt")]
    assert synced[0] == "metrics.jsonl"
    assert synced[1].startswith(".state.pt")
    state = torch.load(newest(tmp_path / "o") / "state.pt", weights_only=True)
    assert state["log"]["step"] == 3
    assert state["log"]["rows"] == 4  # three of training, one of validation


# Ten million rows are for ``python -m tests.experiment.endurance week``.
ROWS = 5_000


def most_memory(do):
    import tracemalloc

    tracemalloc.start()
    found = do()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found, most


def test_a_log_of_a_week_is_reported_in_bounded_memory(tmp_path, monkeypatch):
    write_log(tmp_path / "metrics.jsonl", ROWS)
    most_rows = 100
    monkeypatch.setattr(read, "MOST_ROWS", most_rows)
    lines, most = most_memory(lambda: read_log(tmp_path))
    assert most_rows / 2 <= len(lines) <= most_rows + 1
    assert (lines[0].step, lines[-1].step) == (0, ROWS - 1)
    # Every row at once would take some five times the file.
    assert most < (tmp_path / "metrics.jsonl").stat().st_size / 4


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_log_of_a_week_is_resumed_in_bounded_memory(tmp_path, caplog, damaged):
    log = tmp_path / "metrics.jsonl"
    write_log(log, ROWS)
    size = log.stat().st_size
    if damaged:
        damage_a_row(log)
    keep = LogPosition(ROWS - 1, ROWS, size)
    _, most = most_memory(lambda: MetricLog(tmp_path, None, (), {}, keep).close())
    assert len(log.read_text().splitlines()) == ROWS - damaged
    assert (f"has lost 1 of the {ROWS} rows" in caplog.text) == bool(damaged)
    assert most < size / 4


# --- results and exhibits -----------------------------------------------------------------------------------------


def finished(folder, exhibit="draw", keep=3, resume=False):
    options = RunOptions(trackers=(), log_every=3, keep_checkpoints=keep)
    return run(toy(steps=6, exhibit=exhibit), folder, options, name=TOY, resume=resume)


@pytest.mark.parametrize(("exhibit", "gone"), [("draw", "exhibits.json"), ("picture", "drawn.gif")])
def test_exhibits_that_are_missing_are_made_by_a_resume(tmp_path, exhibit, gone):
    for name in ("o", "whole"):
        finished(tmp_path / name, exhibit)
    (tmp_path / "o" / gone).unlink()  # the kill came between two files
    finished(tmp_path / "o", exhibit, resume=True)
    assert left(tmp_path / "o") == left(tmp_path / "whole")


@pytest.mark.parametrize("gone", ["model", "again"])
def test_models_that_are_missing_are_made_by_a_resume(tmp_path, gone):
    for name in ("o", "whole"):
        result = run(toy(steps=6, saved="again"), tmp_path / name, OPTIONS, name=TOY)
    assert result["models"] == ["model", "again"]
    (tmp_path / "o" / f"{gone}.safetensors").unlink()
    run(toy(steps=6, saved="again"), tmp_path / "o", OPTIONS, name=TOY, resume=True)
    assert left(tmp_path / "o") == left(tmp_path / "whole")


@pytest.mark.parametrize("name", ["model", "../again", "", "a.b"])
def test_a_further_model_whose_file_would_lie_elsewhere_is_refused_before_the_first_step(tmp_path, monkeypatch, name):
    task = sys.modules[type(toy()).__module__].ToyTask
    monkeypatch.setattr(task, "saved_models", lambda self: {name: self.model}, raising=False)
    with pytest.raises(ValueError, match=f"saved_models must return modules by names .*, got '{name}': Sequential"):
        run(toy(fail_at=0), tmp_path / "o", OPTIONS, name=TOY)
    assert not (tmp_path / "o").exists()


def test_checkpoints_go_only_when_everything_else_is_written(tmp_path):
    with pytest.raises(RunFailed, match="no picture"):
        finished(tmp_path / "o", exhibit="fail", keep=0)
    assert read_json(tmp_path / "o" / "result.json")["status"] == "done"
    assert newest(tmp_path / "o").name == "step-00000006"  # what a resume makes the exhibits from
    finished(tmp_path / "p", keep=0)
    assert not (tmp_path / "p" / "checkpoints").exists()
    (tmp_path / "p" / "checkpoints" / "step-00000006").mkdir(parents=True)  # the kill came while they were deleted
    finished(tmp_path / "p", keep=0, resume=True)
    assert not (tmp_path / "p" / "checkpoints").exists()


def test_a_checkpoint_that_a_killed_process_was_deleting_is_deleted_by_a_resume(tmp_path):
    finished(tmp_path / "o", keep=1)
    (tmp_path / "o" / "result.json").unlink()  # it was killed before, with no step left to take
    checkpoints = tmp_path / "o" / "checkpoints"
    for older in ("step-00000001", "step-00000002"):
        shutil.copytree(checkpoints / "step-00000006", checkpoints / older)
    (checkpoints / "step-00000001" / "state.pt").unlink()
    finished(tmp_path / "o", keep=1, resume=True)
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-00000006"]


def test_a_finished_run_without_exhibits_and_without_checkpoints_keeps_its_result(tmp_path, caplog):
    result = finished(tmp_path / "o")
    (tmp_path / "o" / "exhibits.json").unlink()
    shutil.rmtree(tmp_path / "o" / "checkpoints")
    assert finished(tmp_path / "o", resume=True)["test"] == result["test"]
    assert "what is missing in it cannot be made without a checkpoint" in caplog.text


def test_a_torn_result_is_made_again_from_the_checkpoint_beside_it(tmp_path, caplog):
    for name in ("o", "whole"):
        finished(tmp_path / name)
    content = (tmp_path / "o" / "result.json").read_text()
    (tmp_path / "o" / "result.json").write_text(content[:50])
    finished(tmp_path / "o", resume=True)
    assert "result.json is not readable as JSON" in caplog.text
    assert left(tmp_path / "o") == left(tmp_path / "whole")


def test_a_torn_result_without_a_checkpoint_says_what_to_do(tmp_path):
    finished(tmp_path / "o", keep=0)
    (tmp_path / "o" / "result.json").write_text("{")
    with pytest.raises(UnusableFolder, match=r"no checkpoint is there to make it again from; delete it to begin"):
        finished(tmp_path / "o", keep=0, resume=True)


def test_a_state_that_cannot_be_read_back_fails_before_the_first_step(tmp_path):
    with pytest.raises(RunFailed, match="state_dict must hold tensors, numbers, strings and containers of them only"):
        run(toy(odd_state=True, fail_at=0), tmp_path / "o", OPTIONS, name=TOY)
    assert not (tmp_path / "o").exists()


# --- comparisons --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    place = tmp_path_factory.mktemp("compared") / "o"
    carry_out(place)
    return place


def carry_out(out):
    return compare(
        [Variant("a", toy(steps=2, exhibit="draw"))], name=TOY, seeds=[0], out=out, options=RunOptions(trackers=())
    )


@pytest.mark.parametrize("content", ['{"schema', '{"schema_version": 1}', '{"schema_version": 1, "recipe": 5}', "[]"])
def test_a_damaged_comparison_is_made_again_from_its_runs(compared, tmp_path, content):
    shutil.copytree(compared, tmp_path / "o")
    (tmp_path / "o" / "comparison.json").write_text(content)
    if content == "[]":  # another schema: perhaps of a later version of the library, and not ours to replace
        with pytest.raises(ValueError, match="has schema version None"):
            carry_out(tmp_path / "o")
        return
    assert carry_out(tmp_path / "o")["finished_runs"] == 1


def test_a_comparison_makes_what_its_runs_miss(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "o")
    (folder,) = (tmp_path / "o" / "runs").iterdir()
    (folder / "exhibits.json").unlink()
    result = (folder / "result.json").read_text()
    (folder / "result.json").write_text(result[:40])
    content = carry_out(tmp_path / "o")
    assert (content["finished_runs"], content["failures"]) == (1, [])
    assert left(tmp_path / "o") == left(compared)


def test_a_damaged_run_folder_loses_only_its_own_run(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "o")
    (folder,) = (tmp_path / "o" / "runs").iterdir()
    (folder / "config.json").write_text("{")
    variants = [Variant("a", toy(steps=2, exhibit="draw")), Variant("b", toy(steps=2, lr=0.2))]
    content = compare(variants, name=TOY, seeds=[0], out=tmp_path / "o", options=RunOptions(trackers=()))
    (failure,) = content["failures"]
    assert failure["variant"] == "a"
    assert "config.json is not readable as JSON" in failure["error"]
    assert content["finished_runs"] == 1


def test_a_message_that_is_no_text_is_written_all_the_same(tmp_path):
    path = os.fsdecode(b"/nowhere/\xff\xfe.txt")
    variants = [Variant("a", toy(steps=2)), Variant("b", toy(steps=2, path=path))]
    with pytest.raises(ValueError, match=r"variant 'b': /nowhere/\\udcff\\udcfe\.txt is not a file"):
        compare(variants, name=TOY, seeds=[0], out=tmp_path / "refused", options=RunOptions(trackers=()))
    write_json(tmp_path / "a.json", {"path": path})
    assert read_json(tmp_path / "a.json")["path"] == path


# --- clocks -------------------------------------------------------------------------------------------------------


def test_nothing_is_chosen_by_the_time_of_a_file(made, cut):
    for age, path in enumerate(sorted((cut / "checkpoints").iterdir())):
        os.utime(path, (10_000 - age, 10_000 - age))
        for file in path.iterdir():
            os.utime(file, (10_000 - age, 10_000 - age))
    again(cut)
    assert left(cut) == left(made / "whole")


def test_a_clock_set_back_leaves_steps_and_seconds_in_order(cut, monkeypatch):
    import time

    monkeypatch.setattr(time, "time", lambda: 0.0)
    again(cut)
    rows = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
