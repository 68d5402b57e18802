"""Experts that recipes imitate, and the programs that trained them."""
