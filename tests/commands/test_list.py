"""Claims about the lists of methods, recipes and data sets."""

import importlib
import json
from pathlib import Path

import pytest

from aleator.cli import main
from aleator.commands.methods import METHODS, Method, verdicts
from aleator.experiment import registry


def test_everything_is_listed(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for expected in ("Methods", "rs2", "arXiv 2305.18424", "Recipes", "classify", "Data sets", "digits", "mnist"):
        assert expected in text


@pytest.mark.parametrize(("what", "shown", "hidden"), [("methods", "rs2", "digits"), ("recipes", "classify", "rs2")])
def test_one_list_at_a_time(what, shown, hidden, capsys):
    assert main(["list", what]) == 0
    text = capsys.readouterr().out
    assert shown in text
    assert hidden not in text


def test_a_recipe_that_cannot_be_imported_stays_in_the_list(monkeypatch, capsys):
    monkeypatch.setattr(registry, "names", lambda: {"broken": "no_such_module:Recipe"})
    assert main(["list", "recipes"]) == 0
    assert (
        "broken  cannot be imported: ModuleNotFoundError: No module named 'no_such_module'" in capsys.readouterr().out
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_can_be_imported_from_where_the_list_says(method):
    module, name = method.import_path.split(":")
    assert hasattr(importlib.import_module(module), name)
    assert method.import_path.startswith(method.room)


def test_verdicts_are_counted_from_the_evidence(monkeypatch, tmp_path):
    monkeypatch.setattr("aleator.commands.methods.EVIDENCE", tmp_path)
    method = Method("m", "aleator.data", "aleator.data:M", "does", "someone")
    assert verdicts(method) == "see docs"
    claims = [
        {"verdict": verdict, "constant": constant, "figures": {"accuracy a − b": figure}}
        for verdict, constant, figure in [
            ("not run", False, 0.1),
            ("reproduced", False, 0.1),
            ("reproduced", True, 0.1),
            ("reproduced", True, 0.0),  # the same in every seed by construction
        ]
    ]
    (tmp_path / "m.json").write_text(json.dumps({"claims": claims}))
    assert verdicts(method) == "2 reproduced, 1 not run"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_list_counts_the_claims_that_readme_counts(method):
    rows = Path(__file__).parents[2].joinpath("README.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| [{method.name}]")]
    assert row.endswith(f"| {verdicts(method)} |")
