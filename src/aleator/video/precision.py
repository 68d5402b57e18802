"""Half precision for a transformer, with what its authors keep in float32 kept.

``from_pretrained(torch_dtype=…)`` reads the modules that ``_keep_in_fp32_modules`` names in float32; of Wan these are
the embedding of time, the modulation and the norms. ``transformer.to(torch.bfloat16)`` casts them too, and warns.
"""

from __future__ import annotations

import torch
from torch import nn


def cast(transformer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a transformer of ``diffusers`` in place, and return it: the types that ``from_pretrained`` gives it.

    Additions of a LoRA stay in float32 as well.
    """
    kept = {*(getattr(transformer, "_keep_in_fp32_modules", None) or ()), "lora_A", "lora_B"}
    # rope is named too, but its tables are buffers, which loading leaves alone.
    for name, parameter in transformer.named_parameters():
        if parameter.is_floating_point():
            keep = not kept.isdisjoint(name.split("."))
            parameter.data = parameter.data.to(torch.float32 if keep else dtype)
    return transformer
