"""The headline by test example: what a run keeps, in which order, and what is read back."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from aleator.experiment import RunOptions, run
from aleator.experiment.test_examples import (
    FILE,
    _in_order,
    gather_test_examples,
    read_test_examples,
    write_test_examples,
)
from aleator.recipes.parts.losses import by_example
from aleator.stats import ExampleResults


class Says:
    def __init__(self, values, counts):
        self.pair = torch.tensor(values), torch.tensor(counts)

    def test_examples(self):
        return self.pair


def test_a_run_of_digits_keeps_which_test_images_it_answers_rightly(tmp_path):
    from aleator.recipes.classify import Classify

    recipe = Classify(train_size=96, test_size=50, rounds=1, batch_size=16)
    result = run(recipe, tmp_path, RunOptions(trackers=()), name="classify")
    found = read_test_examples(tmp_path, result)
    assert result["test_examples"] == result["test"]["examples"] == 50
    assert set(found.values) <= {0.0, 1.0}
    assert found.counts is None
    assert found.values.mean() == pytest.approx(result["test"]["accuracy"])


def test_values_and_counts_come_back_as_they_were(tmp_path):
    kept = ExampleResults(np.array([1.5, 0.25, 3.0]), np.array([2.0, 1.0, 4.0]))
    write_test_examples(tmp_path, kept)
    found = read_test_examples(tmp_path, {"test_examples": 3})
    assert found.values.tolist() == kept.values.tolist()
    assert found.counts.tolist() == kept.counts.tolist()


def test_the_shares_of_processes_are_put_back_in_order():
    whole = np.arange(7.0)
    assert _in_order([whole[rank::3] for rank in range(3)]).tolist() == whole.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("case", "found"), [("all", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ("one is silent", None)])
def test_processes_put_their_shares_together_without_a_duplicate(case, found, processes):
    outs = processes(Path(__file__).with_name("gathering_program.py"), 2, case)
    assert [json.loads(out) for out in outs] == [found, found]


def test_a_run_from_before_has_no_results_by_example(tmp_path):
    assert read_test_examples(tmp_path, {"test": {"accuracy": 0.5}}) is None


def test_examples_that_do_not_add_up_to_the_headline_are_not_kept(caplog):
    assert gather_test_examples(Says([1.0, 0.0], [1.0, 1.0]), 0.5, 1) is not None
    assert gather_test_examples(Says([1.0, 0.0], [1.0, 1.0]), 0.6, 1) is None
    assert "do not add up" in caplog.text


def test_a_task_that_says_nothing_keeps_nothing():
    assert gather_test_examples(object(), 0.5, 1) is None
    assert gather_test_examples(Says([float("nan")], [1.0]), float("nan"), 1) is None


def arrays(**named):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


DAMAGED = {
    "of another size": arrays(values=np.zeros(400), counts=np.ones(400)),
    "a matrix": arrays(values=np.zeros((3, 1)), counts=np.ones((3, 1))),
    "objects": arrays(values=np.array([1, "a", None], dtype=object), counts=np.ones(3)),
    "other names": arrays(values=np.zeros(3), others=np.ones(3)),
    "not a number": arrays(values=np.array([0, 1, np.nan]), counts=np.ones(3)),
    "no counts": arrays(values=np.zeros(3), counts=np.zeros(3)),
    "no archive": b"PK\x03\x04 and no more",
    "nothing": b"",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_not_read_and_named(content, tmp_path, caplog):
    (tmp_path / FILE).write_bytes(content)
    assert read_test_examples(tmp_path, {"test_examples": 3}) is None
    assert FILE in caplog.text


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", bytes(5_000_000))
        archive.writestr("counts.npy", bytes(10))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("was unpacked"))
    assert read_test_examples(tmp_path, {"test_examples": 3}) is None


def test_tokens_are_summed_by_example_and_flattened_tokens_are_not_taken_for_examples():
    values, counts = by_example((torch.ones(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])), 2)
    assert (values.tolist(), counts.tolist()) == ([3.0, 3.0], [2.0, 3.0])
    assert by_example(torch.ones(6), 2) is None
