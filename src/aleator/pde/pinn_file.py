"""A PINN as one safetensors file: weights, and in its metadata, as JSON, what they belong to.

Nothing in the file can run code: it names problems and domains of this library and their arguments.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from aleator.pde import problems
from aleator.pde.conditions import Condition
from aleator.pde.domains import Ball, Box, Domain, Gaussian
from aleator.pde.networks import ACTIVATIONS, mlp
from aleator.pde.problems.problem import Problem

if TYPE_CHECKING:
    from aleator.pde.pinn import PINN

SCHEMA_VERSION = 1
_DOMAINS = {kind.__name__: kind for kind in (Ball, Box, Gaussian)}


def save(pinn: PINN, path: str | Path) -> None:
    """Write a PINN."""
    about = {
        "schema_version": SCHEMA_VERSION,
        "problem": None if pinn.problem is None else described(pinn.problem),
        "domain": {"kind": type(pinn.domain).__name__, **dataclasses.asdict(pinn.domain)},
        "conditions": len(pinn.conditions),
        "network": _layers(pinn.network),
        "points": pinn.points,
        "condition_points": pinn.condition_points,
        "steps": pinn.steps,
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in pinn.network.state_dict().items()}
    save_file(tensors, path, {"pinn": json.dumps(about)})


def load(
    cls: type[PINN],
    path: str | Path,
    equation: Any,
    conditions: tuple[Condition, ...],
    network: nn.Module | None,
) -> PINN:
    """Read a PINN.

    Raises:
        ValueError: if the file is none of a PINN, or what it does not describe is not given.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["pinn"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a saved PINN: {error!r}") from None
    if about["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version must be {SCHEMA_VERSION}, got {about['schema_version']} in {path}")
    if about["problem"] is not None and (equation is not None or conditions):
        raise ValueError(f"equation and conditions cannot be given: {path} is of {about['problem']['class']}")
    if about["problem"] is None and equation is None:
        raise ValueError(f"equation must be given: {path} has weights for one that is not of this library")
    if about["problem"] is None and len(conditions) != about["conditions"]:
        raise ValueError(
            f"conditions must be the {about['conditions']} that {path} was saved with, got {len(conditions)}"
        )
    if network is None:
        if about["network"] is None:
            raise ValueError(f"network must be given: {path} has weights and no description of its layers")
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            network = mlp(**about["network"])
    network = network.to(next(iter(tensors.values())).dtype)
    network.load_state_dict(tensors)
    options = {name: about[name] for name in ("points", "condition_points")}
    if about["problem"] is not None:
        pinn = cls(_problem(about["problem"], path), network=network, **options)
    else:
        pinn = cls(equation, _domain(about["domain"], path), conditions, network=network, **options)
    pinn.steps = about["steps"]
    return pinn


def described(problem: Problem) -> dict[str, Any]:
    """Return a problem as JSON can hold it.

    Raises:
        ValueError: if it is a class of one's own.
    """
    kind = type(problem).__name__
    if getattr(problems, kind, None) is not type(problem):
        raise ValueError(f"problem must be one of aleator.pde.problems to be saved, got {kind}")
    return {"class": kind, "arguments": problem.arguments}


def _problem(about: dict[str, Any], path: str | Path) -> Problem:
    kind, arguments = about["class"], dict(about["arguments"])
    found = getattr(problems, kind, None) if kind in problems.__all__ else None
    if found is None or found is Problem:
        raise ValueError(f"problem must be one of {', '.join(problems.__all__)}, got {kind!r} in {path}")
    if arguments.get("coefficients") is not None:
        arguments["coefficients"] = torch.tensor(arguments["coefficients"], dtype=torch.float64)
    made: Problem = found(**arguments)
    return made


def _domain(about: dict[str, Any], path: str | Path) -> Domain:
    arguments = dict(about)
    kind = arguments.pop("kind")
    if kind not in _DOMAINS:
        raise ValueError(f"domain must be one of {', '.join(_DOMAINS)}, got {kind!r} in {path}")
    if arguments["time"] is not None:
        arguments["time"] = tuple(arguments["time"])
    return _DOMAINS[kind](**arguments)


def _layers(network: nn.Module) -> dict[str, Any] | None:
    """Return the arguments of `mlp` for a network that it would make; None for any other."""
    if type(network) is not nn.Sequential:
        return None
    linears = [part for part in network if type(part) is nn.Linear]
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    kinds = {type(part) for part in network if type(part) is not nn.Linear}
    if len(linears) < 2 or len(kinds) != 1 or not kinds <= names.keys():
        return None
    arguments = {
        "inputs": linears[0].in_features,
        "outputs": linears[-1].out_features,
        "width": linears[0].out_features,
        "layers": len(linears),
        "activation": names[kinds.pop()],
    }
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        same = mlp(**arguments)
    return arguments if repr(same) == repr(network) else None
