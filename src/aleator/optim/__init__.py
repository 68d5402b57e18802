"""How a noisy gradient becomes a step: optimizers and learning-rate schedules."""

from aleator.optim.clip_schedule import ClipSchedule
from aleator.optim.lamb import LAMB
from aleator.optim.large_batch import LinearEpochWarmupPoly, Stage, TwoStageSchedule, scale_for_batch, scale_warmup
from aleator.optim.lars import LARS
from aleator.optim.rules import Rule, is_vector, name_matches, without_decay
from aleator.optim.schedules import CosineToBudget
from aleator.optim.soft_spectral_clip import soft_norm_clip, soft_spectral_clip, spectral_clip_grads_
from aleator.optim.spectra_adamw import SpectraAdamW
from aleator.optim.spectra_ademamix import SpectraAdEMAMix
from aleator.optim.spectra_mars import SpectraMARS
from aleator.optim.spectra_signum import SpectraSignum
from aleator.optim.spectra_wrapper import Spectra
from aleator.optim.spectral_step import SpectralOptions

__all__ = [
    "LAMB",
    "LARS",
    "ClipSchedule",
    "CosineToBudget",
    "LinearEpochWarmupPoly",
    "Rule",
    "Spectra",
    "SpectraAdEMAMix",
    "SpectraAdamW",
    "SpectraMARS",
    "SpectraSignum",
    "SpectralOptions",
    "Stage",
    "TwoStageSchedule",
    "is_vector",
    "name_matches",
    "scale_for_batch",
    "scale_warmup",
    "soft_norm_clip",
    "soft_spectral_clip",
    "spectral_clip_grads_",
    "without_decay",
]
