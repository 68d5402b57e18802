"""Partial differential equations in many dimensions, solved by networks from a few of their second derivatives."""

from aleator.pde import problems
from aleator.pde.domains import Ball, Box, Domain, Gaussian

__all__ = ["Ball", "Box", "Domain", "Gaussian", "problems"]
