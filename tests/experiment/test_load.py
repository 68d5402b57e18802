from pathlib import Path

import pytest
import torch

import aleator
from aleator.experiment import RunOptions, run
from aleator.experiment.registry import resolve
from aleator.recipes.classify import Classify

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"


def test_loaded_model_gives_the_results_of_the_run(tmp_path):
    recipe = Classify(rounds=2, subset="rs2", ratio=0.5)
    result = run(recipe, tmp_path / "run", RunOptions(seed=3, trackers=()), name="classify")
    loaded = aleator.load_run(tmp_path / "run")
    assert loaded.recipe == recipe
    assert loaded.result == {"schema_version": 1, **result}
    assert loaded.config["seed"] == 3
    assert not loaded.model.training
    with torch.no_grad():
        assert loaded.task.evaluate("test") == result["test"]


@pytest.mark.plain
def test_missing_or_unfinished_run_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finished run in .*: it has no config.json"):
        aleator.load_run(tmp_path)
    recipe = Classify(rounds=1)
    run(recipe, tmp_path / "run", RunOptions(trackers=()), name="classify")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no result\.json"):
        aleator.load_run(tmp_path / "run")


def test_a_run_whose_data_have_a_relative_path_is_loaded_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.txt").write_text("data")
    run(resolve(TOY)(path="data.txt", steps=2), Path("o"), RunOptions(trackers=()), name=TOY)
    Path("there").mkdir()
    monkeypatch.chdir("there")
    assert aleator.load_run("../o").recipe.path == "data.txt"
    assert Path.cwd() == tmp_path / "there"
