"""Record how runs on digits differ from seed to seed and from test image to test image.

    python -m experiments.recipes.digits_seeds

trains the recipe ``classify`` on digits with each of 16 seeds, by SGD and by AdamW, and writes which test images each
run answers rightly to ``digits_seeds.json``. Simulations of whole hours draw their noise from it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from aleator.experiment import RunOptions, run
from aleator.experiment.files import write_json
from aleator.experiment.test_examples import read_test_examples
from aleator.recipes.classify import Classify

FILE = Path(__file__).with_suffix(".json")
SEEDS = 16
ROUNDS = 15


def record() -> None:
    """Carry out the runs and write the file."""
    right: dict[str, list[str]] = {"sgd": [], "adamw": []}
    for optimizer, rows in right.items():
        for seed in range(SEEDS):
            with tempfile.TemporaryDirectory() as scratch:
                recipe = Classify(optimizer=optimizer, rounds=ROUNDS)
                options = RunOptions(seed=seed, trackers=(), keep_checkpoints=0, evaluate_every=10**9)
                result = run(recipe, Path(scratch), options, name="classify")
                found = read_test_examples(Path(scratch), result)
            assert found is not None
            rows.append("".join("1" if value else "0" for value in found.values))
    write_json(FILE, {"data": "digits", "rounds": ROUNDS, "right": right})


if __name__ == "__main__":
    record()
