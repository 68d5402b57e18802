"""Optimizers and learning-rate schedules: from a noisy gradient to a step."""

from aleator.optim.large_batch.lamb import LAMB
from aleator.optim.large_batch.lars import LARS
from aleator.optim.large_batch.schedules import (
    LinearEpochWarmupPoly,
    Stage,
    TwoStageSchedule,
    scale_for_batch,
    scale_warmup,
)
from aleator.optim.proximal.averaging import prox_average_
from aleator.optim.proximal.fista import FISTA
from aleator.optim.proximal.path import PathPoint, lam_grid, lam_path, largest_lam, sklearn_alpha, sklearn_c
from aleator.optim.proximal.pegasos import Pegasos
from aleator.optim.proximal.rda import RDA
from aleator.optim.proximal.sgd import ProximalSGD
from aleator.optim.proximal.sparsity import Sparsity, sparsity
from aleator.optim.proximal.step_rules import RobbinsMonro, hessian_norm, linear_smoothness
from aleator.optim.proximal.svrg import ProxSVRG
from aleator.optim.proximal.wrapper import Proximal
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
from aleator.optim.stationarity.distance import DistanceTest
from aleator.optim.stationarity.pflug import Pflug
from aleator.optim.stationarity.sasa import SASA, fluctuation_sides
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
    "FISTA",
    "LAMB",
    "LARS",
    "RDA",
    "SASA",
    "SMOOTH_STEP",
    "AdaGradNorm",
    "ArmijoGD",
    "ClipSchedule",
    "Constant",
    "CosineToBudget",
    "DiagonalAdaGrad",
    "DistanceTest",
    "Exponential",
    "InverseSqrt",
    "LinearEpochWarmupPoly",
    "NotFiniteTargetGradient",
    "PathPoint",
    "Pegasos",
    "Pflug",
    "ProxSVRG",
    "Proximal",
    "ProximalSGD",
    "RobbinsMonro",
    "Rule",
    "Sparsity",
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
    "fluctuation_sides",
    "hessian_norm",
    "is_vector",
    "lam_grid",
    "lam_path",
    "largest_lam",
    "linear_smoothness",
    "logistic_metric",
    "name_matches",
    "prox_average_",
    "scale_for_batch",
    "scale_warmup",
    "sklearn_alpha",
    "sklearn_c",
    "soft_norm_clip",
    "soft_spectral_clip",
    "softmax_metric",
    "sparsity",
    "spectral_clip_grads_",
    "surrogate_loss",
    "weight_ema",
    "without_decay",
]
