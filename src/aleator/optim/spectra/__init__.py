"""Soft spectral clipping of updates: SPECTRA around AdamW and its kin."""
