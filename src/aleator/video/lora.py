"""A policy that is a frozen transformer and a LoRA: what trains, the reference without it, and files for pipelines.

A large transformer is aligned by low-rank additions W + (α/r) B A to its linear layers (E. Hu et al., 2022), B = 0 at
first, so the policy begins as the reference, and the reference of the KL term is the same network with the additions
switched off: no second copy. Additions are kept in float32, since a step of 1e-6 is lost in half precision.

    add_lora(transformer, rank=16, generator=streams.generator("lora"))
    velocity = velocity_of(transformer)
    ref = Reference(velocity)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from aleator.video.extra import needed

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The linear layers of attention, in every transformer of ``diffusers``."""
_ADAPTER = "default"


def add_lora(
    transformer: nn.Module,
    *,
    generator: torch.Generator,
    rank: int = 16,
    alpha: float | None = None,
    target_modules: Iterable[str] = ATTENTION,
) -> list[nn.Parameter]:
    """Freeze a transformer of ``diffusers``, add a LoRA to it in place, and return the parameters that train.

    Args:
        transformer: with ``add_adapter``.
        generator: draws the matrices A.
        rank: r, at least 1.
        alpha: α. Default: r.
        target_modules: the ends of the names of linear layers.

    Raises:
        ValueError: if the rank or alpha is out of range, there is a LoRA already, or no layer has such a name.
        ModuleNotFoundError: if peft is not installed; the message names the extra.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if alpha is not None and not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if getattr(transformer, "peft_config", None):
        raise ValueError(f"transformer must have no adapter yet, got {', '.join(transformer.peft_config)}")  # type: ignore[arg-type]
    peft = needed("peft", "LoRA adapters")
    model: Any = transformer
    names = sorted(target_modules)
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    if not any(name == end or name.endswith(f".{end}") for name in linear for end in names):
        raise ValueError(f"target_modules must name linear layers of {type(transformer).__name__}, got {names}")
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=()):  # peft draws from the global generator
        model.add_adapter(peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=names))
    for name, parameter in transformer.named_parameters():
        if not parameter.requires_grad:
            continue
        parameter.data = parameter.data.float()
        if ".lora_A." in name:  # as peft has it: uniform within 1/√(number of inputs)
            bound = parameter.shape[1] ** -0.5
            drawn = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
            parameter.data.copy_(drawn)
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


class Reference:
    """The policy without its LoRA, as the fixed velocity that the KL term is taken to.

    Args:
        velocity: of `aleator.video.velocity_of`; its transformer has a LoRA.

    Raises:
        ValueError: if there is no LoRA.
    """

    def __init__(self, velocity: Any) -> None:
        if not getattr(velocity.transformer, "peft_config", None):
            raise ValueError("ref needs a transformer with a LoRA, got none; give a frozen copy of the model instead")
        self.velocity = velocity

    @torch.no_grad()
    def __call__(self, x: Tensor, s: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the velocity of the network as it was before the LoRA."""
        self.velocity.transformer.disable_adapters()
        try:
            return self.velocity(x, s, cond)  # type: ignore[no-any-return]
        finally:
            self.velocity.transformer.enable_adapters()


def save_lora(transformer: nn.Module, folder: Path | str) -> Path:
    """Write the LoRA as ``pytorch_lora_weights.safetensors`` and return its path.

    A pipeline's ``load_lora_weights(folder)`` reads it, and so does the ``load_lora_adapter(folder,
    use_safetensors=True)`` of a transformer. Under FSDP2 every process has to call this; the first one writes.

    Raises:
        ValueError: if there is no LoRA.
    """
    model: Any = transformer
    if _ADAPTER not in getattr(transformer, "peft_config", {}):
        raise ValueError("transformer must have a LoRA to save, got none")
    state = needed("peft.utils", "LoRA adapters").get_peft_model_state_dict(model, adapter_name=_ADAPTER)
    weights = {f"transformer.{name}": _whole(weight) for name, weight in state.items()}
    settings = model.peft_config[_ADAPTER].to_dict()
    plain = {f"transformer.{name}": sorted(v) if isinstance(v, set) else v for name, v in settings.items()}
    # The key under which diffusers looks for rank and alpha.
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(plain, sort_keys=True)}
    path = Path(folder) / "pytorch_lora_weights.safetensors"
    if _first():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path, metadata=metadata)
    return path


@torch.no_grad()
def save_transformer(transformer: nn.Module, folder: Path | str) -> Path:
    """Write the whole transformer, a LoRA merged into its weights, for ``from_pretrained(folder)``; return the folder.

    The network stays as it is. Under FSDP2 every process has to call this; the first one writes.
    """
    model: Any = transformer
    layers = {name: module for name, module in transformer.named_modules() if hasattr(module, "base_layer")}
    weights = {}
    for name, weight in transformer.state_dict().items():
        if ".lora_" in name:
            continue
        layer, _, end = name.partition(".base_layer.")
        tensor = _whole(weight)
        if end == "weight" and _ADAPTER in layers[layer].lora_A:
            tensor = (tensor.float() + _addition(layers[layer])).to(tensor.dtype)
        weights[f"{layer}.{end}" if end else name] = tensor
    path = Path(folder)
    if _first():
        path.mkdir(parents=True, exist_ok=True)
        model.save_config(path)
        save_file(weights, path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return path


def _addition(layer: Any) -> Tensor:
    down, up = (_whole(part[_ADAPTER].weight).float() for part in (layer.lora_A, layer.lora_B))
    return up @ down * float(layer.scaling[_ADAPTER])


def _whole(weight: Tensor) -> Tensor:
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return whole.detach().cpu().contiguous()


def _first() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
