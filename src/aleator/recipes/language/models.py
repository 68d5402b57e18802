"""Small language models over bytes or tokens: a LLaMA-style transformer, and two others beside it.

The others are gated recurrent units and, over bytes alone, the layers of the models that learn segments, without their
segments (`aleator.language.ByteLM`): the comparison shows what such a model gains or loses by shortening. All map ids
[batch, length] to scores of the next one [batch, length, vocabulary] and have untied input and output
embeddings. There is no dropout.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from aleator.language import ByteLM
from aleator.language.bytes_vocabulary import BYTE_IDS, FIRST_BYTE

BYTES = 256
MODELS = ("transformer", "gru", "byte-lm")


def language_model(
    name: str, *, width: int, layers: int, heads: int, context: int, vocabulary: int = BYTES
) -> nn.Module:
    """Return an untrained model.

    Args:
        name: one of `MODELS`.
        width: size of a position's representation.
        layers: number of blocks or recurrent layers.
        heads: attention heads; recurrent units have none.
        context: longest sequence.
        vocabulary: number of ids; the bytes.

    Raises:
        ImportError: if the transformer is asked for and ``transformers`` is not installed.
        ValueError: if the name is not one of `MODELS`, or the model is of bytes alone and the vocabulary is not.
    """
    if name == "transformer":
        return Transformer(width, layers, heads, context, vocabulary)
    if name == "gru":
        return RecurrentUnits(width, layers, vocabulary)
    if name == "byte-lm":
        if vocabulary != BYTES:
            raise ValueError(f"model must be transformer or gru with a vocabulary of {vocabulary}, got byte-lm")
        return HourglassLayers(width, layers, heads)
    raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")


class Transformer(nn.Module):
    """A decoder with rotary positions, RMSNorm, SwiGLU of 8/3 of the width, and no biases."""

    def __init__(self, width: int, layers: int, heads: int, context: int, vocabulary: int) -> None:
        super().__init__()
        try:
            from transformers import LlamaConfig, LlamaForCausalLM
        except ImportError:
            raise ImportError("model transformer needs the extra 'text': pip install 'aleator[text]'") from None
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=8 * round(width / 3),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=False,
            use_cache=False,
            # There are no special tokens; the defaults would zero one of them.
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.decoder = LlamaForCausalLM(config)

    def forward(self, text: Int64[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Return the scores of the id after each position, from those up to it."""
        return self.decoder(text).logits  # type: ignore[no-any-return]


class RecurrentUnits(nn.Module):
    """An embedding, layers of gated recurrent units, and a linear layer. Every window begins in the zero state."""

    def __init__(self, width: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.units = nn.GRU(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, text: Int64[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Return the scores of the id after each position, from those up to it."""
        states, _ = self.units(self.embedding(text))
        return self.head(states)  # type: ignore[no-any-return]


class HourglassLayers(nn.Module):
    """`aleator.language.ByteLM`, given and asked for bytes without its special ids."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        sizes = {"d_model": width, "n_heads": heads, "d_head": width // heads, "d_inner": 4 * width}
        self.decoder = ByteLM(BYTE_IDS, depth=layers, **sizes, dropout=0.0)

    def forward(self, text: Int64[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Return the scores of the id after each position, from those up to it."""
        return self.decoder(text + FIRST_BYTE)[..., FIRST_BYTE : FIRST_BYTE + BYTES]  # type: ignore[no-any-return]


@torch.no_grad()
def weight_norms(model: nn.Module) -> tuple[float, float]:
    """Return the Frobenius norm of all weights together, and the largest 2-norm of a weight matrix.

    The 2-norm comes from the smaller Gram matrix, in float64: exact, and much cheaper than singular values. All
    processes of a sharded model have to call this together.
    """
    squares, largest = 0.0, 0.0
    for parameter in model.parameters():
        weight = (parameter.full_tensor() if isinstance(parameter, DTensor) else parameter).double()
        squares += float(weight.square().sum())
        if weight.ndim >= 2:
            matrix = weight.flatten(1)
            gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
            largest = max(largest, float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt()))
    return squares**0.5, largest
