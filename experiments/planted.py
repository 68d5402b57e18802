"""What advice says where the truth is known: hours in which no method can pay, and one in which only tuning can.

`python -m experiments planted null` asks for advice on digits twenty times, a minute each, with four methods that do
nothing but rename the seed; `python -m experiments planted rate` asks once, for five minutes, with a learning rate that
is 30 times too small. What came of it is kept in ``evidence/advice/planted-NAME.json``; hours that are done are not
asked again.
"""

from __future__ import annotations

import shlex
from typing import Any

from aleator.experiment.advice.arms import OWN
from aleator.experiment.files import read_json, write_json
from experiments.pays import ROOT, advised, portable
from experiments.recipes.renamed_digits import METHODS

HOURS, MINUTES, RATE_MINUTES = 20, 1.0, 5.0
SLOW = 0.05 / 30  # of classify's 0.05
RENAMED = f"{ROOT / 'experiments' / 'recipes' / 'renamed_digits.py'}:RenamedDigits"


def produce(name: str) -> None:
    """Ask for advice and keep what was found.

    Raises:
        ValueError: if nothing of the name is planted.
        RuntimeError: if a command fails.
    """
    if name not in ("null", "rate"):
        raise ValueError(f"planted must be null or rate, got {name!r}")
    if name == "null":
        asked = [
            (RENAMED, "--rounds", "2", "--name-of-seed", str(hour * (METHODS + 1)), "--minutes", f"{MINUTES:g}")
            for hour in range(HOURS)
        ]
    else:
        asked = [("classify", "--rounds", "5", "--lr", f"{SLOW:.3g}", "--minutes", f"{RATE_MINUTES:g}")]
    runs = ROOT / "out" / "evidence" / "planted"
    hours = [_kept(advised(runs / f"{name}-{number}", words), words) for number, words in enumerate(asked)]
    write_json(ROOT / "evidence" / "advice" / f"planted-{name}.json", {"hours": hours})


def _kept(document: dict[str, Any], words: tuple[str, ...]) -> dict[str, Any]:
    names = ("alpha", "effects", "answer", "winner", "looks", "environment", "created", "seconds")
    command = portable(shlex.join(["aleator", "advise", *words]))
    return {"command": command} | {name: document[name] for name in names}


def table(name: str) -> str:
    """Return what was planted and what came of it, in a sentence or two."""
    path = ROOT / "evidence" / "advice" / f"planted-{name}.json"
    if not path.exists():
        return "Not run yet."
    hours = read_json(path)["hours"]
    command = f"`{hours[0]['command']}`"
    if name == "rate":
        own = next((effect for effect in hours[0]["effects"] if effect["arm"] == OWN), None)
        claim = own["claim"] if own else "not confirmed"
        return f"{command} said of the settings as given: {claim}. The answer: {' '.join(hours[0]['answer'])}"
    # The settings as given are no null: tuning may well be better, and is then rightly said to be.
    methods = [[effect for effect in hour["effects"] if effect["arm"] != OWN] for hour in hours]
    false = sum(any(effect["claim"] for effect in effects) for effects in methods)
    seeds = sorted(effect["seeds"] for effects in methods for effect in effects)
    return (
        f"Of {len(hours)} hours of {MINUTES:g} minute each, such as {command}, {false} claimed anything of a method; "
        f"{len(seeds)} arms were confirmed, with {seeds[0]} to {seeds[-1]} seeds."
        if seeds
        else f"{len(hours)} hours such as {command} confirmed nothing."
    )
