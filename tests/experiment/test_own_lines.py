"""An error that comes out of a user's recipe names the line there, however deep in a library it was raised."""

import sys

import pytest

from aleator.experiment import RunFailed, RunOptions, run
from aleator.experiment.own_lines import located, own_line
from aleator.experiment.registry import resolve

MINE = """
from dataclasses import dataclass

import torch
from neighbour import loss

from aleator.recipes import Supervised


@dataclass(frozen=True)
class Mine(Supervised):
    \"\"\"A recipe with a fault in a neighbour.\"\"\"

    def splits(self, streams):
        pair = torch.eye(4), torch.arange(4.0)
        return {"train": pair, "validation": pair, "test": pair}

    def network(self, splits):
        return torch.nn.Linear(4, 1)

    def losses(self, outputs, targets):
        return loss(outputs, targets)
"""
NEIGHBOUR = """


def loss(outputs, targets):
    return (outputs.flatten() - targets[:2]).square()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "neighbour", None)  # put back afterwards; that of another test is another
    del sys.modules["neighbour"]
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    return tmp_path


def test_the_innermost_line_below_the_recipes_folder_is_named(folder):
    recipe = resolve("mine.py:Mine")(batch_size=4, rounds=1)
    with pytest.raises(RunFailed, match=r"^RuntimeError: .*must match.* \(neighbour\.py:5\)$"):
        run(recipe, folder / "o", RunOptions(trackers=()), name="mine.py:Mine")


@pytest.mark.parametrize(
    ("faulty", "place"),
    [
        (("torch.nn.Linear(4, 1)", "torch.nn.Linear(5, 1)"), r"network in mine\.py:18"),
        (("return loss(outputs, targets)", "return outputs.mean()"), r"losses in mine\.py:21"),
    ],
)
def test_an_error_of_layers_that_do_not_fit_names_the_method_that_made_them(folder, faulty, place):
    (folder / "mine.py").write_text(MINE.replace(*faulty))
    recipe = resolve("mine.py:Mine")(batch_size=4, rounds=1)
    with pytest.raises(RunFailed, match=rf" \({place}\)$"):
        run(recipe, folder / "o", RunOptions(trackers=()), name="mine.py:Mine")


def test_a_file_that_cannot_be_read_is_named_with_its_line(folder):
    (folder / "neighbour.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(ValueError, match=r"^neighbour\.py:2 cannot be imported: ZeroDivisionError"):
        resolve("mine.py:Mine")
    (folder / "other.py").write_text("x = 1\ndef :\n")
    with pytest.raises(ValueError, match=r"^other\.py:2 cannot be imported: SyntaxError"):
        resolve("other.py:Mine")


def test_an_error_elsewhere_has_no_such_line():
    error = ValueError("never raised")
    assert own_line(error) is None
    assert located(error) == "never raised"


def test_a_recipes_own_refusal_is_left_as_it_is(folder):
    (folder / "neighbour.py").write_text(
        "def loss(outputs, targets):\n    raise ValueError('width must be even, got 3')\n"
    )
    kind = resolve("mine.py:Mine")
    with pytest.raises(ValueError, match="width") as caught:
        kind().losses(None, None)
    assert located(caught.value) == "width must be even, got 3"
