"""Reports of a surrogate that something is not finite reach the run."""

import pytest

from aleator.cli import main
from aleator.experiment.files import read_json


@pytest.mark.parametrize(("policy", "code"), [("stop", 1), ("skip", 0)])
def test_a_surrogate_whose_gradient_is_not_finite_is_a_step_that_was_skipped(policy, code, tmp_path):
    words = ["run", "classify", "--surrogate", "3", "--lr", "1e200", "--precision", "float64", "--schedule", "constant"]
    words += ["--rounds", "1", "--non-finite", policy, "--out", str(tmp_path / "o")]
    assert main(words) == code
    if policy == "skip":
        result = read_json(tmp_path / "o" / "result.json")
        assert result["skipped_steps"] == result["steps"]
