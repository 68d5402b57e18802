"""A comparison ends well whatever happens to its runs, and says what they say and no more."""

import dataclasses
import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from aleator.experiment import Interrupted, RunOptions
from aleator.experiment.comparison import execute
from aleator.experiment.comparison.execute import compare, dry_run
from aleator.experiment.comparison.plan import Variant, plan_runs
from aleator.experiment.comparison.progress import ComparisonProgress, look_at
from aleator.experiment.comparison.progress import _Course as Course
from aleator.experiment.comparison.summary import summarise
from aleator.experiment.files import read_json, write_json
from aleator.experiment.registry import resolve
from aleator.stats import clopper_pearson, holm, mean_interval, paired_difference
from tests.experiment.comparison.grid_recipe import TEST_EXAMPLES
from tests.experiment.comparison.same_numbers import assert_same_numbers

GRID = f"{Path(__file__).parent / 'grid_recipe.py'}:Grid"
QUIET = RunOptions(trackers=())


def variants(**of_second):
    base = resolve(GRID)()
    return [Variant("base", base), Variant("other", dataclasses.replace(base, **of_second), of_second)]


def carry_out(out, compared, seeds=(0, 1), **more):
    return compare(compared, name=GRID, seeds=seeds, out=out, options=QUIET, workers=4, **more)


def test_a_comparison_says_what_its_runs_say(tmp_path):
    content = carry_out(tmp_path, variants(lr=0.01), seeds=(0, 1, 2), command=["aleator", "compare", "…"])
    assert content == read_json(tmp_path / "comparison.json")
    assert content["finished_runs"] == content["planned_runs"] == 6
    assert (content["failures"], content["unit"], content["seeds"]) == ([], "steps", [0, 1, 2])
    assert content["headline"] == {"name": "accuracy", "direction": "max"}
    assert content["command"] == ["aleator", "compare", "…"]
    assert {"versions", "machine", "threads"} == content["environment"].keys()
    base, other = content["variants"]
    assert (base["changed"], other["changed"], other["options"]["lr"]) == ({}, {"lr": 0.01}, 0.01)
    for variant in content["variants"]:
        accuracies = []
        for run in variant["runs"]:
            result = read_json(tmp_path / run["folder"] / "result.json")
            assert run["test"] == result["test"]
            assert (run["steps"], run["examples"]) == (30, 240)
            assert run["peak_memory_bytes"] > 0
            right = round(result["test"]["accuracy"] * TEST_EXAMPLES)
            assert run["accuracy_interval"] == list(clopper_pearson(right, TEST_EXAMPLES))
            accuracies.append(result["test"]["accuracy"])
        summary = variant["summary"]["accuracy"]
        assert (summary["mean"], summary["n"]) == (pytest.approx(sum(accuracies) / 3), 3)
        assert tuple(summary["interval"]) == mean_interval(accuracies)
        assert variant["summary"].keys() == {"accuracy"}
    a, b = ([run["test"]["accuracy"] for run in variant["runs"]] for variant in (base, other))
    expected = paired_difference(b, a)
    (pair,) = content["pairs"]
    assert (pair["a"], pair["b"], pair["metric"], pair["n"]) == ("other", "base", "accuracy", 3)
    assert pair["mean_difference"] == expected.mean
    assert tuple(pair["interval"]) == expected.interval
    assert (pair["p_value"], pair["smallest_detectable"]) == (expected.p_value, expected.smallest_detectable)


def test_variants_share_the_random_numbers_of_what_they_do_not_change(tmp_path):
    carry_out(tmp_path, variants(say="nothing that matters"))
    for seed in (0, 1):
        (one,), (other,) = ((tmp_path / "runs").glob(f"{name}-seed{seed}-*") for name in ("base", "other"))
        assert_same_numbers(one, other)


def test_a_finished_run_is_never_run_twice(tmp_path, monkeypatch):
    first = carry_out(tmp_path, variants(lr=0.01))
    with monkeypatch.context() as patch:
        patch.setattr(execute, "make_crew", lambda *_: pytest.fail("a worker was asked for"))
        again = carry_out(tmp_path, variants(lr=0.01))
    assert {**again, "created": None} == {**first, "created": None}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}
    more = carry_out(tmp_path, variants(lr=0.01), seeds=(0, 1, 2))
    assert more["finished_runs"] == 6
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_a_run_with_other_options_is_another_run(tmp_path):
    carry_out(tmp_path, variants(lr=0.01))
    content = carry_out(tmp_path, variants(lr=0.02))
    assert content["finished_runs"] == 4
    assert len(list((tmp_path / "runs").iterdir())) == 6  # the two of the base are kept, the two of lr=0.01 remain


def test_failed_runs_lose_nothing_but_themselves(tmp_path):
    content = carry_out(tmp_path, variants(kill_seed=1, break_seed=0), seeds=(0, 1, 2))
    assert content["finished_runs"] == 4
    broken, killed = content["failures"]
    assert (broken["variant"], broken["seed"], killed["seed"]) == ("other", 0, 1)
    assert re.fullmatch(r"ValueError: a number was not what it should be \(.*grid_recipe\.py:\d+\)", broken["error"])
    assert killed["error"].startswith("the process was killed by SIGKILL")
    assert "Traceback" in (tmp_path / broken["log"]).read_text()
    assert [run["status"] for run in content["variants"][1]["runs"]] == ["failed", "failed", "done"]
    assert content["pairs"][0]["n"] == 1  # the seed that both have finished
    assert content["pairs"][0]["interval"] is None
    assert content["variants"][1]["to_target"]["steps"][:2] == [None, None]


def test_bad_input_in_a_run_stops_the_comparison_with_the_variants_name(tmp_path):
    with pytest.raises(ValueError, match=r"^variant 'other': batch_size must be at most 3, got 8$"):
        carry_out(tmp_path, variants(refuse=True), seeds=range(40))
    assert len(list((tmp_path / "runs").glob("*/result.json"))) < 40


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path):
    """The first run of the second variant sends this process a SIGINT in its fifth step."""
    compared = variants(interrupt=os.getpid())
    with pytest.raises(Interrupted, match="the same command goes on from there"):
        compare(compared, name=GRID, seeds=(0, 1), out=tmp_path / "cut", options=QUIET, workers=1)
    before = read_json(tmp_path / "cut" / "comparison.json")
    assert before["finished_runs"] == 1
    assert [failure["status"] for failure in before["failures"]] == ["interrupted"]
    (stopped,) = (tmp_path / "cut" / "runs").glob("other-seed0-*")
    assert (stopped / "checkpoints").exists()
    with pytest.raises(Interrupted):  # the second seed sends one, too
        compare(compared, name=GRID, seeds=(0, 1), out=tmp_path / "cut", options=QUIET, workers=1)
    content = compare(compared, name=GRID, seeds=(0, 1), out=tmp_path / "cut", options=QUIET, workers=1)
    assert (content["finished_runs"], content["failures"]) == (4, [])
    carry_out(tmp_path / "through", variants())
    for seed in (0, 1):
        (cut,) = (tmp_path / "cut" / "runs").glob(f"other-seed{seed}-*")
        (through,) = (tmp_path / "through" / "runs").glob(f"other-seed{seed}-*")
        assert_same_numbers(cut, through)


def test_sizes_are_compared_each_with_its_own_baseline(tmp_path):
    content = carry_out(tmp_path, variants(lr=0.01), sizes=[16, 32])
    assert content["sizes"] == [16, 32]
    named = [(variant["name"], variant["size"], variant["options"]["train_size"]) for variant in content["variants"]]
    assert named == [("base", 16, 16), ("other", 16, 16), ("base", 32, 32), ("other", 32, 32)]
    assert [pair["size"] for pair in content["pairs"]] == [16, 32]
    for variant in content["variants"]:
        baseline = next(v for v in content["variants"] if v["size"] == variant["size"])
        ends = [run["validation"]["accuracy"] for run in baseline["runs"]]
        assert variant["to_target"]["target"] == pytest.approx(sum(ends) / len(ends))
        assert variant["to_target"]["source"] == "baseline"


def test_a_folder_of_something_else_is_refused(tmp_path):
    write_json(tmp_path / "a" / "comparison.json", {"recipe": "another"})
    write_json(tmp_path / "b" / "config.json", {"recipe": GRID})
    (tmp_path / "c").write_text("")
    for folder, message in [
        ("a", "holds a comparison of recipe 'another'"),
        ("b", "holds a single run"),
        ("c", "is a file"),
    ]:
        with pytest.raises(ValueError, match=message):
            carry_out(tmp_path / folder, variants())


def test_a_dry_run_tells_runs_time_and_disk_and_writes_nothing(tmp_path):
    lines = dry_run(variants(lr=0.01), name=GRID, seeds=(0, 1), out=tmp_path / "out", options=QUIET, workers=2)
    assert lines[0] == "runs: 4, of which 0 are finished"
    assert lines[1] == "  to do: base seed 0"
    assert lines[-2].startswith("time: about ")
    assert lines[-2].endswith(", 2 at a time (2 timed now)")
    assert lines[-1].startswith("disk: about ")
    assert not (tmp_path / "out").exists()
    carry_out(tmp_path / "out", variants(lr=0.01))
    lines = dry_run(variants(lr=0.01), name=GRID, seeds=(0, 1, 2), out=tmp_path / "out", options=QUIET, workers=2)
    assert lines[0] == "runs: 6, of which 4 are finished"
    assert lines[-2].endswith("(from finished runs)")


def test_a_dry_run_explains_bad_input():
    with pytest.raises(ValueError, match=r"^variant 'other': batch_size must be at most 3, got 8$"):
        dry_run(variants(refuse=True), name=GRID, seeds=[0], options=QUIET)


# --- the summary, on results that were made up --------------------------------------------------------------------


def made_up(out, planned, validation, test, direction="max", curve=()):
    """Results of all runs whose headline is a function of the run, and their logs."""
    results = {}
    for run in planned:
        results[run.folder] = {
            "unit": "steps",
            "steps": 10,
            "examples": 80,
            "headline": {"name": "score", "direction": direction},
            "validation": {"score": validation(run)},
            "test": {"score": test(run)},
            "seconds": {"total": 1.0},
            "peak_memory_bytes": 1,
        }
        rows = [
            {"split": "validation", "step": s, "examples": 8 * s, "seconds": s / 4, "metrics": {"score": v}}
            for s, v in curve
        ]
        folder = out / "runs" / run.folder
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return results


def told(out, planned, results, target=None, failed=None):
    return summarise(variants(), planned, results, failed or {}, out=out, name=GRID, target=target, command=[])


@pytest.mark.parametrize(("direction", "best"), [("max", 0.5), ("min", 0.1)])
def test_tuning_chooses_on_validation_and_reports_test(tmp_path, direction, best):
    """Test is worst where validation is best: looking at it would choose the other value."""
    tune = ("lr", [0.1, 0.5])
    planned = plan_runs(variants(), (0, 1), name=GRID, options=QUIET, tune=tune)
    results = made_up(tmp_path, planned, lambda run: run.tuned["lr"], lambda run: -run.tuned["lr"], direction=direction)
    content = told(tmp_path, planned, results)
    assert content["tune"] == {"field": "lr", "values": [0.1, 0.5]}
    for variant in content["variants"]:
        assert variant["tuned"] == {"lr": best}
        assert variant["options"]["lr"] == best
        assert variant["summary"]["score"]["mean"] == -best
        assert [(trial["tuned"]["lr"], trial["validation"], trial["n"]) for trial in variant["trials"]] == [
            (0.1, 0.1, 2),
            (0.5, 0.5, 2),
        ]


def test_a_value_that_did_not_finish_every_seed_is_not_chosen_over_one_that_did(tmp_path):
    planned = plan_runs(variants(), (0, 1), name=GRID, options=QUIET, tune=("lr", [0.1, 0.5]))
    results = made_up(tmp_path, planned, lambda run: run.tuned["lr"], lambda run: 0.0)
    for run in planned:
        if run.tuned["lr"] == 0.5 and run.seed == 1:
            del results[run.folder]
    assert [variant["tuned"]["lr"] for variant in told(tmp_path, planned, results)["variants"]] == [0.1, 0.1]


def test_target_is_reached_at_the_first_evaluation_as_good(tmp_path):
    planned = plan_runs(variants(), (0,), name=GRID, options=QUIET)
    curve = [(4, 0.2), (8, None), (12, 0.7), (16, 0.6)]
    results = made_up(tmp_path, planned, lambda run: 0.6, lambda run: 0.6, curve=curve)
    for target, step in [(0.1, 4), (0.6, 12), (0.7, 12), (0.71, None)]:
        reached = told(tmp_path, planned, results, target)["variants"][0]["to_target"]
        assert (reached["target"], reached["source"], reached["steps"]) == (target, "given", [step])
        assert reached["seconds"] == [None if step is None else step / 4]
        assert reached["examples"] == [None if step is None else 8 * step]


def test_target_of_a_loss_is_reached_from_above(tmp_path):
    planned = plan_runs(variants(), (0,), name=GRID, options=QUIET)
    curve = [(4, 0.9), (8, 0.5), (12, 0.6)]
    results = made_up(tmp_path, planned, lambda run: 0.6, lambda run: 0.6, "min", curve)
    assert told(tmp_path, planned, results, 0.7)["variants"][0]["to_target"]["steps"] == [8]
    default = told(tmp_path, planned, results)["variants"][0]["to_target"]
    assert (default["target"], default["source"], default["steps"]) == (0.6, "baseline", [8])


def test_metrics_that_are_not_finite_are_left_out(tmp_path):
    planned = plan_runs(variants(), (0, 1, 2), name=GRID, options=QUIET)
    results = made_up(tmp_path, planned, lambda run: None, lambda run: None if run.seed == 1 else float(run.seed))
    content = told(tmp_path, planned, results)
    assert content["variants"][0]["summary"]["score"]["n"] == content["pairs"][0]["n"] == 2
    assert content["variants"][0]["to_target"] is None


def test_equal_variants_differ_by_nothing(tmp_path):
    planned = plan_runs(variants(), (0, 1, 2), name=GRID, options=QUIET)
    (pair,) = told(tmp_path, planned, made_up(tmp_path, planned, lambda run: 0.5, lambda run: run.seed / 9))["pairs"]
    assert (pair["mean_difference"], pair["interval"], pair["p_value"]) == (0.0, None, None)


def test_one_seed_has_no_interval(tmp_path):
    planned = plan_runs(variants(), (0,), name=GRID, options=QUIET)
    results = made_up(tmp_path, planned, lambda run: 0.5, lambda run: len(run.variant) / 10)
    content = told(tmp_path, planned, results)
    assert content["pairs"][0]["interval"] is None
    assert content["pairs"][0]["n"] == 1
    assert content["variants"][0]["summary"]["score"]["interval"] is None


def test_intervals_of_accuracies_do_not_leave_what_accuracies_can_be(tmp_path):
    planned = plan_runs(variants(), (0, 1, 2), name=GRID, options=QUIET)
    scores = {("a", 0): 1.0, ("a", 1): 0.7, ("a", 2): 1.0, ("b", 0): 0.0, ("b", 1): 0.4, ("b", 2): 0.0}
    names = [variant.name for variant in variants()]
    results = made_up(tmp_path, planned, lambda run: 0.5, lambda run: scores["ab"[names.index(run.variant)], run.seed])
    for result in results.values():
        result["test"] = {"accuracy": result["test"]["score"]}
        result["validation"] = {"accuracy": 0.5}
        result["headline"] = {"name": "accuracy", "direction": "max"}
    content = told(tmp_path, planned, results)
    high, low = (variant["summary"]["accuracy"]["interval"] for variant in content["variants"])
    assert (high[1], low[0]) == (1.0, 0.0)
    assert content["pairs"][0]["interval"][0] == -1.0


def test_p_values_are_adjusted_for_all_pairs(tmp_path):
    three = [*variants(), Variant("third", dataclasses.replace(resolve(GRID)(), lr=0.03), {"lr": 0.03})]
    planned = plan_runs(three, (0, 1, 2), name=GRID, options=QUIET)
    shift = {variant.name: 0.1 * i for i, variant in enumerate(three)}
    results = made_up(
        tmp_path, planned, lambda run: 0.5, lambda run: shift[run.variant] + 0.01 * run.seed ** (1 + shift[run.variant])
    )
    pairs = summarise(three, planned, results, {}, out=tmp_path, name=GRID, target=None, command=[])["pairs"]
    assert len(pairs) == 3
    assert [pair["p_holm"] for pair in pairs] == holm([pair["p_value"] for pair in pairs])
    assert max(pair["p_value"] for pair in pairs) < min(pair["p_holm"] for pair in pairs)


# --- what a person sees -------------------------------------------------------------------------------------------


def test_time_left_follows_from_what_is_known():
    assert Course().left([], 4, 2) is None
    assert Course([10.0]).left([], 4, 2) == 20.0  # four runs of ten seconds, two at a time
    assert Course([10.0]).left([(4.0, None), (4.0, None)], 0, 2) == 6.0
    assert Course().left([(5.0, 0.25), (5.0, 0.5)], 0, 2) == 15.0  # the slower of the two decides
    assert Course().left([(5.0, 0.5)], 3, 1) == 35.0  # half a run, and three more of ten seconds


def test_a_running_run_is_read_from_the_end_of_its_log(tmp_path):
    assert look_at(tmp_path) == (None, "")
    write_json(tmp_path / "config.json", {"budget": {"total": 200}, "headline": {"name": "accuracy"}})
    row = {"step": 1, "progress": 50, "split": "validation", "metrics": {"accuracy": 0.875}}
    train = {**row, "progress": 100, "split": "train"}
    log = "{}\n" * 9000 + json.dumps(row) + "\n" + json.dumps(train) + "\n" + '{"step": 3, "prog'
    (tmp_path / "metrics.jsonl").write_text(log)
    assert look_at(tmp_path) == (0.5, "accuracy 0.875")


def test_a_terminal_shows_the_running_runs_and_the_whole(tmp_path):
    write_json(tmp_path / "config.json", {"budget": {"total": 4}, "headline": {"name": "accuracy"}})
    row = {"step": 1, "progress": 1, "split": "validation", "metrics": {"accuracy": 0.5}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    screen = io.StringIO()
    with ComparisonProgress(5, 1, 2, Console(file=screen, force_terminal=True, width=100)) as progress:
        progress.started("a", "base [seed] 0", tmp_path)
        progress.started("b", "base seed 1", tmp_path / "absent")
        progress.refresh()
        progress.ended("b", "test accuracy 0.9", done=True)
    for text in ("1 of 5 runs were finished before", "base [seed] 0", "25%", "accuracy 0.5", "1/5 runs", "left"):
        assert text in screen.getvalue()
    assert "2/5 base seed 1: test accuracy 0.9" in screen.getvalue()


def test_without_a_terminal_there_is_a_line_for_every_run(tmp_path, caplog):
    caplog.set_level("INFO", "aleator.experiment")
    carry_out(tmp_path, variants(), seeds=[0])
    remark, *lines = (record.message for record in caplog.records)
    assert remark == "variants 'base' and 'other' have the same options"
    assert sorted(line.split(":")[0].partition(" ")[2] for line in lines) == ["base seed 0", "other seed 0"]
    assert [line.partition(" ")[0] for line in lines] == ["1/2", "2/2"]


def test_the_summary_is_there_before_the_last_run_ends(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        execute,
        "write_json",
        lambda path, content: written.append(content["finished_runs"]) or write_json(path, content),
    )
    carry_out(tmp_path, variants())
    assert written[:5] == [0, 1, 2, 3, 4]


def test_bad_input_of_a_late_variant_is_refused_before_anything_is_trained(tmp_path):
    late = [*variants(lr=0.01), Variant("bad", dataclasses.replace(resolve(GRID)(), refuse=True), {"refuse": True})]
    with pytest.raises(ValueError, match="variant 'bad'"):
        carry_out(tmp_path / "out", late)
    assert not (tmp_path / "out").exists()


def test_variants_that_are_counted_in_different_units_are_refused_before_anything_is_trained(tmp_path):
    line = r"variant '(base|other)': it is counted in (steps|examples) and variant '(base|other)' in (steps|examples)"
    with pytest.raises(ValueError, match=line):
        carry_out(tmp_path / "out", variants(unit="examples"))
    assert not (tmp_path / "out").exists()
    carry_out(tmp_path / "out", variants()[:1])
    with pytest.raises(
        ValueError, match=r"variant 'other': it is counted in examples and variant 'base' in steps; comp"
    ):
        carry_out(tmp_path / "out", variants(unit="examples"))


@pytest.mark.parametrize("target", [95.0, -1.0])
@pytest.mark.parametrize("compared", [variants()[:1], variants(lr=0.01)], ids=["one variant", "two"])
def test_a_target_that_no_accuracy_can_be_is_refused_before_anything_is_trained(tmp_path, target, compared):
    with pytest.raises(
        ValueError, match=rf"variant '(base|other)': target must be in \[0, 1\] for accuracy, got {target:g}"
    ):
        carry_out(tmp_path / "out", compared, target=target)
    assert not (tmp_path / "out").exists()
