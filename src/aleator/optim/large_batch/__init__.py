"""Layerwise steps and schedules for large batches: LAMB, LARS."""
