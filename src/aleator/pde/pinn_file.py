"""A PINN as one safetensors file: weights, and in its metadata, as JSON, what they belong to.

Nothing in the file can run code: it names problems and domains of this library and their arguments.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from aleator.gradients import SDGD, Exact, Hutchinson
from aleator.pde import problems
from aleator.pde.conditions import Condition
from aleator.pde.domains import Ball, Box, Domain, Gaussian
from aleator.pde.networks import ACTIVATIONS, mlp
from aleator.pde.problems.problem import Problem

SCHEMA_VERSION = 1
_ESTIMATORS: dict[str, Any] = {kind.__name__: kind for kind in (SDGD, Hutchinson, Exact)}
_DOMAINS = {kind.__name__: kind for kind in (Ball, Box, Gaussian)}


def save(
    path: str | Path, network: nn.Module, problem: Problem | None, domain: Domain, settings: dict[str, Any]
) -> None:
    """Write a PINN.

    Args:
        path: of the file.
        network: without its hard conditions.
        problem: None for an equation of one's own.
        domain: where it holds.
        settings: what else the file is to hold, as JSON can.
    """
    about = {
        "schema_version": SCHEMA_VERSION,
        "problem": None if problem is None else described(problem),
        "domain": {"kind": type(domain).__name__, **dataclasses.asdict(domain)},
        "network": _layers(network),
        **settings,
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, {"pinn": json.dumps(about)})


def read(
    path: str | Path, equation: Any, conditions: tuple[Condition, ...], network: nn.Module | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments that make the PINN of a file, and what else it holds.

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
    own = about["problem"] is None
    if not own and (equation is not None or conditions):
        raise ValueError(f"equation and conditions cannot be given: {path} is of {about['problem']['class']}")
    if own and equation is None:
        raise ValueError(f"equation must be given: {path} has weights for one that is not of this library")
    if own and len(conditions) != about["conditions"]:
        raise ValueError(
            f"conditions must be the {about['conditions']} that {path} was saved with, got {len(conditions)}"
        )
    if network is None:
        if about["network"] is None:
            raise ValueError(f"network must be given: {path} has weights and no description of its layers")
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            network = mlp(**about["network"])
    network = network.to(next(iter(tensors.values())).dtype)
    own_shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, shape in {name: tuple(tensor.shape) for name, tensor in tensors.items()}.items():
        if own_shapes.get(name) != shape:
            raise ValueError(f"network must have {name} of shape {shape} as {path}, got {own_shapes.get(name)}")
    if missing := sorted(own_shapes.keys() - tensors.keys()):
        raise ValueError(f"network must have no {missing[0]}, of which {path} knows nothing")
    network.load_state_dict(tensors)
    made: dict[str, Any] = {"equation": equation if own else _problem(about["problem"], path), "network": network}
    made["estimator"] = _estimator(about["estimator"], path)
    return (made | {"domain": _domain(about["domain"], path), "conditions": conditions} if own else made), about


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


def _estimator(about: dict[str, Any], path: str | Path) -> Any:
    arguments = dict(about)
    kind = arguments.pop("kind")
    if kind not in _ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(_ESTIMATORS)}, got {kind!r} in {path}")
    return _ESTIMATORS[kind](**arguments)


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
    arguments: dict[str, Any] = {
        "inputs": linears[0].in_features,
        "outputs": linears[-1].out_features,
        "width": linears[0].out_features,
        "layers": len(linears),
        "activation": names[kinds.pop()],
    }
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        same = mlp(**arguments)
    return arguments if repr(same) == repr(network) else None
