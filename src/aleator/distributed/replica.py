"""One machine's copy of the weights: it applies agreed sets, and nothing else ever changes it.

The update of a round with n gradients, in the order of machines and then of samples, is

    θ ← θ − lr / √n · Σ g_ms · z(run, round, machine, sample),

computed by `aleator.gradients` so that every device gets the same bits. `fingerprint` is the SHA-256 of *all* weights,
their names, shapes and types included; nothing is rounded or left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aleator.distributed.codes import applied_gradients
from aleator.distributed.manifest import Manifest
from aleator.distributed.messages import Commit
from aleator.gradients import scalar_coefficients, subtract_directions_

_UNKNOWN = (0, -1)  # the version of a tensor while it is changed


def fingerprint(parameters: Mapping[str, Tensor]) -> bytes:
    """Return the SHA-256 of tensors by name: of every name, type, shape and number."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        tensor = parameters[name].detach()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        content: Any = tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
        digest.update(content)
    return digest.digest()


def parameters_of(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is trained of a model, by name, a tied tensor once; a mapping is returned as a dict.

    Raises:
        ValueError: if there is nothing to train, or a tensor is neither float32 nor float64.
    """
    if isinstance(model, nn.Module):
        found = {name: tensor.detach() for name, tensor in model.named_parameters() if tensor.requires_grad}
    else:
        found = dict(model)
    if not found:
        raise ValueError("the model has no parameters that require a gradient")
    for name, tensor in found.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"parameters must be float32 or float64 (keep a master copy of others), got {tensor.dtype} in {name}"
            )
    return found


class Replica:
    """The weights of a swarm on one machine.

    Args:
        parameters: the weights before ``round``, by name; they are changed in place.
        manifest: of the swarm.
        round: the round that is applied next.
    """

    def __init__(self, parameters: MutableMapping[str, Tensor], manifest: Manifest, round: int = 0) -> None:
        self.parameters = dict(parameters)
        self.manifest = manifest
        self.round = round
        self._versions = self._seen()

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the weights as they are; see `fingerprint`."""
        return fingerprint(self.parameters)

    def check_untouched(self) -> None:
        """Refuse to go on when somebody else has changed the weights since the last round.

        Raises:
            ValueError: naming the tensor.
        """
        for name, version in self._seen().items():
            if version != self._versions[name]:
                raise ValueError(f"parameters must stay as they are between rounds, {name} was changed")

    def apply(self, commit: Commit) -> None:
        """Apply a round.

        Raises:
            ValueError: if it is not the next round, or somebody else changed the weights.
        """
        self.apply_all([commit])

    def apply_all(self, commits: Sequence[Commit]) -> None:
        """Apply successive rounds in one pass over the weights, with the bits of one after the other."""
        self.check_untouched()
        keys, coefficients, decays = [], [], []
        for number, commit in enumerate(commits, self.round):
            if commit.round != number:
                raise ValueError(f"gap in the log: round {commit.round} cannot follow round {number - 1}")
            gradients = applied_gradients(commit, self.manifest)
            keys += [
                (self.manifest.run, commit.round, contribution.machine, sample)
                for contribution, found in zip(commit.contributions, gradients, strict=True)
                for sample in range(len(found))
            ]
            of_round = scalar_coefficients(np.concatenate(gradients).tolist(), commit.lr, self.manifest.norm)
            coefficients.append(of_round)
            decays += [commit.lr * self.manifest.weight_decay, *[0.0] * (len(of_round) - 1)]
        kind = self.manifest.directions
        self._versions = dict.fromkeys(self._versions, _UNKNOWN)  # in case this is interrupted
        subtract_directions_(
            self.parameters,
            np.concatenate(coefficients),
            keys,
            kind,
            decays=decays if self.manifest.weight_decay else None,
        )
        self.round += len(commits)
        self._versions = self._seen()

    def reset(self, parameters: Mapping[str, Tensor], round: int) -> None:
        """Put other weights in place, those before ``round``."""
        self._versions = dict.fromkeys(self._versions, _UNKNOWN)
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(parameters[name])
        self.round = round
        self._versions = self._seen()

    def _seen(self) -> dict[str, tuple[int, int]]:
        return {name: (tensor.data_ptr(), tensor._version) for name, tensor in self.parameters.items()}
