"""Advice from pretended runs: what is tried, what is confirmed, what is said, and what an interruption keeps."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import aleator.experiment.advice.advise as module
from aleator.experiment import advise, registry
from aleator.experiment.advice.arms import OWN
from aleator.experiment.advice.script import _winner
from aleator.experiment.comparison.workers import Outcome
from aleator.experiment.files import read_json, write_json
from aleator.experiment.report import write_report
from aleator.stats.advice import hour
from tests.experiment.advice.pretended import ARMS, NAME, Pretence, Pretended, changed


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Return a function that advises with pretended workers, into one folder."""

    def ask(crew, recipe=None, minutes=1.0, out=None, arms=ARMS, **more):
        monkeypatch.setattr(module, "make_crew", lambda *_: crew)
        recipe = recipe or registered(Pretended)()
        return advise(recipe, name=NAME, arms=arms, minutes=minutes, out=out or tmp_path / "a", **more)

    return ask


def registered(kind):
    """Return the class as the registry imports it, which is the one that jobs are rebuilt with."""
    return getattr(sys.modules[registry.resolve(NAME).__module__], kind.__name__)


def trials(crew):
    return [job for job in crew.ran if not job["run"]["test"]]


def confirming(crew):
    return [job for job in crew.ran if job["run"]["test"]]


def test_every_arm_has_as_many_trials_of_equal_draws_and_none_sees_test_data(ask):
    crew = Pretence()
    document = ask(crew)
    entries = document["arms"]
    counts = {name: len(entry["trials"]) for name, entry in entries.items()}
    assert set(counts) == {"baseline", *ARMS}
    assert len(set(counts.values())) == 1
    assert counts["baseline"] > 3
    assert entries["baseline"]["trials"]["0"]["changes"] == {}
    assert entries["Trick"]["trials"]["0"]["changes"] == {"trick": "on"}
    for number in map(str, range(1, counts["baseline"])):
        rates = {name: entries[name]["trials"][number]["changes"]["lr"] for name in ("baseline", "Trick", "Slow")}
        assert len(set(rates.values())) == 1
        own = entries["Own rate"]["trials"][number]["changes"]["lr"]
        assert 0.002 <= own <= 0.2
    assert {job["run"]["seed"] for job in trials(crew)} == {0}
    assert all(job["run"]["seed"] >= 1000 for job in confirming(crew))


def test_equal_time_is_turned_into_steps(ask):
    document = ask(Pretence())
    steps = {name: entry["steps"] for name, entry in document["arms"].items()}
    assert steps["baseline"] == steps["Trick"] == 200
    assert steps["Slow"] == 100


def test_a_rung_is_a_complete_run_of_a_third_of_the_next_ones_length(ask):
    crew = Pretence()
    document = ask(crew)
    shares = [rung["share"] for rung in document["rungs"]]
    assert shares == pytest.approx([3.0 ** (index - len(shares) + 1) for index in range(len(shares))])
    lengths = Counter(job["options"]["steps"] for job in trials(crew) if changed(job["options"]) == "baseline")
    assert lengths == {round(200 * rung["share"]): rung["trials"] for rung in document["rungs"]}


def test_no_difference_is_said_where_there_is_none(ask, tmp_path):
    document = ask(Pretence(), arms={name: ARMS[name] for name in ("Trick", "Own rate")})
    assert {effect["claim"] for effect in document["effects"]} == {None}
    assert document["winner"] == "baseline"
    assert any("no difference found" in sentence for sentence in document["answer"])
    assert "no method was found to be better" in (tmp_path / "a" / "advice.py").read_text()


def test_a_method_that_pays_is_found_and_written_down(ask, tmp_path):
    document = ask(Pretence(gains={"trick": 0.05}))
    best = document["effects"][0]
    assert (best["arm"], best["claim"], document["winner"]) == ("Trick", "better", "Trick")
    assert best["interval"][0] < 0.05 < best["interval"][1]
    script = (tmp_path / "a" / "advice.py").read_text()
    assert "'trick': 'on'" in script or "'trick': 'more'" in script
    compile(script, "advice.py", "exec")


def test_a_rate_thirty_times_too_small_is_tuned_and_tuning_made_the_gain(ask):
    document = ask(Pretence(), registered(Pretended)(lr=0.1 / 30), arms={"Trick": ARMS["Trick"]})
    entry = document["arms"]["baseline"]
    tuned = entry["trials"][str(entry["best"])]["changes"]["lr"]
    assert abs(math.log10(tuned / 0.1)) < 0.5
    own = next(effect for effect in document["effects"] if effect["arm"] == "your own settings")
    assert own["claim"] == "worse"
    assert any(sentence.startswith("Tuning, not a method, made the gain") for sentence in document["answer"])


def test_an_interrupted_advice_goes_on_without_a_run_twice_and_ends_the_same(ask, tmp_path):
    straight = Pretence(gains={"trick": 0.05})
    whole = ask(straight, out=tmp_path / "whole")
    total = len(straight.ran)
    crew = Pretence(gains={"trick": 0.05}, stop_after=total // 3)
    for after in (total // 3, 2 * total // 3):
        crew.stop_after = after
        with pytest.raises(KeyboardInterrupt):
            ask(crew)
    crew.stop_after = 10**9
    document = ask(crew)
    folders = [Path(job["folder"]).name for job in crew.ran]
    assert len(set(folders)) == len(folders)
    assert set(folders) == {Path(job["folder"]).name for job in straight.ran}
    assert document["effects"] == whole["effects"]
    assert len(document["looks"]) == 1


def test_a_further_look_has_fresh_seeds_half_the_level_and_keeps_claims(ask, tmp_path):
    crew = Pretence(gains={"trick": 0.05})
    first = ask(crew)
    seeds = {job["run"]["seed"] for job in confirming(crew)}
    again = Pretence(gains={"trick": -0.05})
    second = ask(again, minutes=0.5)
    fresh = {job["run"]["seed"] for job in again.ran}
    assert fresh
    assert not fresh & seeds
    assert not trials(again)
    claimed = {effect["arm"]: effect for effect in first["effects"] if effect["claim"]}
    kept = {effect["arm"]: effect for effect in second["effects"]}
    assert all(kept[name] == effect for name, effect in claimed.items())
    open_arm = next(effect for effect in second["effects"] if effect["claim"] is None or effect["look"] == 2)
    assert 1 - open_arm["level"] == pytest.approx(0.05 / 4 / len(second["confirmed"]))
    assert "Trick" not in second["looks"][1]["confirming"]["arms"]


def test_an_arm_that_joins_later_is_settled_with_those_before(ask, monkeypatch):
    seen = []

    def settled(values, *more):
        seen.append(values)
        return hour.settled(values, *more)

    monkeypatch.setattr(
        "aleator.experiment.advice.choosing.hour", SimpleNamespace(**{**vars(hour), "settled": settled})
    )
    arms = {name: ARMS[name] for name in ("Trick", "Slow")}
    entries = ask(Pretence(), minutes=0.15, arms=arms)["arms"]
    assert entries["Slow"]["status"] == "not tried"
    before = {arm: len(entries[arm]["trials"]) for arm in ("baseline", "Trick")}
    seen.clear()
    document = ask(Pretence(), minutes=1.0, arms=arms)
    assert document["arms"]["Slow"]["chosen_in"] == 2
    assert {arm: len(of_arm) for arm, of_arm in seen[0].items() if arm != "Slow"} == before


def test_a_look_that_is_not_finished_has_the_minutes_it_was_begun_with(ask):
    crew = Pretence(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        ask(crew)
    crew.stop_after = 10**9
    with pytest.raises(ValueError, match="a look of 1 minutes that is not finished"):
        ask(crew, minutes=30.0)
    assert ask(crew, minutes=None)["looks"][0]["done"]


def test_a_pair_is_planned_once_whatever_interrupts_it(ask):
    straight = Pretence(gains={"trick": 0.03, "other": 0.02})
    whole = ask(straight, out=None)
    (row, *_), before = whole["pairs"]["tried"], len(trials(straight))
    number = next(index for index, job in enumerate(straight.ran) if row["name"].replace(" ", "-") in job["folder"])
    assert number < before
    crew = Pretence(gains=straight.gains, stop_after=number)
    out = Path(straight.ran[0]["folder"]).parents[2] / "again"
    with pytest.raises(KeyboardInterrupt):
        ask(crew, out=out)
    crew.stop_after, crew.step = 10**9, 0.004  # measured anew it would have other steps
    assert ask(crew, out=out)["pairs"]["tried"][0]["steps"] == row["steps"]


def test_a_folder_that_was_begun_before_equal_time_was_kept_is_finished(ask, tmp_path):
    whole = Pretence(gains={"trick": 0.03, "other": 0.02})
    steps = ask(whole, out=tmp_path / "whole")["pairs"]["tried"][0]["steps"]
    number = next(index for index, job in enumerate(whole.ran) if "+" in Path(job["folder"]).name)
    crew = Pretence(gains=whole.gains, stop_after=number - 1)
    with pytest.raises(KeyboardInterrupt):
        ask(crew)
    document = read_json(tmp_path / "a" / "advice.json")
    del document["task"]["equal_time"]
    write_json(tmp_path / "a" / "advice.json", document)
    crew.stop_after = 10**9
    assert ask(crew)["pairs"]["tried"][0]["steps"] == steps


def test_a_baseline_that_fails_on_some_seeds_is_said(ask):
    def spoiled(options):
        bad = options.get("seed") == 1001 and changed(options) == "baseline"
        return Outcome("failed", "the loss of step 3 is not finite") if bad else None

    document = ask(Pretence(spoiled=spoiled, gains={"trick": 0.05}))
    (said,) = [one for one in document["answer"] if one.startswith("baseline failed: 1 of ")]
    assert "the loss of step 3 is not finite" in said
    assert said.endswith("arms are compared on its other seeds.")
    seeds = len(document["looks"][0]["confirming"]["seeds"])
    assert {effect["seeds"] for effect in document["effects"]} == {seeds - 1}


def test_an_arm_whose_confirming_runs_fail_is_not_confirmed_again_and_time_is_not_blamed(ask):
    def spoiled(options):
        bad = options["seed"] >= 1000 and changed(options) != "baseline"
        return Outcome("failed", "memory ran out") if bad else None

    document = ask(Pretence(spoiled=spoiled), minutes=1.0)
    assert not document["effects"]
    assert not any("time" in sentence for sentence in document["answer"])
    assert "Nothing was confirmed: no method has results on test data." in document["answer"]
    again = Pretence()
    second = ask(again, minutes=0.5)
    assert not again.ran
    assert second["looks"][1]["confirming"]["arms"] == []


def test_a_finished_advice_is_read_and_not_begun_again(ask):
    crew = Pretence()
    first = ask(crew)
    count = len(crew.ran)
    assert ask(crew, minutes=None)["effects"] == first["effects"]
    assert len(crew.ran) == count


def test_a_failing_arm_and_one_that_does_not_apply_lose_only_themselves(ask):
    def spoiled(options):
        if changed(options) == "Slow":
            return Outcome("refused", "slow cannot be used with this network")
        if changed(options) == "Trick" and options["steps"] != 200:
            return Outcome("failed", "MemoryError: memory ran out")
        return None

    document = ask(Pretence(spoiled=spoiled))
    assert document["arms"]["Slow"]["status"] == "does not apply"
    assert document["arms"]["Trick"]["status"] == "failed"
    assert "Slow does not apply, because slow cannot be used with this network." in document["answer"]
    assert "Trick failed: MemoryError: memory ran out." in document["answer"]
    assert [effect["arm"] for effect in document["effects"]] == ["Own rate"]


def test_a_baseline_that_is_refused_is_bad_input(ask, tmp_path):
    with pytest.raises(ValueError, match="there is no test split"):
        ask(Pretence(spoiled=lambda options: Outcome("refused", "there is no test split")))
    assert not (tmp_path / "a" / "advice.json").exists()  # what was asked for wrongly can be asked for again, there


def test_a_task_that_is_too_slow_says_what_it_would_take(ask, tmp_path):
    document = ask(Pretence(step=3.0), minutes=5.0)
    assert document["effects"] == []
    assert any(sentence.startswith("Nothing was confirmed") for sentence in document["answer"])
    assert "as it was given" in (tmp_path / "a" / "advice.py").read_text()
    assert write_report(tmp_path / "a").is_file()


def test_a_dry_run_keeps_nothing_and_tells_what_the_time_affords(monkeypatch):
    monkeypatch.setattr(module, "make_crew", lambda *_: Pretence())
    lines = module.dry_run(registered(Pretended)(), name=NAME, arms=ARMS, minutes=1.0)
    assert lines[0].startswith("a run: 200 steps")
    assert any(line.startswith("confirming: 3 arms on ") for line in lines)


def test_another_recipes_folder_and_other_options_are_refused(ask, tmp_path):
    ask(Pretence())
    with pytest.raises(ValueError, match="other options"):
        ask(Pretence(), registered(Pretended)(weight_decay=0.5))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "comparison.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a comparison"):
        ask(Pretence(), out=tmp_path / "b")


def test_a_pair_that_composes_is_confirmed_beside_its_arms(ask):
    document = ask(Pretence(gains={"trick": 0.03, "other": 0.02}))
    names = [one["name"] for one in document["pairs"]["tried"]]
    assert "Trick + Own rate" in names or "Own rate + Trick" in names


def test_the_report_holds_the_answer_and_every_arm(ask, tmp_path):
    document = ask(Pretence(gains={"trick": 0.05}))
    page = write_report(tmp_path / "a").read_text()
    for sentence in document["answer"]:
        assert sentence.replace("'", "&#39;") in page
    for name in ARMS:
        assert name in page


def test_equal_steps_are_described(ask, tmp_path):
    document = ask(Pretence(gains={"trick": 0.05}))
    told = document["described"]["Slow"]
    assert told["equal_steps"] == document["arms"]["Slow"]["steps"] < document["arms"]["baseline"]["steps"]
    assert told["validation_at_equal_steps"] == pytest.approx(told["validation"])
    assert told["baseline_at_equal_steps"] == pytest.approx(document["described"]["baseline"]["validation"])
    assert f"after {told['equal_steps']} steps" in write_report(tmp_path / "a").read_text()


def test_the_script_of_ones_own_settings_has_no_others():
    document = {"winner": OWN, "confirmed": {OWN: {"changes": {}, "steps": 200}}, "arms": {}}
    assert _winner(document, "mine") == ({}, None, "mine as it was given, which is better than tuned.")


def test_the_document_is_whole_json(ask, tmp_path):
    document = ask(Pretence())
    assert read_json(tmp_path / "a" / "advice.json") == document


def test_what_takes_too_long_to_begin_does_not_apply(ask):
    def spoiled(options):
        return Outcome("failed", "TooSlow: no steps after 5 s") if changed(options) == "Slow" else None

    document = ask(Pretence(spoiled=spoiled))
    assert document["arms"]["Slow"]["status"] == "does not apply"
    assert any(said.startswith("Slow does not apply, because before its first step") for said in document["answer"])


def test_the_time_of_the_phases_is_part_of_the_time_that_was_spent(ask):
    look = ask(Pretence())["looks"][0]
    assert set(look["seconds"]) == {"measuring", "choosing", "confirming"}
    assert sum(look["seconds"].values()) <= look["spent"] + 1e-6
