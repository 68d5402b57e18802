"""``aleator advise`` from the command line: a real hour of seconds, and what is refused."""

import json
import os
import runpy
from pathlib import Path

import pytest

from aleator.cli import main
from aleator.experiment.files import read_json
from aleator.stats.advice import hour

TINY = f"{Path(__file__).parent / 'tiny_recipe.py'}:Tiny"


@pytest.fixture
def of_fixed_length(monkeypatch):
    """A loaded machine must not decide how much there is to do."""
    rungs = (hour.Rung(1 / 3, 2), hour.Rung(1.0, 1))
    monkeypatch.setattr(hour, "choosing", lambda seconds, arms, *_, **__: hour.Choosing(arms, rungs, 1.0))
    monkeypatch.setattr(hour, "confirming", lambda seconds, arms, *_, **__: hour.Confirming(arms, 2, 1.0))


@pytest.mark.usefixtures("of_fixed_length")
def test_real_runs_end_in_an_answer_a_report_and_a_script_that_runs(tmp_path, capsys):
    out = tmp_path / "advice"
    assert main(["advise", TINY, "--rounds", "40", "--minutes", "0.2", "--workers", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    document = read_json(out / "advice.json")
    assert document["answer"]
    assert all(sentence in said for sentence in document["answer"])
    assert document["task"]["steps"] == 400
    assert document["arms"]["WeightEMA"]["steps"] > 0
    assert document["task"]["probe"]["largest_stable_lr"] > 0
    (effect,) = document["effects"]
    assert (effect["arm"], effect["seeds"], effect["examples"]) == ("WeightEMA", 2, 100)
    for folder in (out / "runs").iterdir():
        config, result = read_json(folder / "config.json"), read_json(folder / "result.json")
        assert bool(result["test"]) == config["loop"]["test"] == (config["seed"] >= 1000)
    page = (out / "report.html").read_text()
    assert "WeightEMA" in page
    script = runpy.run_path(str(out / "advice.py"))
    script["main"](0)
    assert "validation" in capsys.readouterr().out
    assert main(["advise", "--out", str(out), "--resume"]) == 0  # nothing is left to do


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "minutes must be positive and finite, got 0"),
        (["--alpha", "1"], "alpha must be in (0, 1), got 1"),
        (["--resume", "--out", "nowhere"], "there is no advice to resume in nowhere"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["advise", TINY, *words]) == 2
    assert said in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_recipe_without_parts_is_refused(capsys, tmp_path):
    toy = f"{Path(__file__).parents[1] / 'experiment' / 'toy_recipe.py'}:Toy"
    assert main(["advise", toy, "--out", str(tmp_path / "x")]) == 2
    assert "its methods are not parts" in capsys.readouterr().err


def test_only_time_and_place_can_be_given_with_resume(capsys, tmp_path):
    (tmp_path / "advice.json").write_text(
        json.dumps({"schema_version": 1, "command": ["aleator", "advise", TINY], "recipe": TINY})
    )
    assert main(["advise", "--out", str(tmp_path), "--resume", "--rounds", "3"]) == 2
    assert "--rounds cannot be given with --resume" in capsys.readouterr().err
