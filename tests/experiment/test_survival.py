"""Commands that are killed, or whose disk fails, at an operation end identical or say in one line what to do.

All operations of all commands are cut by ``python -m tests.experiment.survival``, which writes docs/survival.json; here
a part of them.
"""

import pytest

from tests.experiment.injection import Warm
from tests.experiment.survival import COMPARE, REPORT, RUN, Scenario, Trial, fetch, server, survey


@pytest.fixture(scope="module")
def warm():
    interpreter = Warm()
    yield interpreter
    interpreter.close()


def faults(cuts):
    return [f"{cut.how} at {cut.operation}: {cut.fault}" for cut in cuts if cut.fault]


def test_a_run_that_is_cut_ends_as_if_it_had_not_been(warm, tmp_path):
    cuts = survey(warm, RUN, tmp_path, every=5)
    assert {"kill", "full"} <= {cut.how for cut in cuts}
    assert faults(cuts) == []


def test_a_comparison_that_is_cut_ends_as_if_it_had_not_been(warm, tmp_path):
    cuts = survey(warm, COMPARE, tmp_path, every=5)
    assert len(cuts) > 5
    assert faults(cuts) == []


def test_a_report_that_is_cut_is_written_the_next_time(warm, tmp_path):
    cuts = survey(warm, REPORT, tmp_path)
    assert {cut.operation.split()[0] for cut in cuts} >= {"create", "write", "fsync", "rename"}
    assert faults(cuts) == []


def test_a_download_that_is_cut_is_made_the_next_time(warm, tmp_path):
    with server() as port:
        cuts = survey(warm, fetch(port), tmp_path)
    assert sum(cut.operation.startswith("write") for cut in cuts) >= 3
    assert faults(cuts) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dense", "frozen", "private"])
def test_a_spiking_network_killed_after_a_checkpoint_ends_as_if_it_had_not_been(warm, tmp_path, engine):
    sizes = ["--hidden", "10", "--train-size", "6", "--validation-size", "2", "--test-size", "11"]
    sizes += [] if engine == "dense" else ["--batch-size", "2"]
    words = ["run", "spiking", "--engine", engine, *sizes, "--checkpoint-seconds", "0", "--trackers", "--out", "o/it"]
    trial = Trial(warm, Scenario("run", words, RUN.again, ["take_small_steps"]), tmp_path)
    saved = [at for at, made in enumerate(trial.operations) if made.startswith("rename /it/checkpoints/step-")]
    assert len(saved) > 2
    assert faults(trial.cut([(saved[1] + 1, "kill")])) == []
