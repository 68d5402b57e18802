"""TrAct (Petersen, Borgelt and Ermon, arXiv 2410.23970) on CIFAR-10: is a first layer better trained by its outputs?

The paper keeps what was tuned for the plain first layer and finds a lower training loss and a higher accuracy after as
many epochs, or the same after half of them. Here the learning rates were chosen for the plain first layer too, on
validation data of a seed that the evidence does not use (`RATES`), and λ = 0.1 is the paper's default. Two controls: a
first layer with another learning rate, which the gain must not come down to, and inputs between 0 and 1, for which λ
was not meant.

The sign test counts a cell as won where TrAct is better in one seed of one model and optimizer.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import AllOf, BestOf, Claim, Experiment

SEEDS = "4"
DATA = "CIFAR-10, 8 000 training images drawn anew for each seed and 2 000 test images, no augmentation, batch 64"
NAMES = {"cnn": "two convolutions", "cnn-bn": "three with batch normalisation", "vit-tiny": "transformer of width 96"}
# A transformer's epoch takes five times as long as a convolutional network's.
ROUNDS = {"cnn": 3, "cnn-bn": 3, "vit-tiny": 1}
# The best of grids with steps of 2 to 3.3 for the plain first layer, with a cell on either side, by accuracy on 1 000
# validation images, seed 100.
RATES = {
    ("cnn", "sgd"): 0.05,
    ("cnn", "adamw"): 0.001,
    ("cnn-bn", "sgd"): 0.1,
    ("cnn-bn", "adamw"): 0.003,
    ("vit-tiny", "sgd"): 0.02,
    ("vit-tiny", "adamw"): 0.0005,
}
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
RATIOS = (3, 10, 30)
ACCURACY, TRAIN_LOSS = Headline("accuracy", "max"), Headline("train_loss", "min")
SAID = {ACCURACY: "higher test accuracy", TRAIN_LOSS: "lower final training loss"}

COMMON = (
    *("classify", "--data", "cifar10", "--train-size", "8000", "--validation-size", "1000", "--test-size", "2000"),
    *("--batch-size", "64", "--weight-decay", "0", "--evaluate-every", "375", "--seeds", SEEDS),
)


def _name(model: str, optimizer: str, layer: str) -> str:
    return f"{model}-{optimizer}-{layer}"


def _variant(model: str, optimizer: str, layer: str, *fields: str) -> tuple[str, str]:
    """Return the arguments for one variant; ``layer`` is plain, tract, or plain-xN with a rate N times as high."""
    kind, _, ratio = layer.partition("-x")
    settings = [f"model={model}", f"rounds={ROUNDS[model]}", f"optimizer={optimizer}", f"lr={RATES[model, optimizer]}"]
    settings += [f"first_layer={kind}", *([f"first_layer_lr_ratio={ratio}"] if ratio else []), *fields]
    return "--variant", f"{_name(model, optimizer, layer)}:{','.join(settings)}"


def _cells() -> tuple[str, ...]:
    pairs = [word for cell in RATES for layer in ("plain", "tract") for word in _variant(*cell, layer)]
    control = [word for o in OPTIMIZERS for n in RATIOS for word in _variant("cnn-bn", o, f"plain-x{n}")]
    return (*pairs, *control)


def _better(model: str, optimizer: str, metric: Headline) -> Claim:
    return Claim(
        f"TrAct has a {SAID[metric]}: {NAMES[model]}, {OPTIMIZERS[optimizer]}",
        _name(model, optimizer, "tract"), _name(model, optimizer, "plain"), "at least", 0.0, metric,
    )  # fmt: skip


def _more_often(metric: Headline) -> Claim:
    return Claim(
        f"TrAct has the {SAID[metric]} in more than half of the cells (model, optimizer, seed)",
        AllOf("TrAct", tuple(_name(*cell, "tract") for cell in RATES)),
        AllOf("plain", tuple(_name(*cell, "plain") for cell in RATES)),
        "more often than", 0.5, metric,
    )  # fmt: skip


def _not_the_rate(optimizer: str, metric: Headline) -> Claim:
    layers = ("plain", *(f"plain-x{ratio}" for ratio in RATIOS))
    return Claim(
        f"TrAct has a {SAID[metric]} than a plain first layer at the best of 1, 3, 10 and 30 times the learning rate: "
        f"{NAMES['cnn-bn']}, {OPTIMIZERS[optimizer]}",
        _name("cnn-bn", optimizer, "tract"),
        BestOf("plain, best first-layer rate", tuple(_name("cnn-bn", optimizer, layer) for layer in layers)),
        "at least", 0.0, metric,
    )  # fmt: skip


def _half_the_epochs(name: str, data: str, arguments: tuple[str, ...], epochs: int) -> Experiment:
    lams = (0.05, 0.1, 0.2)
    return Experiment(
        name,
        f"{data}; ResNet-18, flips and crops, batch 128, SGD, {epochs} and {2 * epochs} epochs",
        (
            *("classify", *arguments, "--model", "resnet18", "--augment", "flip-crop", "--batch-size", "128"),
            *("--lr", "0.08", "--weight-decay", "0", "--precision", "bfloat16", "--seeds", "3"),
            *("--variant", f"plain:rounds={epochs}", "--variant", f"plain-twice:rounds={2 * epochs}"),
            *(
                word
                for lam in lams
                for word in ("--variant", f"tract-{lam}:first_layer=tract,tract_lam={lam},rounds={epochs}")
            ),
        ),
        (
            Claim(
                f"TrAct, the best of three λ, is as accurate after {epochs} epochs as a plain first layer after twice "
                "as many",
                BestOf("TrAct, best λ", tuple(f"tract-{lam}" for lam in lams)), "plain-twice", "no less than", 0.0,
            ),
            *(
                Claim(f"TrAct, λ = 0.1, has a {words} after as many epochs", "tract-0.1", "plain", "at least", 0.0, of)
                for of, words in SAID.items()
            ),
        ),
        "gpu",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "cifar10-8000",
        f"{DATA}; 3 epochs, the transformer 1",
        (*COMMON, *_cells()),
        (
            *(_more_often(metric) for metric in SAID),
            *(_better(*cell, metric) for metric in SAID for cell in RATES),
            *(_not_the_rate(optimizer, metric) for metric in SAID for optimizer in OPTIMIZERS),
        ),
    ),
    Experiment(
        "cifar10-8000-unit-inputs",
        f"{DATA}; pixels between 0 and 1; 3 epochs",
        (*COMMON, "--inputs", "unit", *_variant("cnn", "sgd", "plain"), *_variant("cnn", "sgd", "tract")),
        tuple(
            Claim(
                f"With inputs that are not standardised TrAct has no {words}: {NAMES['cnn']}, SGD",
                "cnn-sgd-tract", "cnn-sgd-plain", "no less than", 0.0, metric,
            )
            for metric, words in ((ACCURACY, "lower test accuracy"), (TRAIN_LOSS, "higher final training loss"))
        ),
    ),
    _half_the_epochs(
        "cifar10-10000",
        "CIFAR-10, 9 000 training and 1 000 validation images, 10 000 test images",
        ("--data", "cifar10", "--train-size", "9000", "--validation-size", "1000"),
        30,
    ),
    _half_the_epochs(
        "fashion-mnist",
        "Fashion-MNIST, 54 000 training and 6 000 validation images, 10 000 test images",
        ("--data", "fashion-mnist"),
        10,
    ),
    _half_the_epochs(
        "cifar10",
        "CIFAR-10, 45 000 training and 5 000 validation images, 10 000 test images",
        ("--data", "cifar10", "--train-size", "45000"),
        15,
    ),
)  # fmt: skip
