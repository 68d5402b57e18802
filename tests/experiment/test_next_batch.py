"""A state that forgets where it was in the data is noticed when it is resumed from."""

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from aleator.experiment import Interrupted, RunFailed, RunOptions, run
from aleator.experiment.files import read_json
from aleator.experiment.next_batch import NextBatch, fingerprint
from aleator.experiment.registry import resolve

NAME = f"{Path(__file__).parent / 'forgetful_recipe.py'}:Forgetful"
QUIET = RunOptions(trackers=())


def interrupted_and_resumed(folder, caplog, **options):
    recipe = resolve(NAME)(**options)
    with pytest.raises(Interrupted):
        run(recipe, folder, QUIET, name=NAME)
    run(recipe, folder, QUIET, name=NAME, resume=True)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"][1:]  # after "stopping"


def test_a_state_without_its_sampler_is_told_in_one_line(tmp_path, caplog):
    (line,) = interrupted_and_resumed(tmp_path / "run", caplog)
    assert line.startswith("the first batch after the resume is not the one that came next when the state was saved")
    assert "state_dict lacks" in line
    assert "\n" not in line


def test_a_complete_state_is_resumed_in_silence(tmp_path, caplog):
    assert interrupted_and_resumed(tmp_path / "run", caplog, remembers=True) == []


def test_a_next_batch_that_breaks_does_not_change_how_an_interrupted_run_ends(tmp_path):
    recipe = resolve(NAME)(breaks_after=True, remembers=True)
    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "run", QUIET, name=NAME)
    with pytest.raises(RunFailed, match="the file of the next batch is gone"):
        run(recipe, tmp_path / "run", QUIET, name=NAME, resume=True)


@pytest.mark.parametrize("damage", ["", "{}", '{"schema_version": 1}'])
def test_a_damaged_record_is_no_reason_not_to_resume(tmp_path, caplog, damage):
    recipe = resolve(NAME)()
    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "run", QUIET, name=NAME)
    (record,) = (tmp_path / "run" / "checkpoints").glob("*/next-batch.json")
    record.write_text(damage)
    run(recipe, tmp_path / "run", QUIET, name=NAME, resume=True)
    assert read_json(tmp_path / "run" / "result.json")["status"] == "done"


def test_another_number_of_processes_and_another_checkpoint_are_not_compared(tmp_path, caplog):
    for step in (3, 4):
        (tmp_path / f"step-{step:08d}").mkdir()
    first = NextBatch(tmp_path, 2, True)
    first.after_saving(3)
    first.seen(torch.arange(3))
    for processes, step, warns in ((2, 3, True), (1, 3, False), (2, 4, False)):
        caplog.clear()
        watch = NextBatch(tmp_path, processes, True)
        watch.after_restoring(step)
        watch.seen(torch.arange(4))
        assert bool(caplog.records) == warns


@dataclass
class Pair:
    x: torch.Tensor
    n: int


Named = namedtuple("Named", "a b")


@pytest.mark.parametrize(
    "make",
    [
        lambda v: torch.tensor([1.0, v]),
        lambda v: torch.tensor([1.0, v]).bfloat16(),
        lambda v: torch.tensor([True, v > 2]),
        lambda v: (torch.zeros(2), np.array([v])),
        lambda v: {"input_ids": [1, 2, v]},
        lambda v: Pair(torch.zeros(1), v),
        lambda v: Named("text", str(v)),
        lambda v: torch.zeros(v),
        lambda v: torch.eye(3).to_sparse() * v,
    ],
)
def test_a_fingerprint_is_that_of_the_content(make):
    assert fingerprint(make(2)) == fingerprint(make(2)) is not None
    assert fingerprint(make(2)) != fingerprint(make(3))


@pytest.mark.parametrize("nothing", [None, (), object(), iter([1])])
def test_what_has_no_content_has_no_fingerprint(nothing):
    assert fingerprint(nothing) is None


def recursive():
    found = [1]
    found.append(found)
    return found


@pytest.mark.parametrize("make", [lambda: torch.ones(2, device="meta"), recursive])
def test_a_batch_that_cannot_be_read_ends_no_run(tmp_path, caplog, make):
    (tmp_path / "step-00000003").mkdir()
    first = NextBatch(tmp_path, 1, True)
    first.after_saving(3)
    batch = make()
    assert first.seen(batch) is batch
    first.after_saving(3)
    first.seen(torch.arange(3))
    again = NextBatch(tmp_path, 1, True)
    again.after_restoring(3)
    again.seen(batch)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
