"""Optimizers and learning-rate schedules: from a noisy gradient to a step.

A run needs one optimizer of many, so each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from aleator.later import later
from aleator.optim.weight_ema import weight_ema  # a module's name as well: it would be taken for the function

if TYPE_CHECKING:
    from aleator.optim.adagrad_norm import AdaGradNorm
    from aleator.optim.curvature.broadening import Broadening, broadened, broadened_ggn, fit_broadening, overlap
    from aleator.optim.curvature.lanczos import Eigenpairs, Tridiagonal, lanczos, top_eigenpairs
    from aleator.optim.curvature.operator import CurvatureError, CurvatureOperator
    from aleator.optim.curvature.rates import Shrinkage, heavy_ball, max_lr, min_damping, shrinkage_damping
    from aleator.optim.curvature.schedule import CurvatureLRScheduler
    from aleator.optim.curvature.spectrum import Spectrum, group_spectra, slq
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
    from aleator.optim.sample_schedule import SampleLR
    from aleator.optim.scaling import scale_betas, scale_lr
    from aleator.optim.schedules import CosineToBudget
    from aleator.optim.spectra.adamw import SpectraAdamW
    from aleator.optim.spectra.ademamix import SpectraAdEMAMix
    from aleator.optim.spectra.clip_schedule import ClipSchedule
    from aleator.optim.spectra.mars import SpectraMARS
    from aleator.optim.spectra.signum import SpectraSignum
    from aleator.optim.spectra.soft_clip import soft_norm_clip, soft_spectral_clip, spectral_clip_grads_
    from aleator.optim.spectra.step import SpectralOptions
    from aleator.optim.spectra.wrapper import Spectra
    from aleator.optim.spsa import SPSAOptimizer
    from aleator.optim.stationarity.distance import DistanceTest
    from aleator.optim.stationarity.pflug import Pflug
    from aleator.optim.stationarity.sasa import SASA, fluctuation_sides
    from aleator.optim.targets.armijo import ArmijoGD
    from aleator.optim.targets.step_size import (
        SMOOTH_STEP,
        AdaGradNormStep,
        Constant,
        DiagonalAdaGrad,
        Exponential,
        InverseSqrt,
        TargetArmijo,
        logistic_metric,
        softmax_metric,
    )
    from aleator.optim.targets.surrogate import NotFiniteTargetGradient, SurrogateStep, TargetSurrogate, surrogate_loss

__all__ = [
    "FISTA",
    "LAMB",
    "LARS",
    "RDA",
    "SASA",
    "SMOOTH_STEP",
    "AdaGradNorm",
    "AdaGradNormStep",
    "ArmijoGD",
    "Broadening",
    "ClipSchedule",
    "Constant",
    "CosineToBudget",
    "CurvatureError",
    "CurvatureLRScheduler",
    "CurvatureOperator",
    "DiagonalAdaGrad",
    "DistanceTest",
    "Eigenpairs",
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
    "SPSAOptimizer",
    "SampleLR",
    "Shrinkage",
    "Sparsity",
    "Spectra",
    "SpectraAdEMAMix",
    "SpectraAdamW",
    "SpectraMARS",
    "SpectraSignum",
    "SpectralOptions",
    "Spectrum",
    "Stage",
    "SurrogateStep",
    "TargetArmijo",
    "TargetSurrogate",
    "Tridiagonal",
    "TwoStageSchedule",
    "broadened",
    "broadened_ggn",
    "fit_broadening",
    "fluctuation_sides",
    "group_spectra",
    "heavy_ball",
    "hessian_norm",
    "is_vector",
    "lam_grid",
    "lam_path",
    "lanczos",
    "largest_lam",
    "linear_smoothness",
    "logistic_metric",
    "max_lr",
    "min_damping",
    "name_matches",
    "overlap",
    "prox_average_",
    "scale_betas",
    "scale_for_batch",
    "scale_lr",
    "scale_warmup",
    "shrinkage_damping",
    "sklearn_alpha",
    "sklearn_c",
    "slq",
    "soft_norm_clip",
    "soft_spectral_clip",
    "softmax_metric",
    "sparsity",
    "spectral_clip_grads_",
    "surrogate_loss",
    "top_eigenpairs",
    "weight_ema",
    "without_decay",
]

__getattr__ = later(
    __name__,
    {
        "AdaGradNorm": "adagrad_norm",
        "AdaGradNormStep": "targets.step_size",
        "ArmijoGD": "targets.armijo",
        "Broadening": "curvature.broadening",
        "ClipSchedule": "spectra.clip_schedule",
        "Constant": "targets.step_size",
        "CosineToBudget": "schedules",
        "CurvatureError": "curvature.operator",
        "CurvatureLRScheduler": "curvature.schedule",
        "CurvatureOperator": "curvature.operator",
        "DiagonalAdaGrad": "targets.step_size",
        "DistanceTest": "stationarity.distance",
        "Eigenpairs": "curvature.lanczos",
        "Exponential": "targets.step_size",
        "FISTA": "proximal.fista",
        "InverseSqrt": "targets.step_size",
        "LAMB": "large_batch.lamb",
        "LARS": "large_batch.lars",
        "LinearEpochWarmupPoly": "large_batch.schedules",
        "NotFiniteTargetGradient": "targets.surrogate",
        "PathPoint": "proximal.path",
        "Pegasos": "proximal.pegasos",
        "Pflug": "stationarity.pflug",
        "ProxSVRG": "proximal.svrg",
        "Proximal": "proximal.wrapper",
        "ProximalSGD": "proximal.sgd",
        "RDA": "proximal.rda",
        "RobbinsMonro": "proximal.step_rules",
        "Rule": "rules",
        "SASA": "stationarity.sasa",
        "SMOOTH_STEP": "targets.step_size",
        "SampleLR": "sample_schedule",
        "Shrinkage": "curvature.rates",
        "SPSAOptimizer": "spsa",
        "Sparsity": "proximal.sparsity",
        "Spectra": "spectra.wrapper",
        "SpectraAdEMAMix": "spectra.ademamix",
        "SpectraAdamW": "spectra.adamw",
        "SpectraMARS": "spectra.mars",
        "SpectraSignum": "spectra.signum",
        "SpectralOptions": "spectra.step",
        "Spectrum": "curvature.spectrum",
        "Stage": "large_batch.schedules",
        "SurrogateStep": "targets.surrogate",
        "TargetArmijo": "targets.step_size",
        "TargetSurrogate": "targets.surrogate",
        "Tridiagonal": "curvature.lanczos",
        "TwoStageSchedule": "large_batch.schedules",
        "broadened": "curvature.broadening",
        "broadened_ggn": "curvature.broadening",
        "fit_broadening": "curvature.broadening",
        "fluctuation_sides": "stationarity.sasa",
        "group_spectra": "curvature.spectrum",
        "heavy_ball": "curvature.rates",
        "hessian_norm": "proximal.step_rules",
        "is_vector": "rules",
        "lam_grid": "proximal.path",
        "lam_path": "proximal.path",
        "lanczos": "curvature.lanczos",
        "largest_lam": "proximal.path",
        "linear_smoothness": "proximal.step_rules",
        "logistic_metric": "targets.step_size",
        "max_lr": "curvature.rates",
        "min_damping": "curvature.rates",
        "name_matches": "rules",
        "overlap": "curvature.broadening",
        "prox_average_": "proximal.averaging",
        "scale_betas": "scaling",
        "scale_for_batch": "large_batch.schedules",
        "scale_lr": "scaling",
        "scale_warmup": "large_batch.schedules",
        "shrinkage_damping": "curvature.rates",
        "sklearn_alpha": "proximal.path",
        "sklearn_c": "proximal.path",
        "slq": "curvature.spectrum",
        "soft_norm_clip": "spectra.soft_clip",
        "soft_spectral_clip": "spectra.soft_clip",
        "softmax_metric": "targets.step_size",
        "sparsity": "proximal.sparsity",
        "spectral_clip_grads_": "spectra.soft_clip",
        "surrogate_loss": "targets.surrogate",
        "top_eigenpairs": "curvature.lanczos",
        "without_decay": "rules",
    },
)
