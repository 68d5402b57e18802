"""Embeddings of prompts in a file, so that no text encoder is in memory while a policy is aligned.

    cache_text(prompts, encode, "text.safetensors")      once, with the text encoder
    texts = TextCache("text.safetensors")                then without it
    cond = texts.condition(["a cat", "a cat", "a dog"])

Prompts are encoded one at a time, so an embedding does not depend on what else was in its batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def cache_text(prompts: Iterable[str], encode: Callable[[str], Mapping[str, Tensor]], path: Path | str) -> None:
    """Encode each prompt once and write all embeddings to a file.

    Args:
        prompts: repeated ones are encoded once.
        encode: from a prompt to tensors without a batch dimension, by the names of the transformer's arguments.
        path: of the file, a ``.safetensors``.

    Raises:
        ValueError: if there is no prompt, or embeddings of two prompts differ in names or shapes, which then could not
            be in one batch: pad them, and give the mask.
    """
    order = list(dict.fromkeys(prompts))
    if not order:
        raise ValueError("prompts must hold at least one, got none")
    kept: dict[str, Tensor] = {}
    shapes: dict[str, torch.Size] | None = None
    for number, prompt in enumerate(order):
        with torch.no_grad():
            found = {name: tensor.detach().cpu().contiguous() for name, tensor in encode(prompt).items()}
        own = {name: tensor.shape for name, tensor in found.items()}
        shapes = shapes or own
        if own != shapes:
            raise ValueError(f"embeddings of prompts must have one shape, got {own} for {prompt!r} beside {shapes}")
        kept.update({f"{number}.{name}": tensor.clone() for name, tensor in found.items()})
    save_file(kept, path, metadata={"prompts": json.dumps(order)})


class TextCache:
    """Embeddings that `cache_text` wrote.

    Args:
        path: of the file.
        device: where conditions are.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        self._path = Path(path)
        with safe_open(self._path, "pt", device=str(device)) as file:
            self.prompts: tuple[str, ...] = tuple(json.loads((file.metadata() or {}).get("prompts", "[]")))
            self._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._numbers = {prompt: number for number, prompt in enumerate(self.prompts)}

    def condition(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Return the batched embeddings of prompts, in their order.

        Raises:
            ValueError: if one of them is not in the file.
        """
        for prompt in prompts:
            if prompt not in self._numbers:
                raise ValueError(f"prompt must be one of the {len(self.prompts)} in {self._path}, got {prompt!r}")
        names = [name.partition(".")[2] for name in self._tensors if name.startswith("0.")]
        rows = [self._numbers[prompt] for prompt in prompts]
        return {name: torch.stack([self._tensors[f"{row}.{name}"] for row in rows]) for name in names}
