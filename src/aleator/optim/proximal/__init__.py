"""Proximal operators: penalties on weights, and sets that they stay in, by an exact step instead of a gradient.

    from aleator.optim import proximal as prox

    prox.L1(1e-4)(v, step)    is argmin_x λ‖x‖₁ + ‖x − v‖²/(2·step)

The optimizers that take them are `aleator.optim.ProximalSGD`, `Proximal` around another optimizer, `ProxSVRG` and
`FISTA`.
"""

from aleator.optim.proximal.elementwise import L0, L1, ElasticNet, Huber, LogBarrier, Ridge
from aleator.optim.proximal.group_lasso import GroupLasso, L2Norm, SparseGroupLasso
from aleator.optim.proximal.operator import Prox
from aleator.optim.proximal.projections import Box, L2Ball, LInfBall, MaxNorm, NonNegative, UnitNorm
from aleator.optim.proximal.simplex import L1Ball, LInfNorm, Simplex
from aleator.optim.proximal.spectral import LowRank, Nuclear, Stiefel
from aleator.optim.proximal.total_variation import TotalVariation1d

__all__ = [
    "L0",
    "L1",
    "Box",
    "ElasticNet",
    "GroupLasso",
    "Huber",
    "L1Ball",
    "L2Ball",
    "L2Norm",
    "LInfBall",
    "LInfNorm",
    "LogBarrier",
    "LowRank",
    "MaxNorm",
    "NonNegative",
    "Nuclear",
    "Prox",
    "Ridge",
    "Simplex",
    "SparseGroupLasso",
    "Stiefel",
    "TotalVariation1d",
    "UnitNorm",
]
