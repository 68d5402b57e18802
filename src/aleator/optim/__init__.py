"""How a noisy gradient becomes a step: optimizers and learning-rate schedules."""

from aleator.optim.schedules import CosineToBudget

__all__ = ["CosineToBudget"]
