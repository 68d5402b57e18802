"""Conclusions from answers that come in pairs: variance and confidence, their calibration, and whom to answer."""
