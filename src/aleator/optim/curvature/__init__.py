"""Curvature of a loss: products with it, its spectrum, and the learning rates that follow from it."""
