from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_a_loaded_task_evaluates_the_mean_of_the_weights_that_the_run_did(tmp_path):
    recipe = Classify(rounds=2, subset="rs2", ratio=0.5, ema=0.9)
    result = run(recipe, tmp_path / "run", RunOptions(trackers=()), name="classify")
    loaded = aleator.load_run(tmp_path / "run")
    with torch.no_grad():
        assert loaded.task.evaluate("test") == result["test"]
    last, (mean,) = loaded.model, loaded.task.saved_models().values()
    assert not any(torch.equal(a, b) for a, b in zip(last.parameters(), mean.parameters(), strict=True))


@pytest.mark.parametrize("content", [b"", b"half of a file", "another model's"], ids=["empty", "torn", "another"])
def test_damaged_weights_are_one_line_that_names_the_file(tmp_path, content):
    run(resolve(TOY)(steps=2, saved="again"), tmp_path / "o", RunOptions(trackers=()), name=TOY)
    path = tmp_path / "o" / "again.safetensors"
    if isinstance(content, str):
        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} does not hold the weights of the run's model: .*$"):
        aleator.load_run(tmp_path / "o")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path} is not there; resume the run to make it again"):
        aleator.load_run(tmp_path / "o")


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
