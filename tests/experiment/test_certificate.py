"""The bound of a report: of one checkpoint chosen on validation, paid for by the variants, never of pooled seeds."""

import json
import math
import re

import pytest

from aleator.experiment.report import write_report
from aleator.experiment.report.certificate import certificate
from aleator.experiment.report.read import read_comparison
from aleator.stats import accuracy_bound
from tests.experiment.fake_comparison import TEST_EXAMPLES, write_comparison

PLAIN = [("full", {}, 0.969, 900), ("rs2", {"subset": "rs2"}, 0.962, 870), ("static", {"subset": "static"}, 0.894, 940)]


@pytest.fixture
def folder(tmp_path):
    return write_comparison(tmp_path, seeds=3, fail=None, variants=PLAIN)


def change(folder, edit):
    path = folder / "comparison.json"
    document = json.loads(path.read_text())
    for variant in document["variants"]:
        for run in variant["runs"]:
            edit(variant, run)
    path.write_text(json.dumps(document))
    return read_comparison(folder)


def test_it_is_of_the_run_that_is_best_on_validation_and_pays_for_every_variant(folder):
    def edit(variant, run):
        best = (variant["name"], run["seed"]) == ("rs2", 1)
        run["validation"]["accuracy"] = 0.99 if best else 0.9
        run["test"]["accuracy"] = (
            330 / 360 if best else 350 / 360
        )  # the others look better on test, which must not count

    said = certificate(change(folder, edit))
    bound = accuracy_bound(330, TEST_EXAMPLES, 0.05, candidates=3).bound
    assert said.startswith("“rs2”, seed 1, the run with the best validation result, is right on at least ")
    printed = float(re.search(r"at least ([\d.]+) % of new examples", said)[1])
    assert printed == math.floor(1e4 * bound) / 100
    assert "330 right answers among 360 examples" in said  # one seed's examples, and not three seeds'
    assert "one of 3 models" in said


def test_a_lower_headline_may_be_the_better_one(folder):
    path = folder / "comparison.json"
    document = json.loads(path.read_text())
    document["headline"] = {"name": "loss", "direction": "min"}
    path.write_text(json.dumps(document))

    def edit(variant, run):
        run["validation"]["loss"] = 0.1 if (variant["name"], run["seed"]) == ("static", 2) else 0.2

    assert certificate(change(folder, edit)).startswith("“static”, seed 2,")


def test_a_test_set_that_was_used_for_choosing_is_refused(folder):
    def edit(variant, run):
        run["validation"] = dict(run["test"])

    assert certificate(change(folder, edit)).startswith("No bound on the accuracy on new examples: validation and test")


def test_without_counted_examples_nothing_is_said(folder):
    def edit(variant, run):
        run["accuracy_interval"] = None

    assert certificate(change(folder, edit)) is None


def test_the_page_shows_it(folder):
    said = certificate(read_comparison(folder))
    page = write_report(folder).read_text()
    found = re.search(r'<p class="note" id="certificate">(.*?)</p>', page, re.DOTALL)
    assert found[1] == said
