"""Pairs whose runs kept their results by test example have an interval for new data."""

from __future__ import annotations

import numpy as np

from aleator.experiment import Headline
from aleator.experiment.comparison.summary import _pairs
from aleator.experiment.test_examples import FILE, write_test_examples
from aleator.stats import ArmResults, ExampleResults
from aleator.stats.advice.effects import new_data_interval

HEADLINE = Headline("accuracy", "max")


def entries(out, *, seeds=4, size=40):
    rng = np.random.default_rng(0)
    found, tables = [], []
    for name, share in (("a", 0.7), ("b", 0.8)):
        runs, table = [], (rng.random((seeds, size)) < share).astype(float)
        for seed, row in enumerate(table):
            folder = f"runs/{name}-{seed}"
            (out / folder).mkdir(parents=True)
            write_test_examples(out / folder, ExampleResults(row))
            test = {"accuracy": float(row.mean())}
            runs.append({"seed": seed, "folder": folder, "test": test, "test_examples": size})
        found.append({"name": name, "size": None, "runs": runs})
        tables.append(table)
    return found, tables


def results(table):
    return ArmResults(dict(enumerate(table.mean(1).tolist())), dict(enumerate(map(ExampleResults, table))))


def test_a_pair_has_the_interval_of_seeds_and_examples(tmp_path):
    variants, (a, b) = entries(tmp_path)
    pair = _pairs(variants, [None], HEADLINE, tmp_path)[0]
    assert (pair["a"], pair["b"]) == ("b", "a")  # the later minus the earlier
    assert (tuple(pair["new_data_interval"]), pair["test_examples"]) == new_data_interval(results(b), results(a))
    assert pair["p_holm"] == pair["p_value"]  # which is about seeds, as before


def test_a_lost_file_leaves_the_interval_over_seeds(tmp_path):
    variants, _ = entries(tmp_path)
    (tmp_path / "runs" / "b-2" / FILE).unlink()
    pair = _pairs(variants, [None], HEADLINE, tmp_path)[0]
    assert (pair["new_data_interval"], pair["test_examples"]) == (None, None)
    assert pair["interval"] is not None
