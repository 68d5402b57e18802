"""Models small enough for a test."""

import torch

from aleator.language import ByteLM, DynamicPoolingLM, MagnetLM
from aleator.random import Streams

RATES = {"latin": 0.2, "cyrl": 0.1, "indic": 0.08}
SIZES = {"d_model": 16, "n_heads": 2, "d_head": 4, "d_inner": 24, "dropout": 0.0}


def magnet(seed=0, **options):
    with Streams(seed).scope("init"):
        return MagnetLM(**{"scripts": RATES, "layers": (1, 1, 1), **SIZES, **options})


def dtp(seed=0, **options):
    with Streams(seed).scope("init"):
        return DynamicPoolingLM(**{"rate": 0.2, "names": list(RATES), "layers": (1, 1, 1), **SIZES, **options})


def byte_lm(seed=0, **options):
    with Streams(seed).scope("init"):
        return ByteLM(**{"depth": 2, **SIZES, **options})


def batch(rows=4, length=24, seed=0):
    """Ids and noise."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 259, (rows, length), generator=generator)
    return ids, torch.rand(rows, length, generator=generator)
