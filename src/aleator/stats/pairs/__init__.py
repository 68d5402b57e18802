"""What answers that come in pairs say: variance and confidence, their calibration, and whom to answer."""
