"""LAMB and LARS (You et al., arXiv 1904.00962): what one learning rate carries over to.

A layer's step has the length of its weights, so it cannot matter how the scale of a network is spread over its layers;
and settings are meant to move to other batch sizes by the square-root rule and a constant number of warm-up steps. That
LAMB be more accurate than AdamW is not claimed: an independent study (Nado et al., arXiv 2102.06356) and our own pilot
runs found otherwise. AdamW by the same rules is a row of the sweep.
"""

from __future__ import annotations

from experiments.claims import Claim, Experiment

SEEDS = "5"
DIGITS = "digits, 1 294 training, 143 validation and 360 test images"
LAYERS = f"{DIGITS}; three hidden layers without biases, batch 512, 76 steps; c and 1/c by turns before the layers"
SWEEP = f"{DIGITS}; four hidden layers with normalisation, about 15 epochs, 10 warm-up steps"

# Learning rates at batch 32; ×√2 for every doubling of the batch. Rounds are the epochs of as many examples, given that
# a short last batch is dropped.
ROUNDS = {32: 15, 64: 15, 128: 15, 256: 15, 512: 19}


def _rescaled() -> tuple[str, ...]:
    rates = {"lamb": 0.03, "lars": 0.03, "sgd": 0.16}
    return tuple(
        argument
        for name, lr in rates.items()
        for c in (1, 4, 16)
        for argument in ("--variant", f"{name}-{c}:optimizer={name},lr={lr},rescale={c}")
    )


def _batches() -> tuple[str, ...]:
    rates = {"lamb": 0.01, "adamw": 0.002}
    return tuple(
        argument
        for name, lr in rates.items()
        for batch, rounds in ROUNDS.items()
        for argument in (
            "--variant",
            f"{name}-{batch}:optimizer={name},batch_size={batch},rounds={rounds},lr={lr * (batch / 32) ** 0.5:.6g}",
        )
    )


EXPERIMENTS = (
    Experiment(
        "rescaled-layers",
        LAYERS,
        (
            *("classify", "--model", "mlp-without-bias", "--batch-size", "512", "--rounds", "38"),
            *("--weight-decay", "0", "--schedule", "linear", "--seeds", SEEDS, *_rescaled()),
        ),
        (
            *(
                Claim(
                    f"{name.upper()} with layers scaled by c = {c} equals c = {other} within one point",
                    f"{name}-{c}", f"{name}-{other}", "equal within", 0.01,
                )
                for name in ("lamb", "lars")
                for c, other in ((4, 1), (16, 1), (16, 4))
            ),
            Claim(
                "SGD with momentum loses at least 50 points when layers are scaled by c = 16",
                "sgd-1", "sgd-16", "at least", 0.5,
            ),
        ),
    ),
    Experiment(
        "batch-sweep",
        SWEEP,
        (
            *("classify", "--model", "mlp-normalised", "--weight-decay", "0.01"),
            *("--schedule", "linear", "--warmup", "10", "--seeds", SEEDS, *_batches()),
        ),
        (
            Claim(
                "LAMB at batch 512 is within 2.5 points of batch 32, by the square-root rule and without tuning",
                "lamb-512", "lamb-32", "no less than", 0.025,
            ),
            Claim(
                "AdamW by the same rules, the control, is within 2.5 points too",
                "adamw-512", "adamw-32", "no less than", 0.025,
            ),
        ),
    ),
)  # fmt: skip
