"""Batches that grow by a test of their gradients (Lau, Liu and Kolar, arXiv 2402.11215).

The paper's claim is efficiency at equal examples: far fewer updates than a small constant batch, at little loss of
accuracy, and a better accuracy than a large constant one. The honest limit is claimed as well: a constant batch of the
average size does as well, only that nobody knows that size beforehand. Thresholds are those of the project's notes,
which ran without a cap on growth; here one test multiplies a batch by 4 at most, the library's default. The library's
SGD has Nesterov's momentum.
"""

from __future__ import annotations

import math
from pathlib import Path

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

DIGITS = f"{Path('experiments') / 'recipes' / 'growing_digits.py'}:GrowingDigits"
IMAGES = f"{Path('experiments') / 'recipes' / 'ramped_images.py'}:RampedImages"
DATA = "scikit-learn's digits, 1 437 training and 360 test images, pixels from 0 to 1 less the mean of each"
FASHION = "Fashion-MNIST, 8 000 training images drawn anew for each seed, 10 000 test images, standardised pixels"
UPDATES = Headline("log10_updates", "min")
LARGEST = Headline("largest_batch", "max")
LOSS = Headline("train_loss", "min")
EVERYTHING = 1437


def _common(*words: str) -> tuple[str, ...]:
    fixed = ("--batch-test", "norm", "--batch-size", "8", "--rounds", "30", "--schedule", "constant")
    return (DIGITS, *fixed, "--weight-decay", "0", *words)


def _constant(size: int) -> tuple[str, str]:
    return "--variant", f"constant-{size}:batch_size={size},max_batch_size={size}"


def _norm(eta: float) -> tuple[str, str]:
    return "--variant", f"norm-{eta:g}:max_batch_size={EVERYTHING},eta={eta:g}"


def _fewer(times: int, a: str = "norm-0.5") -> Claim:
    return Claim(
        f"Batches that grow take at least {times} times fewer updates than a constant batch of 8",
        a, "constant-8", "at least", math.log10(times), UPDATES,
    )  # fmt: skip


def _close(points: float, a: str = "norm-0.5") -> Claim:
    return Claim(
        f"Batches that grow are at most {points:g} points less accurate than a constant batch of 8",
        a, "constant-8", "no less than", points / 100,
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "logistic-adagrad",
        f"{DATA}; linear classifier, AdaGrad 0.05, 30 rounds",
        (
            *_common("--optimizer", "adagrad", "--lr", "0.05", "--seeds", "3"),
            *(word for size in (8, 64, 78, EVERYTHING) for word in _constant(size)),
            *(word for eta in (0.25, 0.5, 0.75, 1.0) for word in _norm(eta)),
        ),
        (
            Claim("With η = 0.5 the batch grows from 8 to more than 300", "norm-0.5", 300.0, "at least", 0.0, LARGEST),
            _fewer(20),
            _close(4),
            Claim(
                "The limit: a constant batch of 78, about the average of η = 1, has a training loss no more than 0.01 "
                "above that of η = 1",
                "constant-78", "norm-1", "no less than", 0.01, LOSS,
            ),
        ),
    ),
    Experiment(
        "mlp-adagrad",
        f"{DATA}; MLP 64-64-10, AdaGrad 0.03, 30 rounds",
        (
            *_common("--hidden", "64", "--optimizer", "adagrad", "--lr", "0.03", "--seeds", "3"),
            *(word for size in (8, 736, EVERYTHING) for word in _constant(size)),
            *(word for eta in (0.5, 1.0) for word in _norm(eta)),
        ),
        (
            Claim("With η = 0.5 the batch grows from 8 to more than 300", "norm-0.5", 300.0, "at least", 0.0, LARGEST),
            _fewer(50),
            _close(3),
            Claim(
                "The limit: a constant batch of 736, about the average of η = 0.5, is no more than half a point less "
                "accurate than η = 0.5",
                "constant-736", "norm-0.5", "no less than", 0.005,
            ),
        ),
    ),
    Experiment(
        "mlp-adagrad-scaled",
        f"{DATA}; MLP 64-64-10, AdaGrad 0.01 √(b/8), 30 rounds",
        (
            *_common("--hidden", "64", "--optimizer", "adagrad", "--lr", "0.01", "--batch-lr", "sqrt", "--seeds", "5"),
            *("--variant", "constant-8:max_batch_size=8"),
            *_norm(0.5),
        ),
        (_fewer(50), _close(1)),
    ),
    Experiment(
        "mlp-sgd",
        f"{DATA}; MLP 64-64-10, SGD 0.05 with momentum 0.9, 30 rounds",
        (
            *_common("--hidden", "64", "--optimizer", "sgd", "--lr", "0.05", "--seeds", "3"),
            *(word for size in (183, EVERYTHING) for word in _constant(size)),
            *(word for eta in (0.5, 1.0) for word in _norm(eta)),
        ),
        (
            Claim(
                "With momentum batches that grow are at least 10 points more accurate than the full batch, at as many "
                "examples",
                "norm-0.5", f"constant-{EVERYTHING}", "at least", 0.1,
            ),
        ),
    ),
    Experiment(
        "fashion-mnist-cnn",
        f"{FASHION}; CNN, AdaGrad 0.01, 8 rounds",
        (
            *(IMAGES, "--data", "fashion-mnist", "--model", "cnn", "--train-size", "8000", "--validation-size", "1000"),
            *("--optimizer", "adagrad", "--lr", "0.01", "--schedule", "constant", "--weight-decay", "0"),
            *("--batch-size", "32", "--rounds", "8", "--seeds", "3"),
            *("--variant", "norm-0.5:batch_test=norm,max_batch_size=2048"),
            *("--variant", "constant-32:batch_test=norm,max_batch_size=32"),
            *("--variant", "constant-2048:batch_test=norm,batch_size=2048,max_batch_size=2048"),
            *("--variant", "ramp:ramp_to=2048"),
        ),
        (
            Claim("Batches that grow are more accurate than the large constant batch", "norm-0.5", "constant-2048",
                  "at least", 0.0),
            Claim("Batches that grow are at most 2 points less accurate than the small constant batch", "norm-0.5",
                  "constant-32", "no less than", 0.02),
            Claim("Batches that grow are at most 1 point less accurate than a ramp made by hand", "norm-0.5", "ramp",
                  "no less than", 0.01),
        ),
    ),
)  # fmt: skip
