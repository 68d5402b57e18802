"""How a noisy gradient becomes a step: optimizers and learning-rate schedules."""

from aleator.optim.large_batch.lamb import LAMB
from aleator.optim.large_batch.lars import LARS
from aleator.optim.large_batch.schedules import (
    LinearEpochWarmupPoly,
    Stage,
    TwoStageSchedule,
    scale_for_batch,
    scale_warmup,
)
from aleator.optim.rules import Rule, is_vector, name_matches, without_decay
from aleator.optim.schedules import CosineToBudget
from aleator.optim.spectra.adamw import SpectraAdamW
from aleator.optim.spectra.ademamix import SpectraAdEMAMix
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.mars import SpectraMARS
from aleator.optim.spectra.signum import SpectraSignum
from aleator.optim.spectra.soft_clip import soft_norm_clip, soft_spectral_clip, spectral_clip_grads_
from aleator.optim.spectra.step import SpectralOptions
from aleator.optim.spectra.wrapper import Spectra
from aleator.optim.targets.armijo import ArmijoGD
from aleator.optim.targets.step_size import (
    SMOOTH_STEP,
    AdaGradNorm,
    Constant,
    DiagonalAdaGrad,
    Exponential,
    InverseSqrt,
    TargetArmijo,
    logistic_metric,
    softmax_metric,
)
from aleator.optim.targets.surrogate import NotFiniteTargetGradient, SurrogateStep, TargetSurrogate, surrogate_loss
from aleator.optim.weight_ema import weight_ema

__all__ = [
    "LAMB",
    "LARS",
    "SMOOTH_STEP",
    "AdaGradNorm",
    "ArmijoGD",
    "ClipSchedule",
    "Constant",
    "CosineToBudget",
    "DiagonalAdaGrad",
    "Exponential",
    "InverseSqrt",
    "LinearEpochWarmupPoly",
    "NotFiniteTargetGradient",
    "Rule",
    "Spectra",
    "SpectraAdEMAMix",
    "SpectraAdamW",
    "SpectraMARS",
    "SpectraSignum",
    "SpectralOptions",
    "Stage",
    "SurrogateStep",
    "TargetArmijo",
    "TargetSurrogate",
    "TwoStageSchedule",
    "is_vector",
    "logistic_metric",
    "name_matches",
    "scale_for_batch",
    "scale_warmup",
    "soft_norm_clip",
    "soft_spectral_clip",
    "softmax_metric",
    "spectral_clip_grads_",
    "surrogate_loss",
    "weight_ema",
    "without_decay",
]
