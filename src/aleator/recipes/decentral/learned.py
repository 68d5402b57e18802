"""What a swarm learns, as options, without torch; `aleator.recipes.decentral.tasks` holds what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TaskOptions:
    """What is learned, and from which examples."""

    learned: Literal["digits", "sst2"] = "digits"
    """Transposed digits, or the sentiment of film reviews by a causal language model (data: sst2 in ALEATOR_DATA)."""
    batch_size: int = 64
    """Examples of a gradient."""
    shards: int | None = None
    """Cut the training examples into as many private parts; machine m sees part m mod shards. Default: all see all."""
    checkpoint: str | None = None
    """Folder of a causal language model of transformers, for sst2; by default a small one is trained at the start."""
    lora: int | None = None
    """Rank of adapters (LoRA), which are then all that is trained, for sst2; by default all weights are."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("batch_size", "shards", "lora"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.learned == "digits":
            for name in ("checkpoint", "lora"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} cannot be used with learned digits, got {getattr(self, name)}")
