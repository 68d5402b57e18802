"""A GDSS as one safetensors file: weights, and in its metadata, as JSON, what makes the networks and processes again.

Nothing in the file can run code: it names classes of this library and their arguments.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aleator.graphs.score_network_a import ScoreNetworkA
from aleator.graphs.score_network_x import ScoreNetworkX, ScoreNetworkX_GMH
from aleator.sde import VESDE, VPSDE, SubVPSDE

_NETWORKS = {kind.__name__: kind for kind in (ScoreNetworkX, ScoreNetworkX_GMH, ScoreNetworkA)}
_PROCESSES = {kind.__name__: kind for kind in (VPSDE, SubVPSDE, VESDE)}
NODE_COUNTS = "node_counts"


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` was given, or the module itself."""
    inner = getattr(net, "_orig_mod", net)
    return inner if isinstance(inner, nn.Module) else net


def save(path: str | Path, parts: dict[str, Any], settings: dict[str, Any], node_counts: Tensor | None) -> None:
    """Write a model.

    Args:
        path: of the file.
        parts: ``net_x`` and ``net_a``, ``sde_x`` and ``sde_a``.
        settings: its other arguments and what it has observed, that JSON can hold.
        node_counts: what it has observed as a tensor.
    """
    parts = {name: unwrapped(part) if isinstance(part, nn.Module) else part for name, part in parts.items()}
    described = {name: _description(part) for name, part in parts.items()}
    foreign = [f"{name} ({type(parts[name]).__name__})" for name, found in described.items() if found is None]
    if foreign:
        what = ", ".join(foreign)
        warnings.warn(f"{path} holds no description of {what}, only weights: give it to GDSS.load", stacklevel=3)
    about = {**described, **settings}
    tensors = {
        f"{name}.{key}": tensor.contiguous()
        for name in ("net_x", "net_a")
        for key, tensor in parts[name].state_dict().items()
    }
    if node_counts is not None:
        tensors[NODE_COUNTS] = node_counts
    save_file(tensors, path, {"gdss": json.dumps(about)})


def read(path: str | Path, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Return the parts, given or made from their descriptions, the settings, and the tensors, weights included.

    Raises:
        ValueError: if the file is not of a GDSS, or does not describe a part that is not given.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["gdss"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a saved GDSS: {error!r}") from None
    parts = {}
    # The numbers drawn here are overwritten; a caller that asked for a saved model has no use for them in the global
    # stream.
    with torch.random.fork_rng(devices=[]):
        for name, part in given.items():
            parts[name] = _made(path, name, about[name]) if part is None else part
    return parts, about, tensors


def load_weights(net: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    """Give a network its weights.

    Raises:
        RuntimeError: if they do not fit the network, as of ``load_state_dict``.
    """
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    unwrapped(net).load_state_dict(own)


def _description(part: Any) -> dict[str, Any] | None:
    kind = type(part).__name__
    if _NETWORKS.get(kind) is type(part):
        return {"kind": kind, **part.config}
    if _PROCESSES.get(kind) is type(part):
        return {"kind": kind, **dataclasses.asdict(part)}
    return None


def _made(path: str | Path, name: str, description: dict[str, Any] | None) -> Any:
    if description is None:
        raise ValueError(f"{name} must be given: {path} holds its weights and no description of it")
    arguments = dict(description)
    kind = arguments.pop("kind")
    known = _NETWORKS if name.startswith("net") else _PROCESSES
    if kind not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {kind!r} in {path}")
    return known[kind](**arguments)
