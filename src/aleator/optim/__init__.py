"""How a noisy gradient becomes a step: optimizers and learning-rate schedules."""

from aleator.optim.schedules import CosineToBudget
from aleator.optim.soft_spectral_clip import soft_norm_clip, soft_spectral_clip, spectral_clip_grads_

__all__ = ["CosineToBudget", "soft_norm_clip", "soft_spectral_clip", "spectral_clip_grads_"]
