"""The common base of this room's language models.

    loss = mean of −log p(byte t + 1 | bytes ≤ t);    bits per byte = loss / ln 2

A model says what a text costs it (`LanguageModel.measure`), continues a text byte by byte (`LanguageModel.generate`),
and is saved as a folder with its arguments in JSON and its weights in safetensors: nothing in it can run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aleator.language.bytes_vocabulary import BYTE_IDS, END, BytesVocabulary

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Measure(NamedTuple):
    """What a batch of text costs.

    Attributes:
        segments: of each row, the positions of the longest stack of layers that it takes.
        nats: −log p of each row, summed over the predicted bytes.
        predicted: bytes of each row that were predicted: all but the first.
    """

    segments: Float[Tensor, " rows"]
    nats: Float[Tensor, " rows"]
    predicted: Float[Tensor, " rows"]


@runtime_checkable
class Decoder(Protocol):
    """Reads a text id by id."""

    def step(self, number: int) -> Tensor:
        """Read one more id and return the logits of the next, shape (vocab,)."""


class LanguageModel(nn.Module):
    """What the models of the room have in common. ``config`` holds the arguments that make the model again."""

    kinds: ClassVar[dict[str, type[LanguageModel]]] = {}
    config: dict[str, Any]

    def __init_subclass__(cls, *, saved: bool = True) -> None:
        if saved:
            LanguageModel.kinds[cls.__name__] = cls

    def save(self, folder: str | Path) -> None:
        """Write the configuration as JSON and the weights as safetensors into a folder, which is made if needed."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)
        description = {"model": type(self).__name__, **self.config}
        (folder / CONFIG).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def measure(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Any,
        mask: Bool[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Measure:
        """Return the segments and the code length of every row."""
        raise NotImplementedError

    def decoder(self, script: str, *, generator: torch.Generator | None = None) -> Decoder:
        """Return what reads a text id by id and keeps all that the next step needs."""
        raise NotImplementedError

    @torch.no_grad()
    def generate(
        self,
        prompt: str,
        *,
        script: str,
        length: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> str:
        """Return the prompt and what follows it, up to the end's id or a number of bytes. Dropout is off meanwhile.

        Args:
            prompt: at least one character.
            script: what the text is written in.
            length: the most bytes to add.
            temperature: logits are divided by it; 0 always takes the most probable byte.
            generator: on the model's device; for bytes and, where boundaries are sampled, for those too.

        Raises:
            ValueError: if the prompt is empty, ``length`` or the temperature is negative, the script unknown, or a
                logit not finite.
        """
        vocabulary = BytesVocabulary()
        ids = vocabulary.encode(prompt)
        if not ids:
            raise ValueError("prompt must have at least one character, got none")
        if length < 0:
            raise ValueError(f"length must not be negative, got {length}")
        if not temperature >= 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        was_training = self.training
        self.eval()
        try:
            decoder = self.decoder(script, generator=generator)
            for number in ids[:-1]:
                decoder.step(number)
            for _ in range(length):
                logits = decoder.step(ids[-1])[:BYTE_IDS]  # ids of scripts are never learnt
                if not bool(logits.isfinite().all()):
                    raise ValueError("the model's logits must be finite, got others: its weights may not be numbers")
                if temperature == 0:
                    number = int(logits.argmax())
                else:
                    odds = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).softmax(-1)
                    number = int(torch.multinomial(odds, 1, generator=generator))
                if number == END:
                    break
                ids.append(number)
        finally:
            self.train(was_training)
        return vocabulary.decode(ids)


def load_model(folder: str | Path) -> LanguageModel:
    """Return the model that ``save`` wrote, in evaluation mode and in the precision that it was saved in.

    Raises:
        FileNotFoundError: if the folder has no such files.
        ValueError: if the configuration describes no model of this room.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model: there is no {CONFIG}")
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8")))
        kind = LanguageModel.kinds[config.pop("model")]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not the configuration of a model: {error!r}") from None
    # The numbers drawn here are overwritten; a caller that asked for a saved model has no use for them in the global
    # stream.
    with torch.random.fork_rng(devices=[]):
        model = kind(**config)
    model.load_state_dict(load_file(Path(folder) / WEIGHTS), assign=True)
    return model.eval()


def check_batch(ids: Tensor, mask: Tensor | None) -> None:
    """Check what every model is given; padding is on the right.

    Raises:
        ValueError: if the batch is empty or the mask has another shape.
        TypeError: if ids are no integers or the mask is not boolean.
    """
    if ids.dtype != torch.int64:
        raise TypeError(f"ids must be int64, got {ids.dtype}")
    if ids.ndim != 2 or not ids.numel():
        raise ValueError(f"ids must be a batch of at least one row and one id, got shape {tuple(ids.shape)}")
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"mask must have the shape of ids, {tuple(ids.shape)}, got {tuple(mask.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}")


def next_byte_nats(
    logits: Float[Tensor, "rows length vocab"],
    ids: Int64[Tensor, "rows length"],
    mask: Bool[Tensor, "rows length"] | None = None,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return −log p summed over the predicted ids of each row, and how many they are.

    Args:
        logits: at position t for id t + 1; the last position predicts nothing.
        ids: the ids that were read.
        mask: False where an id is padding and not predicted.
    """
    full = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = nn.functional.cross_entropy(full[:, :-1].mT, ids[:, 1:], reduction="none")
    counted = torch.ones_like(ids[:, 1:], dtype=torch.bool) if mask is None else mask[:, 1:]
    return (nats * counted).sum(1), counted.sum(1).to(nats.dtype)


def check_sizes(vocab: int, d_model: int) -> None:
    """Raise ValueError unless all bytes have ids and channels come in pairs."""
    if vocab < BYTE_IDS:
        raise ValueError(f"vocab must be at least {BYTE_IDS}, the special ids and the bytes, got {vocab}")
    if d_model % 2:
        raise ValueError(f"d_model must be even, got {d_model}")
