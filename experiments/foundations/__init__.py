"""The experiments behind "Foundations", a file for each half of the card."""
