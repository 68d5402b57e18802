"""Advice: how often an answer is wrong, and what it finds, over thousands of simulated hours.

An hour in which no arm differs may claim anything at all in at most α of the cases, over all its looks; two standard
errors of 1 000 hours are allowed on top of it. That is not promised where arms are skewed in another way than the
baseline; the rate is given beside the same bound. The power of four arms on eight seeds was computed before, from the
noncentral t distribution with 28 degrees of freedom: at one standard deviation of a paired difference 0.57 where 5 %
are spent, and 0.46 where a first look spends 2.5 %, as it does by default, so that resumes have theirs.
"""

from __future__ import annotations

import math

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

HOURS = "experiments/recipes/simulated_hours.py:SimulatedHours"
ALPHA = 0.05
BOUND = round(ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / 1000), 4)
ONE, TWO, FIRST = Headline("found_2", "max"), Headline("found_1", "max"), Headline("best_first", "max")

LAWS = {
    "normal": "normal noise",
    "skewed": "exponential noise in all arms",
    "discrete": "accuracies of 360 images, in whole images",
    "recorded": "recorded runs on digits, on test images drawn anew",
    "examples": "arms that differ from image to image and not on average, on test images drawn anew",
    "unequal": "exponential noise in the baseline and normal noise in the arms (not promised)",
}


def _nulls(name: str, looks: int, words: str) -> Experiment:
    return Experiment(
        name,
        f"3 × 1 000 simulated hours without a difference: four arms, eight seeds a look, {words}",
        (
            *(HOURS, "--seeds", "3", "--looks", str(looks)),
            *(word for law in LAWS for word in ("--variant", f"{law}:noise={law}")),
            *("--variant", "seeds-only:noise=examples,by_example=False"),
        ),
        (
            *(
                Claim(f"{words}, {says}: anything is claimed falsely in at most α + 2 standard errors",
                      law, BOUND, "no less than", 0.0)
                for law, says in LAWS.items()
            ),
            Claim(f"{words}: an interval over seeds alone claims falsely about new images at least 20 points more "
                  "often than one over seeds and images", "examples", "seeds-only", "at least", 0.2),
        ),
    )  # fmt: skip


EXPERIMENTS = (
    _nulls("null", 1, "one look"),
    _nulls("null-resumed", 4, "three resumes"),
    Experiment(
        "power",
        "3 × 1 000 simulated hours, four arms better by 2, 1, 0 and 0 standard deviations of a paired difference, "
        "eight seeds, normal noise",
        (
            *(HOURS, "--seeds", "3", "--effects", "2", "1", "0", "0"),
            *("--variant", "first-look", "--variant", "all-spent:alpha=0.1"),
        ),
        (
            Claim("With 5 % spent, an effect of one standard deviation is found in 57 % of the hours, within 5 points",
                  "all-spent", 0.57, "equal within", 0.05, ONE),
            Claim("In a first look, which spends 2.5 %, it is found in 46 %, within 5 points",
                  "first-look", 0.46, "equal within", 0.05, ONE),
            Claim("An effect of two standard deviations is found in 99 % of first looks, within 2 points",
                  "first-look", 0.99, "equal within", 0.02, TWO),
            Claim("The best arm is first in at least 90 % of first looks",
                  "first-look", 0.9, "no less than", 0.0, FIRST),
            Claim("An arm without an effect is claimed in at most α + 2 standard errors of first looks",
                  "first-look", BOUND, "no less than", 0.0),
        ),
    ),
)  # fmt: skip
