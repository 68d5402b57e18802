"""Commands that are killed, or whose disk fails, at an operation end identical or say in one line what to do.

All operations of all commands are cut by ``python -m tests.experiment.survival``, which writes docs/survival.json; here
a part of them.
"""

from tests.experiment.survival import COMPARE, REPORT, RUN, Scenario, Trial, fetch, server, some, survey

# Of each kind of operation one in so many is cut, and so each kind at least once.
EVERY = 20


def faults(cuts):
    return [f"{cut.how} at {cut.operation}: {cut.fault}" for cut in cuts if cut.fault]


def test_a_run_that_is_cut_ends_as_if_it_had_not_been(warm, tmp_path):
    cuts = survey(warm, RUN, tmp_path, EVERY)
    kinds = {"mkdir", "create", "write", "truncate", "fsync", "rename", "unlink", "rmdir"}
    assert {cut.operation.split()[0] for cut in cuts if cut.how == "kill"} == kinds
    assert {cut.how for cut in cuts} == {"kill", "torn", "full", "stale"}
    assert faults(cuts) == []


def test_a_comparison_that_is_cut_ends_as_if_it_had_not_been(warm, tmp_path):
    cuts = survey(warm, COMPARE, tmp_path, EVERY)
    assert {cut.how for cut in cuts} == {"kill", "torn", "full", "stale"}
    assert faults(cuts) == []


def test_a_report_that_is_cut_is_written_the_next_time(warm, tmp_path):
    cuts = survey(warm, REPORT, tmp_path)
    assert {cut.operation.split()[0] for cut in cuts} >= {"create", "write", "fsync", "rename"}
    assert faults(cuts) == []


def test_a_download_that_is_cut_is_made_the_next_time(warm, tmp_path):
    with server() as port:
        cuts = survey(warm, fetch(port), tmp_path, EVERY)
    assert {cut.operation.split()[0] for cut in cuts} == {"mkdir", "create", "write", "rename", "rmdir"}
    assert faults(cuts) == []


def test_of_each_kind_of_operation_one_in_so_many_is_cut_evenly():
    operations = [*["write x"] * 9, "mkdir y", *["write x"] * 3]
    assert some(operations, 1) == list(range(13))
    assert some(operations, 4) == [2, 6, 9, 11]  # the 3rd, 7th and 11th of twelve writes
    assert some(operations, 100) == [6, 9]


def test_a_run_killed_between_the_weights_and_their_mean_ends_as_if_it_had_not_been(warm, tmp_path):
    words = ["run", "classify", "--ema", "0.5", "--rounds", "1", "--trackers", "--out", "o/it"]
    trial = Trial(warm, Scenario("run", words, RUN.again), tmp_path)
    assert {"it/model.safetensors", "it/model-ema.safetensors"} <= trial.left.keys()
    (at,) = (n for n, made in enumerate(trial.operations) if made == "rename /it/model-ema.safetensors")
    assert faults(trial.cut([(at, "kill")])) == []
