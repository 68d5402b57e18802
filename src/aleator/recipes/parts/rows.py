"""The optimizers and schedules that recipes offer: one row each.

From a row come the choice on the command line, its help and default rate, which options belong to it, and how it is
built. To add an optimizer is to add a row. Nothing heavy is imported here; a row names its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer as a choice.

    Attributes:
        cls: where its class is, ``"module:Class"``.
        says: what it is, as a part of a sentence.
        lr: its learning rate where none is given: good in one pilot run on the default data of ``classify``.
        owns: which of the options that not every optimizer has are its own.
        momentum: its momentum where none is given, for those that have one.
        betas: how many there are.
        settings: arguments of its constructor that are always the same.
        matrices: whether it adapts and decays only parameters of two or more dimensions.
        paced: arguments that follow from elsewhere: ``"clip_schedule"`` from the warm-up of the schedule, ``"warmup"``
            from its length, ``"prox"`` from the penalty, ``"n_data"`` and ``"generator"`` from the run.
        needs: what it cannot do without: ``"steps known"``, ``"raw gradient"``, ``"one process"``.
    """

    cls: str
    says: str
    lr: float
    owns: tuple[str, ...] = ()
    momentum: float | None = None
    betas: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)
    matrices: bool = False
    paced: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()


_SPECTRA = ("clip", "apply_to")

OPTIMIZERS: Mapping[str, OptimizerRow] = {
    "sgd": OptimizerRow("torch.optim:SGD", "SGD with Nesterov momentum", 0.05, ("momentum",), momentum=0.9),
    "proximal-sgd": OptimizerRow(
        "aleator.optim:ProximalSGD",
        "SGD with momentum and a proximal step, see prox",
        0.05,
        ("momentum",),
        momentum=0.9,
        paced=("prox",),
    ),
    "sgld": OptimizerRow(
        "aleator.sde:SGLD",
        "SGLD, which samples the posterior with a step that is as many times smaller as there are examples",
        1e-5,
        paced=("n_data", "generator"),
        needs=frozenset({"raw gradient"}),
    ),
    "adagrad": OptimizerRow("torch.optim:Adagrad", "AdaGrad", 0.05),
    "adagrad-norm": OptimizerRow(
        "aleator.optim:AdaGradNorm", "AdaGrad-Norm, which has one step size for all parameters", 1.0
    ),
    "adamw": OptimizerRow("torch.optim:AdamW", "AdamW", 0.001, ("betas",)),
    "lamb": OptimizerRow("aleator.optim:LAMB", "LAMB", 0.01, ("betas",), matrices=True),
    "lars": OptimizerRow(
        "aleator.optim:LARS",
        "LARS as Algorithm 1 of the LAMB paper",
        0.01,
        ("momentum",),
        momentum=0.9,
        settings={"form": "algorithm1"},
        matrices=True,
    ),
    "signum": OptimizerRow(
        "aleator.optim:SpectraSignum",
        "the sign of a Nesterov momentum",
        0.0003,
        ("momentum",),
        momentum=0.95,
        settings={"apply_to": "none"},
    ),
    "spectra-adamw": OptimizerRow(
        "aleator.optim:SpectraAdamW", "SPECTRA around AdamW", 0.003, ("betas", *_SPECTRA), paced=("clip_schedule",)
    ),
    "spectra-signum": OptimizerRow(
        "aleator.optim:SpectraSignum",
        "SPECTRA around Signum",
        0.001,
        ("momentum", *_SPECTRA),
        momentum=0.95,
        paced=("clip_schedule",),
    ),
    "spectra-ademamix": OptimizerRow(
        "aleator.optim:SpectraAdEMAMix",
        "SPECTRA around AdEMAMix",
        0.003,
        ("betas", *_SPECTRA),
        betas=3,
        paced=("clip_schedule", "warmup"),
        needs=frozenset({"steps known"}),
    ),
    "spectra-mars": OptimizerRow(
        "aleator.optim:SpectraMARS", "SPECTRA around MARS", 0.003, ("betas", *_SPECTRA), paced=("clip_schedule",)
    ),
}


OPTIMIZER_METHODS: Mapping[str, tuple[str, ...]] = {
    "SGD": ("sgd",),
    "AdamW": ("adamw",),
    "LAMB": ("lamb",),
    "LARS": ("lars",),
    "AdaGradNorm": ("adagrad-norm",),
    "SPECTRA": ("spectra-adamw", "spectra-signum", "spectra-mars", "spectra-ademamix"),
}
"""The optimizers that are worth a trial in the place of the one in use, by method."""


@dataclass(frozen=True)
class ScheduleRow:
    """A schedule as a choice.

    Attributes:
        says: what it is, as a part of a sentence.
        owns: which of the options that not every schedule has are its own.
        needs: as of an optimizer.
    """

    says: str
    owns: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset({"steps known"})


SCHEDULES: Mapping[str, ScheduleRow] = {
    "cosine": ScheduleRow(
        "a cosine from lr to lr_min in the T - w steps after the warmup, after lr t/(w + 1) in step t of it",
        ("lr_min", "warmup"),
    ),
    "linear": ScheduleRow(
        "linear, which is lr t/w in the warmup and then lr (1 - (t - 1)/T), a line to zero that begins at lr (1 - w/T)",
        ("warmup",),
    ),
    "constant": ScheduleRow("constant, without a warmup", needs=frozenset()),
    "sasa": ScheduleRow(
        "sasa, which divides lr by 10 when SGD, here without Nesterov's direction, has become stationary",
        needs=frozenset({"sgd", "raw gradient"}),
    ),
}

if TYPE_CHECKING:
    Optimizer = str
    Schedule = str
else:
    Optimizer = Literal[tuple(OPTIMIZERS)]
    Schedule = Literal[tuple(SCHEDULES)]


def rates(own: Mapping[str, float]) -> str:
    """Say the learning rates that optimizers have by default, the same rate once."""
    by_rate: dict[float, list[str]] = {}
    for name, row in OPTIMIZERS.items():
        by_rate.setdefault(own.get(name, row.lr), []).append(name)
    return ", ".join(f"{rate:g} for {listed(names)}" for rate, names in sorted(by_rate.items(), reverse=True))


def listed(words: list[str]) -> str:
    """Return ``"a, b and c"``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
