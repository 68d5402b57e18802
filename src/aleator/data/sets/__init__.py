"""Data sets by name: the catalogue, their files, and what reads them."""
