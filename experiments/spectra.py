"""SPECTRA (Jiang, Semenov and Stich, arXiv 2603.14315) around AdamW and Signum, on the bytes of Tiny Shakespeare.

The paper claims a lower loss than the base optimizer's, smaller weights, and learning rates that the base does not
bear. Both sides get a grid of learning rates with its best cell inside; which cell is best, validation data says. What
has to be tuned is clip·lr, so SPECTRA's grid has two thresholds. Thresholds of claims on the loss are 0.10 and 0.05
nats, written in bits.
"""

from __future__ import annotations

import math

from aleator.experiment import Headline
from experiments.claims import BestOf, Claim, Experiment

SEEDS = "5"
DATA = "Tiny Shakespeare, 90/5/5 %; transformer of 2 blocks of width 64, 300 steps of 16 windows of 64 bytes"

# Learning rates by optimizer, and by threshold for SPECTRA.
RATES: dict[str, tuple[float, ...]] = {
    "adamw": (0.002, 0.003, 0.005, 0.01, 0.02, 0.03),
    "signum": (0.001, 0.002, 0.003, 0.005, 0.01),
}
CLIPPED_RATES: dict[str, dict[int, tuple[float, ...]]] = {
    "adamw": {1: (0.003, 0.01, 0.03, 0.1), 3: (0.003, 0.01, 0.03)},
    "signum": {1: (0.01, 0.03, 0.1), 3: (0.003, 0.01, 0.03)},
}
BETAS = {"adamw": ",betas=[0.9,0.95]", "signum": ""}
WEIGHT_NORM, SPECTRAL_NORM = Headline("weight_norm", "min"), Headline("spectral_norm", "min")


def _cell(base: str, lr: float, clip: int | None = None) -> str:
    return f"{base}-{lr}" if clip is None else f"spectra-{base}-clip{clip}-{lr}"


def _variants() -> tuple[str, ...]:
    cells = [
        f"{_cell(base, lr)}:optimizer={base},lr={lr}{BETAS[base]}" for base, rates in RATES.items() for lr in rates
    ]
    cells += [
        f"{_cell(base, lr, clip)}:optimizer=spectra-{base},clip={clip},lr={lr}{BETAS[base]}"
        for base, thresholds in CLIPPED_RATES.items()
        for clip, rates in thresholds.items()
        for lr in rates
    ]
    return tuple(word for cell in cells for word in ("--variant", cell))


def _best_of_grid(base: str, nats: float) -> Claim:
    name = {"adamw": "AdamW", "signum": "Signum"}[base]
    clipped = [_cell(base, lr, clip) for clip, rates in CLIPPED_RATES[base].items() for lr in rates]
    return Claim(
        f"Best-of-grid SPECTRA-{name} needs at least {nats:.2f} nats ({nats / math.log(2):.3f} bits) a byte less than "
        f"best-of-grid {name}",
        BestOf(f"SPECTRA-{name}, best of grid", tuple(clipped)),
        BestOf(f"{name}, best of grid", tuple(_cell(base, lr) for lr in RATES[base])),
        "at least",
        nats / math.log(2),
    )


def _smaller(base: str, clip: int, lr: float, metric: Headline) -> Claim:
    name = {"adamw": "AdamW", "signum": "Signum"}[base]
    norm = "Frobenius norm of all weights" if metric is WEIGHT_NORM else "largest spectral norm of a matrix"
    return Claim(
        f"At learning rate {lr} the {norm} is smaller with SPECTRA-{name}, clip {clip}, than with {name}",
        _cell(base, lr, clip), _cell(base, lr), "at least", 0.0, metric,
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "tinyshakespeare",
        DATA,
        ("language", "--evaluate-every", "60", "--seeds", SEEDS, *_variants()),
        (
            _best_of_grid("adamw", 0.10),
            _best_of_grid("signum", 0.05),
            Claim("AdamW is worse at learning rate 0.03 than at 0.02", "adamw-0.02", "adamw-0.03", "at least", 0.0),
            Claim(
                "SPECTRA-AdamW, clip 1, is better at learning rate 0.03 than at 0.01",
                "spectra-adamw-clip1-0.03", "spectra-adamw-clip1-0.01", "at least", 0.0,
            ),
            *(
                _smaller(*cell, metric)
                for metric in (WEIGHT_NORM, SPECTRAL_NORM)
                for cell in (
                    *(("adamw", 1, lr) for lr in (0.003, 0.01, 0.03)),
                    *(("signum", 3, lr) for lr in (0.003, 0.01)),
                )
            ),
        ),
    ),
)  # fmt: skip
