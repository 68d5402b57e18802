"""The page on which method pays, from what was found on two tasks."""

import pytest

from experiments import pays


def found(name, direction, claim, interval):
    """One task with a method that was confirmed, one that was behind and one that does not apply."""
    values = {"baseline": {"1": 0.5, "2": 0.5}, "Good": {"1": 0.25, "2": 0.75}}
    return {
        "task": {"headline": {"name": name, "direction": direction}},
        "arms": {
            "baseline": {"status": "chosen", "why": ""},
            "Good": {"status": "chosen", "why": ""},
            "Slow": {"status": "chosen", "why": ""},
            "Odd": {"status": "does not apply", "why": "it has no groups"},
        },
        "effects": [{"arm": "Good", "gain": 0.125, "interval": interval, "claim": claim}],
        "values": values,
        "answer": ["So it is."],
    }


@pytest.fixture
def two_tasks(monkeypatch):
    documents = [found("loss", "min", "better", (0.0625, 31.25)), found("accuracy", "max", None, (-0.01, 0.26)), None]
    monkeypatch.setattr(pays, "found", lambda: list(zip(pays.ASKED, documents, strict=False)))
    return [asked.name for asked in pays.ASKED[:2]]


def test_a_task_that_was_not_asked_has_no_column_and_columns_say_their_unit(two_tasks):
    one, other = two_tasks
    head, _, good, slow, odd = pays.effects_table().split("\n")
    assert head == f"| method | {one}, loss | {other}, points | probability of improvement |"
    assert good == "| Good | **+0.1** [+0.1 to +31.2] | +12.50 [−1.00 to +26.00] | 50 % [0, 100], 2 tasks |"
    assert slow == "| Slow | behind on validation data | behind on validation data | – |"
    assert odd == "| Odd | does not apply | does not apply | – |"


def test_what_never_paid_is_what_no_task_claims_with_what_each_says(two_tasks):
    one, other = two_tasks
    assert pays.never_table().split("\n") == [
        f"- Slow: behind on validation data ({one}, {other}).",
        f"- Odd: does not apply: it has no groups ({one}, {other}).",
    ]
