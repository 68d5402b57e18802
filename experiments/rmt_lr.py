"""Learning rates from random matrix theory (Granziol et al., arXiv 2006.09092): batches, rates, and a learner.

Thresholds are those of pilot runs with other seeds, splits and code. Where the rules are known to end, at 16 times the
batch, the claim is that of the paper all the same, so that its verdict says where.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import BestOf, Claim, Experiment

ALL = "digits, all 1 437 training images, pixels from 0 to 1 less their means"
LAW = f"{ALL}; MLP 64-16-10 with tanh, 8 batches of each of 7 sizes, Hessian"
GRID = f"{ALL}; MLP 64-64-64-10, 150 updates, rates √2 apart, 7 batch sizes from 4 to 256"
LEARNER = (
    "digits, 1 294 training, 143 validation and 360 test images, pixels from 0 to 1 less their means; "
    "MLP 64-64-64-10, batch 64, 20 epochs"
)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RECIPES = "experiments/recipes"

R_SQUARED, SLOPE = Headline("r_squared", "max"), Headline("slope", "max")
INTERCEPT = Headline("intercept", "max")
OFF, LOSS_4X, LOSS_16X = Headline("off_4x", "max"), Headline("log_loss_4x", "min"), Headline("log_loss_16x", "min")


def _law(moment: str, words: str) -> tuple[Claim, ...]:
    return (
        Claim(
            f"Largest eigenvalues of batches lie on a line in 1/B {words}: R² is at least 0.9",
            moment, 0.9, "at least", 0.0, R_SQUARED,
        ),
        Claim(f"The line rises {words}", moment, 0.0, "at least", 0.0, SLOPE),
        Claim(
            f"The eigenvalue fitted from B = 16 … 256 is within 15 % of that of all data {words}",
            moment, 1.0, "equal within", 0.15, INTERCEPT,
        ),
    )  # fmt: skip


def _learner(schedule: str) -> Experiment:
    fixed = tuple(f"fixed-{lr:g}" for lr in RATES)
    variants = [f"{name}:lr={lr:g},lr_min=0" if schedule == "cosine" else f"{name}:lr={lr:g}"
                for name, lr in zip(fixed, RATES, strict=True)]  # fmt: skip
    variants += ["learned:lr_rule=curvature", "learned-bare:lr_rule=curvature,hold=none"]
    best = BestOf("the best of six given rates", fixed)
    return Experiment(
        f"learner-{schedule}",
        f"{LEARNER}, {schedule} schedule",
        (
            f"{RECIPES}/learned_digits.py:LearnedDigits",
            *("--batch-size", "64", "--rounds", "20", "--weight-decay", "0", "--schedule", schedule, "--seeds", "5"),
            *("--non-finite", "skip"),
            *(word for variant in variants for word in ("--variant", variant)),
        ),
        (
            Claim(
                f"The learned rate with its memory is within 0.5 points of the best of six given ones, {schedule}",
                "learned", best, "no less than", 0.005,
            ),
            Claim(
                f"The learned rate is at least 3 points above the smallest given one, {schedule}",
                "learned", fixed[0], "at least", 0.03,
            ),
            Claim(
                f"The learner without a memory is within 0.5 points of the best of six given ones, {schedule}",
                "learned-bare", best, "no less than", 0.005,
            ),
        ),
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "batch-law",
        LAW,
        (
            f"{RECIPES}/batch_sizes.py:BatchCurvature",
            *("--seeds", "6", "--variant", "start:updates=0", "--variant", "trained:updates=60"),
        ),
        (*_law("start", "at the start"), *_law("trained", "after 60 steps")),
    ),
    Experiment(
        "rates",
        GRID,
        (
            f"{RECIPES}/batch_sizes.py:RateGrid",
            *("--seeds", "5", "--variant", "sgd-linear:optimizer=sgd,rule=sgd"),
            *("--variant", "sgd-sqrt:optimizer=sgd,rule=adam", "--variant", "adam-linear:optimizer=adam,rule=sgd"),
            *("--variant", "adam-sqrt:optimizer=adam,rule=adam"),
        ),
        (
            Claim(
                "The best rate of SGD goes as B to a power in [0.55, 1.1]",
                "sgd-linear", 0.825, "equal within", 0.275, SLOPE,
            ),
            Claim(
                "The best rate of Adam goes as B to a power in [0.25, 0.7]",
                "adam-sqrt", 0.475, "equal within", 0.225, SLOPE,
            ),
            Claim("SGD's power is at least 0.15 above Adam's", "sgd-linear", "adam-sqrt", "at least", 0.15, SLOPE),
            Claim(
                "From batch 16 to 64 the linear rule's rate for SGD is within a factor of 2 of the best",
                "sgd-linear", 0.0, "equal within", 1.0, OFF,
            ),
            Claim(
                "From batch 16 to 64 the square root's rate for Adam is within a factor of 2 of the best",
                "adam-sqrt", 0.0, "equal within", 1.0, OFF,
            ),
            Claim(
                "From batch 16 to 64 Adam's loss is lower by the square root than by the linear rule (log₁₀)",
                "adam-sqrt", "adam-linear", "at least", 0.0, LOSS_4X,
            ),
            Claim(
                "From batch 4 to 64, 16 times, SGD's loss is no higher by the linear rule than by the root (log₁₀)",
                "sgd-linear", "sgd-sqrt", "no less than", 0.0, LOSS_16X,
            ),
        ),
    ),
    _learner("cosine"),
    _learner("constant"),
)  # fmt: skip
