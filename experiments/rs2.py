"""Repeated random sampling (Okanovic et al., arXiv 2305.18424) against what a small budget is otherwise spent on.

The paper's claim is time to accuracy: with a fraction r of the steps of a full run, drawing a new random subset every
round beats one fixed subset, and a schedule that ends with the budget beats a full run stopped there. Our own
observation (sheet 2.8) is the honest control: without replacement the method *is* training on all data with a
compressed schedule, so the two must agree.
"""

from __future__ import annotations

from experiments.claims import Claim, Experiment

SEEDS = "10"
MNIST = "MNIST, 8 000 training images drawn anew for each seed, 10 000 test images, standardised pixels"
FASHION = "Fashion-MNIST, 8 000 training images drawn anew for each seed, 10 000 test images, standardised pixels"
CIFAR = "CIFAR-10, 45 000 training and 5 000 validation images, 10 000 test images"


def _variants(ratio: float, steps: int) -> tuple[str, ...]:
    subset = f"ratio={ratio}"
    return (
        "--variant", f"static:subset=static,{subset}",
        "--variant", f"rs2:subset=rs2,{subset}",
        "--variant", f"rs2-with-replacement:subset=rs2-with-replacement,{subset}",
        "--variant", f"stopped:subset=full,stop_at={steps}",
        "--variant", f"compressed:subset=full,schedule_length=compressed,{subset}",
        "--variant", f"rs2-full-schedule:subset=rs2,schedule_length=full,{subset}",
    )  # fmt: skip


def _mnist(percent: int, steps: int, over_static: float, further: tuple[Claim, ...] = ()) -> Experiment:
    common = ("classify", "--data", "mnist", "--model", "mlp", "--train-size", "8000", "--seeds", SEEDS)
    full = ("--variant", "full-20-epochs:subset=full,rounds=20") if further else ()
    return Experiment(
        f"mnist-{percent}",
        f"{MNIST}; r = {percent} %, {steps} steps",
        (*common, *_variants(percent / 100, steps), *full),
        (
            Claim(
                f"RS2 at {percent} % is better than a static subset by at least {100 * over_static:.0f} points",
                "rs2", "static", "at least", over_static,
            ),
            Claim(
                f"RS2 at {percent} % is better than a full-schedule run stopped at the same step by at least 1 point",
                "rs2", "stopped", "at least", 0.01,
            ),
            Claim(
                f"RS2 at {percent} % equals full data with a compressed schedule within half a point",
                "rs2", "compressed", "equal within", 0.005,
            ),
            Claim(
                f"RS2 at {percent} % with replacement between rounds is within half a point of RS2 without",
                "rs2-with-replacement", "rs2", "equal within", 0.005,
            ),
            Claim(
                f"RS2 at {percent} % with its own schedule is better than with the full run's schedule",
                "rs2", "rs2-full-schedule", "at least", 0.0,
            ),
            *further,
        ),
    )  # fmt: skip


EXPERIMENTS = (
    _mnist(1, 120, 0.14),
    _mnist(5, 720, 0.07),
    _mnist(
        10,
        1500,
        0.04,
        (
            Claim(
                "RS2 at 10 % (1 500 steps) is within 0.8 points of 20 epochs on full data (5 000 steps)",
                "rs2",
                "full-20-epochs",
                "no less than",
                0.008,
            ),
        ),
    ),
    Experiment(
        "fashion-mnist-10",
        f"{FASHION}; r = 10 %, 1500 steps",
        (
            *("classify", "--data", "fashion-mnist", "--model", "cnn", "--train-size", "8000"),
            *("--validation-size", "1000", "--seeds", "5"),
            *_variants(0.1, 1500),
        ),
        (
            Claim("RS2 at 10 % is better than a static subset", "rs2", "static", "at least", 0.0),
            Claim(
                "RS2 at 10 % is better than a full-schedule run stopped at the same step",
                "rs2",
                "stopped",
                "at least",
                0.0,
            ),
            Claim(
                "RS2 at 10 % equals full data with a compressed schedule within half a point",
                "rs2",
                "compressed",
                "equal within",
                0.005,
            ),
        ),
    ),
    Experiment(
        "mnist-10-unit-inputs",
        f"{MNIST.replace('standardised pixels', 'pixels between 0 and 1')}; r = 10 %, 1500 steps",
        (
            *("classify", "--data", "mnist", "--model", "mlp", "--train-size", "8000", "--inputs", "unit"),
            *("--seeds", SEEDS, *_variants(0.1, 1500)),
        ),
        (
            Claim(
                "RS2 at 10 % is better by at least 1 point than a full-schedule run stopped at the same step, also "
                "where pixels are only divided by 255",
                "rs2",
                "stopped",
                "at least",
                0.01,
            ),
        ),
    ),
    Experiment(
        "cifar10-10",
        f"{CIFAR}; ResNet-18, flips and crops, r = 10 %, 7 000 steps",
        (
            *("classify", "--data", "cifar10", "--model", "resnet18", "--augment", "flip-crop", "--batch-size", "128"),
            *("--rounds", "200", "--lr", "0.1", "--lr-min", "1e-4", "--seeds", "3", *_variants(0.1, 7000)),
        ),
        (
            Claim(
                "RS2 at 10 % is better than a static subset by at least 12 points", "rs2", "static", "at least", 0.12
            ),
            Claim(
                "RS2 at 10 % equals full data with a compressed schedule within half a point",
                "rs2",
                "compressed",
                "equal within",
                0.005,
            ),
        ),
        scale="gpu",
    ),
)
