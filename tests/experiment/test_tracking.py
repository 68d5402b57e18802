import json
from pathlib import Path

import pytest
from accelerate import accelerator as accelerate_module
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aleator.experiment import Interrupted, RunOptions, run
from aleator.experiment.registry import resolve
from aleator.experiment.tracking import read_metrics

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"


class Recorder(GeneralTracker):
    """Stands where Accelerate has the tracker of a hosted service."""

    name = "wandb"
    requires_logging_directory = False
    calls: list = []  # noqa: RUF012

    def __init__(self, project, **kwargs):
        super().__init__(_blank=True)
        self.calls.append(("project", project))

    @property
    def tracker(self):
        return self

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.calls.append(("config", values))

    def log(self, values, step=None, **kwargs):
        self.calls.append(("log", step, values))

    def finish(self):
        self.calls.append(("finish",))


def test_hosted_tracker_gets_options_and_every_row_through_accelerate(tmp_path, monkeypatch):
    monkeypatch.setitem(accelerate_module.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr("aleator.experiment.tracking.find_spec", lambda name: object())
    Recorder.calls.clear()
    run(resolve(TOY)(), tmp_path / "run", RunOptions(trackers=("wandb",), log_every=10), name=TOY)
    kinds = [call[0] for call in Recorder.calls]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert kinds == ["project", "config", *["log"] * len(rows), "finish"]
    assert Recorder.calls[1][1]["lr"] == 0.1
    logged = [(step, values) for _, step, values in Recorder.calls[2:-1]]
    assert logged == [(row["step"], {f"{row['split']}/{k}": v for k, v in row["metrics"].items()}) for row in rows]


def test_missing_tracker_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("aleator.experiment.tracking.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"'wandb' is not installed: pip install 'aleator\[wandb\]'"):
        run(resolve(TOY)(), tmp_path / "run", RunOptions(trackers=("wandb",)), name=TOY)
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    options = RunOptions(log_every=3)
    with pytest.raises(Interrupted):
        run(resolve(TOY)(signal_at=20), tmp_path / "run", options, name=TOY)
    run(resolve(TOY)(signal_at=20), tmp_path / "run", options, name=TOY, resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for split in ("train", "validation", "test"):
        shown = events.Scalars(f"{split}/loss")
        logged = [row for row in rows if row["split"] == split]
        assert [event.step for event in shown] == [row["step"] for row in logged]
        assert [event.value for event in shown] == pytest.approx([row["metrics"]["loss"] for row in logged])


def test_cut_last_line_is_left_out_and_damaged_ones_are_said(tmp_path, caplog):
    row = {"step": 1, "progress": 1, "examples": 8, "seconds": 0.1, "split": "train", "metrics": {"loss": 1.0}}
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    assert read_metrics(path) == [row]
    assert caplog.text == ""
    path.write_text("{}\n" + json.dumps(row) + "\n[[[\n" + json.dumps(row) + "\n")
    assert read_metrics(path) == [row, row]
    assert "metrics.jsonl: 2 lines are damaged and left out" in caplog.text
    assert read_metrics(tmp_path / "absent.jsonl") == []
