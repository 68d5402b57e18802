"""Clips of somebody who is known from one photograph, trained with the photograph never, always, or at random.

This file holds the options, `aleator.recipes.identity.sources` the data, `aleator.recipes.identity.networks` the
networks, `aleator.recipes.identity.task` the task. Moving digits are what claims are made about; faces are exhibits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Precision, Task
from aleator.later import named
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

Arm = Literal["two-stage", "always-on", "high-level", "text"]


@dataclass(frozen=True)
class Identity:
    """Generate clips of somebody from a photograph and a text, and measure how much of the photograph is copied."""

    # --- data
    data: Literal["moving-digits", "grid-faces", "olivetti"] = "moving-digits"
    """Handwritten digits that move, held-out digits for the test; or, as exhibits, clips of ten people who speak, or
    two of ten pictures of 40 people."""
    test_clips: int = 128
    """Clips of each kind in the test; a quarter of them are for validation."""

    # --- what the photograph is used for
    arm: Arm = "two-stage"
    """Its shallow features at random in a second stage; always; never, only identity and vision tokens; or not even
    these, only the text."""
    p: float | None = None
    """Of arm two-stage: the probability of a sample's shallow features in the second stage. Default: 0.5."""
    first_stage: float | None = None
    """Of arm two-stage: the share of the steps without shallow features. Default: 0.5."""

    # --- sampling
    guidance: Literal["constant", "progress", "released"] = "constant"
    """The guidance scale over the sampler's steps."""
    scale: float = 2.0
    """Of guidance over text and identity; constant at 1 needs one forward pass."""
    sampling_steps: int = 20
    """Of the sampler."""

    # --- training
    steps: int = 700
    """Optimizer steps."""
    batch_size: int = 64
    """Clips in a step, over all processes."""
    lr: float = 0.002
    """Learning rate of AdamW, which falls to 0 along half a cosine."""
    drop: float = 0.1
    """Probability that a clip is trained without text, vision and identity, for guidance."""
    width: int = 64
    """Of the transformer, a multiple of 4."""
    depth: int = 3
    """Blocks of the transformer."""
    precision: Precision = "float32"
    """Arithmetic; bfloat16 and float16 are mixed precision."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name, least in (("test_clips", 8), ("sampling_steps", 1), ("steps", 1), ("batch_size", 1), ("depth", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.width < 8 or self.width % 4:
            raise ValueError(f"width must be a multiple of 4 and at least 8, got {self.width}")
        positive(self, "lr")
        not_negative(self, "scale")
        for name in ("p", "first_stage"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must be in [0, 1), got {self.drop}")
        if self.sampling_steps > 1000:
            raise ValueError(f"sampling_steps must be at most 1000, got {self.sampling_steps}")
        refuse_unless(self.arm == "two-stage", f"arm {self.arm}", self, "p", "first_stage")
        refuse_unless(self.first_stage != 1, "first_stage 1, after which nothing comes", self, "p")

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        build = named("aleator.recipes.identity.task:IdentityTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
