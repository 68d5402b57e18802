"""An agent as a folder of JSON and safetensors files: nothing in it can run code.

    agent.json                  class, spaces, settings, everything of its state that is no tensor, and the names of
    agent-SAVE.safetensors      the tensors of its state: weights, optimizers, temperature, random streams
    replay-SAVE.safetensors     the filled slice of the replay, if it was asked for

Nested state is taken apart into tensors, named by their path, and a tree of the rest in which they are references.
Every save has files of its own, and ``agent.json`` moves to its place last: whatever interrupts a save, a reader sees
all of the old one or all of the new one.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from aleator.random import Streams

_FORMAT = 2
_REFERENCE = "tensor:"


def save(agent: Any, folder: Path, *, replay: bool) -> None:
    """Write an agent; see `aleator.rl.Agent.save`."""
    tensors: dict[str, Tensor] = {}
    state = agent.training_state(replay=False) | {"streams": agent.streams.state_dict()}
    about = {
        "format": _FORMAT,
        "class": type(agent).__name__,
        "obs_space": _described(agent.obs_space),
        "act_space": _described(agent.act_space),
        "own": agent.own,
        "settings": vars(agent.settings),
        "state": _apart(state, "", tensors),
    }
    folder.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    files = {"state": f"agent-{mark}.safetensors"}
    _write(folder / files["state"], to_safetensors(tensors))
    if replay:
        files["replay"] = f"replay-{mark}.safetensors"
        kept = agent.replay.state_dict()
        note = {"next": str(kept["next"]), "capacity": str(kept["capacity"]), "spaces": _spaces(about)}
        _write(folder / files["replay"], to_safetensors({"rows": kept["rows"].cpu()}, note))
    _write(folder / "agent.json", json.dumps(about | {"files": files}, indent=1).encode())
    for kind in ("agent", "replay"):
        for old in folder.glob(f"{kind}-*.safetensors"):
            if old.name not in files.values():
                old.unlink()


def load(kind: type, folder: Path, device: torch.device | str, optimizer: Any) -> Any:
    """Return the agent of a class that `save` wrote; see `aleator.rl.Agent.load`."""
    path = folder / "agent.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no agent: there is no agent.json")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        written, form = about["class"], about["format"]
        files = {name: folder / Path(file).name for name, file in about.get("files", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or was not written by Agent.save: {error!r}") from error
    if form != _FORMAT:
        raise ValueError(f"{path} must have format {_FORMAT}, got {form}")
    if written != kind.__name__:
        raise ValueError(f"{folder} holds a {written}, not a {kind.__name__}")
    tensors, _ = _read(files["state"])
    state = _together(about["state"], tensors)
    streams = Streams(state["streams"]["seed"], device)
    agent = kind(
        _space(about["obs_space"]),
        _space(about["act_space"]),
        **about["own"],
        **about["settings"],
        seed=streams,
        device=device,
        optimizer=optimizer,
    )
    if "replay" in files:
        file = files["replay"]
        rows, note = _read(file)
        if note.get("spaces") != _spaces(about):
            raise ValueError(f"{file} is the replay of another environment: its spaces are {note.get('spaces')}")
        kept = {"rows": rows["rows"], "next": int(note["next"]), "capacity": int(note["capacity"])}
        state["replay"] = kept
    agent.load_training_state(state)
    streams.load_state_dict(state["streams"])
    return agent


def _spaces(about: Mapping[str, Any]) -> str:
    return json.dumps([about["obs_space"], about["act_space"]])


def _described(space: gymnasium.spaces.Box) -> dict[str, Any]:
    # As text, since JSON has no infinity.
    bounds = {name: [repr(float(x)) for x in getattr(space, name)] for name in ("low", "high")}
    return {**bounds, "dtype": str(space.dtype)}


def _space(described: Mapping[str, Any]) -> gymnasium.spaces.Box:
    low, high = (np.array([float(x) for x in described[name]], described["dtype"]) for name in ("low", "high"))
    return gymnasium.spaces.Box(low, high, dtype=np.dtype(described["dtype"]).type)


def _apart(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return a tree that JSON can hold, with references to the tensors, which go into ``tensors``."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return _REFERENCE + path
    if isinstance(value, Mapping):
        return {"pairs": [[key, _apart(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_apart(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the state of an agent must be tensors, numbers and text, got {type(value).__name__} at {path}")


def _together(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, str) and tree.startswith(_REFERENCE):
        return tensors[tree.removeprefix(_REFERENCE)]
    if isinstance(tree, dict):
        return {key: _together(item, tensors) for key, item in tree["pairs"]}
    if isinstance(tree, list):
        return [_together(item, tensors) for item in tree]
    return tree


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged or not there: {error}") from error


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
