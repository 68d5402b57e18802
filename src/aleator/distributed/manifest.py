"""What the machines of a swarm must have in common before they compute together.

Replicas stay equal because everybody starts from the same weights θ₀ and applies the same numbers in the same way. The
manifest names all that decides this; the first machine publishes it, everyone else compares it with its own. It is
JSON, at the head of every log, and read with every field checked.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from aleator.gradients.codes import Codec
from aleator.gradients.spsa import Norm
from aleator.random import Kind

Robust = Literal["none", "median"]

WIRE_FORMAT = 1
"""The version of what travels and of the file of a log."""

WIDTHS = {"log8": 1, "log9": 2, "float32": 4}
"""Bytes of one gradient, by codec."""

# What a field is called when two manifests differ in it.
_WORDS = {
    "run": "the swarm's seed",
    "theta0": "the hash of θ₀",
    "names": "the tensors that are trained",
    "code": "the code version",
    "wire": "the wire format",
}


@dataclass(frozen=True)
class Manifest:
    """What decides the weights of a swarm, besides the gradients.

    Attributes:
        run: the key that directions are drawn by, a 64-bit integer.
        theta0: the `fingerprint` of the weights before round 0.
        names: of the tensors that are trained.
        codec: ``"log8"``, ``"log9"`` or ``"float32"``.
        directions: ``"rademacher"``, ``"popcount"`` or ``"gaussian"``.
        norm: what the sum over n gradients is divided by: ``"sqrt"`` (√n) or ``"mean"`` (n).
        lr: the learning rate.
        weight_decay: decoupled, once in a round.
        samples: the most gradients that a machine may give in a round.
        robust: ``"median"`` bounds every gradient by the median over machines, ``"none"`` by the codec's range alone.
        hash_every: machines compare all weights before every round that this divides.
        signed: whether contributions carry a signature.
        code: the version of the library; others need not compute the same bits.
        wire: the version of what travels.
    """

    run: int
    theta0: str
    names: tuple[str, ...]
    codec: Codec
    directions: Kind
    norm: Norm
    lr: float
    weight_decay: float
    samples: int
    robust: Robust
    hash_every: int
    signed: bool
    code: str
    wire: int = WIRE_FORMAT

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the field, the value got and the values accepted.
        """
        for name, accepted in _CHOICES.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {getattr(self, name)!r}")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if type(value) is not kind:
                raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
        if not self.names or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"names must be those of one tensor at least, got {self.names!r}")
        for name, least in {"run": 0, "samples": 1, "hash_every": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.run >= 1 << 64:
            raise ValueError(f"run must be below 2**64, got {self.run}")
        if self.samples * WIDTHS[self.codec] >= 1 << 16:
            raise ValueError(
                f"samples must be below {(1 << 16) // WIDTHS[self.codec]} with {self.codec}, got {self.samples}"
            )
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and not negative, got {self.weight_decay}")

    def to_bytes(self) -> bytes:
        """Return it as JSON, the same bytes for the same content."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=True, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read what `to_bytes` returned.

        Raises:
            ValueError: if it is anything else, naming what is wrong.
        """
        try:
            found: Any = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"the manifest of a swarm must be JSON, got {content[:40]!r}")
        names = {field.name for field in fields(cls)}
        if missing := names - found.keys():
            raise ValueError(f"the manifest of the swarm has no {', '.join(sorted(missing))}")
        if found["wire"] != WIRE_FORMAT:
            raise ValueError(f"the swarm has wire format {found['wire']!r}, this library reads {WIRE_FORMAT}")
        if not isinstance(found["names"], list):
            raise ValueError(f"names must be a list, got {found['names']!r}")
        return cls(**{**{name: found[name] for name in names}, "names": tuple(found["names"])})

    def check_against(self, swarm: Manifest) -> None:
        """Refuse to join a swarm that has another manifest than this machine.

        Raises:
            ValueError: naming the first difference, what the swarm has and what this machine has.
        """
        # The code first: it explains every other difference.
        for name in ("wire", "code", *(field.name for field in fields(self))):
            theirs, ours = getattr(swarm, name), getattr(self, name)
            if theirs != ours:
                raise ValueError(
                    f"{_WORDS.get(name, name)} must be {_short(theirs)} as in the swarm, got {_short(ours)}"
                )


_CHOICES = {
    "codec": get_args(Codec),
    "directions": get_args(Kind),
    "norm": get_args(Norm),
    "robust": get_args(Robust),
}
_KINDS = {
    "run": int,
    "theta0": str,
    "lr": float,
    "weight_decay": float,
    "samples": int,
    "hash_every": int,
    "signed": bool,
    "code": str,
    "wire": int,
}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:16]}…"
