"""Randomness as dynamics: processes that turn data into noise, and solvers that run them backwards."""

from aleator.sde.processes import SDE, VESDE, VPSDE, SubVPSDE

__all__ = ["SDE", "VESDE", "VPSDE", "SubVPSDE"]
