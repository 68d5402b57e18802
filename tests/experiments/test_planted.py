"""What was planted: a claim counts as false only where nothing could be true."""

from __future__ import annotations

import pytest

from aleator.experiment.advice.arms import OWN
from aleator.experiment.files import write_json
from experiments import planted


def effect(arm, claim):
    return {"arm": arm, "claim": claim, "seeds": 7}


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Return a function that keeps the effects of hours."""
    monkeypatch.setattr(planted, "ROOT", tmp_path)

    def keep(*hours):
        (tmp_path / "evidence" / "advice").mkdir(parents=True)
        rows = [{"command": "aleator advise", "effects": effects} for effects in hours]
        write_json(tmp_path / "evidence" / "advice" / "planted-null.json", {"hours": rows})

    return keep


def test_what_tuning_gained_is_no_false_claim_of_a_method(kept):
    kept([effect(OWN, "worse"), effect("name 1", None)], [effect("name 2", "better"), effect("name 1", "worse")], [])
    said = planted.table("null")
    assert "Of 3 hours" in said
    assert "1 claimed anything of a method; 3 arms were confirmed, with 7 to 7 seeds" in said


def test_hours_that_confirmed_nothing_say_so(kept):
    assert planted.table("null") == "Not run yet."
    kept([], [effect(OWN, "worse")])
    assert "confirmed nothing" in planted.table("null")
