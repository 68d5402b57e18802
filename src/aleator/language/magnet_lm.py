"""A byte-level hourglass whose middle works on learned segments, with a boundary predictor for each script.

    h = pre(embed(bytes));    b = predictor of the row's script(h);    [null, g_0, g_1, …] = segment means of h
    logits = linear(post(h + spread(short(LN([null, g_0, …])))))
    loss = mean −log p(next byte) + mean over predictors of −log Binomial(k; n, α)/n

The layers in the middle cost as much as there are segments. Each script has a target rate α of its own, so that all
scripts can have about as many segments for the same content. Position t predicts byte t + 1 from segments closed at or
before t: the model is causal. Rows of all scripts share a batch, and everything is returned in the order of the input.

O. Ahia et al., "MAGNET: Improving the Multilingual Fairness of Language Models with Adaptive Gradient-Based
Tokenization", NeurIPS 2024, arXiv 2407.08818; with one predictor: P. Nawrot et al., "Efficient Transformers with
Dynamic Token Pooling", ACL 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from aleator.language.bytes_vocabulary import ends_character
from aleator.language.hourglass import Stack, initialise
from aleator.language.hourglass_decoder import HourglassDecoder
from aleator.language.hourglass_loss import BoundaryLoss, LossParts, MagnetOutput, hourglass_loss, on_device
from aleator.language.language_model import LanguageModel, Measure, check_batch, check_sizes, next_byte_nats
from aleator.language.routing import Routing, Scripts
from aleator.nn import (
    BoundaryPredictor,
    EvalBoundaries,
    segment_broadcast,
    segment_mean,
    within_capacity,
)
from aleator.nn.segments import most_segments


class MagnetLM(LanguageModel):
    """The adaptive hourglass.

    Rows are labelled with the name of their script, or of their language where ``languages`` gives its script.

    Under DistributedDataParallel call the wrapped model for its output, and `loss_from` with that. A predictor whose
    script is not in the batch gets a gradient of zero, so no unused parameters have to be looked for.

    Args:
        vocab: number of ids, at least 259; ids of scripts are neither read nor predicted.
        layers: numbers of layers before, within and after the shortened part.
        d_model: channels.
        n_heads: attention heads.
        d_head: channels of a head.
        d_inner: width of the feed-forward networks and of the predictors.
        dropout: probability.
        temperature: τ of the boundaries' relaxation.
        scripts: α in (0, 1) of each script; a language may have its own, which then counts for it.
        languages: the script of each language.
        routing: who shares a predictor: ``"script"``, the languages of a script; ``"language"``, none; ``"shared"``,
            all.
        boundary_loss: ``"binomial"``, or ``"hinge"`` between α − 3√(α(1 − α)/n) and α.
        utf8_safe: whether segments end only where a character does.
        eval_boundaries: what happens in evaluation, see `aleator.nn.BoundaryPredictor`.
        capacity: segments as a share of the length, in (0, 1]. It makes shapes independent of what was drawn, and no
            step waits for the device. A boundary is ignored where that share of the positions up to there is closed
            already, see `aleator.nn.within_capacity`; for 1 none is. By default there are as many slots as the batch
            needs.

    Raises:
        ValueError: if an argument is out of its range, or a language has a script without α.
    """

    def __init__(
        self,
        vocab: int = 262,
        *,
        scripts: Mapping[str, float],
        layers: tuple[int, int, int] | list[int] = (2, 12, 2),
        d_model: int = 768,
        n_heads: int = 12,
        d_head: int = 64,
        d_inner: int = 3072,
        dropout: float = 0.1,
        temperature: float = 0.5,
        languages: Mapping[str, str] | None = None,
        routing: Routing = "script",
        boundary_loss: BoundaryLoss = "binomial",
        utf8_safe: bool = False,
        eval_boundaries: EvalBoundaries = "sample",
        capacity: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(vocab, d_model)
        if boundary_loss not in ("binomial", "hinge"):
            raise ValueError(f'boundary_loss must be "binomial" or "hinge", got {boundary_loss!r}')
        if capacity is not None and not 0 < capacity <= 1:
            raise ValueError(f"capacity must be in (0, 1], got {capacity}")
        self.scripts = Scripts(scripts, languages or {}, routing)
        self.boundary_loss = boundary_loss
        self.utf8_safe = utf8_safe
        self.capacity = capacity
        layer = {"d_model": d_model, "n_heads": n_heads, "d_head": d_head, "d_inner": d_inner}
        self.config = {
            "vocab": vocab,
            "layers": list(layers),
            **layer,
            "dropout": dropout,
            "temperature": temperature,
            "scripts": dict(scripts),
            "languages": dict(languages or {}),
            "routing": routing,
            "boundary_loss": boundary_loss,
            "utf8_safe": utf8_safe,
            "eval_boundaries": eval_boundaries,
            "capacity": capacity,
        }
        self.embedding = nn.Embedding(vocab, d_model)
        self.drop = nn.Dropout(dropout)
        self.pre, self.short, self.post = (Stack(n, **layer, dropout=dropout) for n in layers)
        self.u = nn.Parameter(torch.empty(n_heads, d_head))
        self.v = nn.Parameter(torch.empty(n_heads, d_head))
        self.null = nn.Parameter(torch.empty(d_model))
        self.down_norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab)
        self.predictors = nn.ModuleDict(
            {
                key: BoundaryPredictor(
                    d_model, d_inner, temperature=temperature, init_rate=rate, eval_boundaries=eval_boundaries
                )
                for key, rate in self.scripts.initial_rates().items()
            }
        )
        self._initialise()

    def forward(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Sequence[str],
        mask: Bool[Tensor, "rows length"] | None = None,
        noise: Float[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> MagnetOutput:
        """Return logits and boundaries in the order of the input.

        Args:
            ids: of bytes, without ids of scripts.
            scripts: the name of each row's script or language.
            mask: False at padding, which is on the right.
            noise: uniform numbers u for the boundaries; by default drawn, one for each position.
            generator: what they are drawn from, torch's global generator by default.

        Raises:
            ValueError: if the batch is empty, a shape does not fit, or a script is unknown; in training if a
                predictor was given `BernoulliReinforce`, which would not learn here.
            TypeError: if ids or mask have another type.
        """
        check_batch(ids, mask)
        if noise is not None and noise.shape != ids.shape:
            raise ValueError(f"noise must have the shape of ids, {tuple(ids.shape)}, got {tuple(noise.shape)}")
        routes = self.scripts.rows_by_predictor(scripts, len(ids))
        hidden = self.read(ids)
        if noise is None and self._samples():
            # For the whole batch at once: what a row gets does not depend on the scripts of the others.
            precision = torch.promote_types(hidden.dtype, torch.float32)
            noise = torch.rand(ids.shape, generator=generator, dtype=precision, device=ids.device)
        allowed = self._allowed(ids, mask)
        found, order = [], []
        for key, rows in routes.items():
            at = None if len(routes) == 1 else on_device(ids.device, rows)
            inputs = [_rows(tensor, at) for tensor in (hidden, noise, allowed)]
            found.append(self.predictor(key)(inputs[0], noise=inputs[1], allowed=inputs[2]))
            order += rows
        if any(part.score is not None for part in found):
            raise ValueError("estimators of predictors must send a gradient through the boundaries, got one by scores")
        soft = torch.cat([part.soft for part in found])
        boundaries = torch.cat([part.boundaries for part in found])
        if len(routes) > 1:
            back = on_device(ids.device, _inverse(order))
            soft, boundaries = soft.index_select(0, back), boundaries.index_select(0, back)
        null: Tensor = self.null
        if self.training:
            for key in self.predictors.keys() - routes.keys():
                null = null + 0 * sum(parameter.sum() for parameter in self.predictor(key).parameters())
        closing = self._closing(boundaries)
        pooled = segment_mean(hidden, closing, null, num_segments=self._slots(closing))
        shortened = self.short(self.down_norm(pooled), self.u, self.v)
        logits = self.write(hidden + segment_broadcast(shortened, closing))
        return MagnetOutput(logits, boundaries, soft)

    def read(self, ids: Tensor, cache: Any = None) -> Float[Tensor, "rows length d_model"]:
        """Return the hidden states before the shortening."""
        return self.pre(self.drop(self.embedding(ids)), self.u, self.v, cache)  # type: ignore[no-any-return]

    def write(self, hidden: Tensor, cache: Any = None) -> Float[Tensor, "rows length vocab"]:
        """Return the logits of the hidden states after the shortening."""
        return self.output(self.post(hidden, self.u, self.v, cache))  # type: ignore[no-any-return]

    def loss(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Sequence[str],
        mask: Bool[Tensor, "rows length"] | None = None,
        noise: Float[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
        boundary_weight: float = 1.0,
    ) -> tuple[Float[Tensor, ""], LossParts]:
        """Return the loss of a batch and what it is made of; arguments and errors as for `forward`."""
        output = self(ids, scripts, mask, noise, generator)
        return self.loss_from(output, ids, scripts, mask, boundary_weight)

    def loss_from(
        self,
        output: MagnetOutput,
        ids: Int64[Tensor, "rows length"],
        scripts: Sequence[str],
        mask: Bool[Tensor, "rows length"] | None = None,
        boundary_weight: float = 1.0,
    ) -> tuple[Float[Tensor, ""], LossParts]:
        """Return the loss of an output and what it is made of.

        Args:
            output: of `forward`, for the same ids, scripts and mask.
            ids: what was read.
            scripts: the name of each row's script or language.
            mask: False at padding.
            boundary_weight: factor of the boundary loss, for example one that grows in the beginning.
        """
        return hourglass_loss(output, ids, scripts, mask, self.scripts, self.boundary_loss, boundary_weight)

    @torch.no_grad()
    def measure(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Sequence[str],
        mask: Bool[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Measure:
        """Return segments and code length of every row.

        Where boundaries are sampled, the segments are the expected number of boundaries, the sum of the probabilities.
        """
        output = self(ids, scripts, mask, generator=generator)
        nats, predicted = next_byte_nats(output.logits, ids, mask)
        segments = output.soft if self._samples() else self._closing(output.boundaries)
        return Measure(segments.sum(1), nats, predicted)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Any, ...]]) -> None:
        """Find the thresholds of ``eval_boundaries="rate"``.

        With them every predictor gives, on these texts, as many boundaries as the α of their scripts ask for.

        Args:
            batches: (ids, scripts) or (ids, scripts, mask). Predictors of scripts that do not occur keep theirs.
        """
        logits: dict[str, list[Tensor]] = {}
        wanted: dict[str, float] = {}
        was_training = self.training
        self.eval()
        for ids, scripts, *rest in batches:
            mask = rest[0] if rest else None
            check_batch(ids, mask)
            hidden, allowed = self.read(ids), self._allowed(ids, mask)
            for key, rows in self.scripts.rows_by_predictor(scripts, len(ids)).items():
                z = self.predictor(key).logits(hidden[rows])
                if allowed is not None:
                    z = z.masked_fill(~allowed[rows], -math.inf)
                for row, values in zip(rows, z, strict=True):
                    kept = values if mask is None else values[mask[row]]
                    logits.setdefault(key, []).append(kept)
                    wanted[key] = wanted.get(key, 0.0) + self.scripts.rates[scripts[row]] * len(kept)
        for key, parts in logits.items():
            together = torch.cat(parts)
            self.predictor(key).calibrate(together, wanted[key] / len(together))
        self.train(was_training)

    def decoder(
        self, script: str, *, generator: torch.Generator | None = None, noise: Float[Tensor, " length"] | None = None
    ) -> HourglassDecoder:
        """Return what reads a text id by id; the layers in the middle run only where a segment ends.

        Args:
            script: of the text.
            generator: what the noise is drawn from.
            noise: uniform numbers to use instead, one for each id.

        Raises:
            ValueError: if the script is unknown.
        """
        (key,) = self.scripts.rows_by_predictor([script], 1)
        return HourglassDecoder(self, self.predictor(key), generator=generator, noise=noise)

    def predictor(self, key: str) -> BoundaryPredictor:
        """Return a predictor: of a script, of a language, or ``"shared"``, as the routing says."""
        return cast(BoundaryPredictor, self.predictors[key])

    def _initialise(self) -> None:
        initialise(self)
        nn.init.normal_(self.null)
        for bias in (self.u, self.v):
            nn.init.normal_(bias, std=0.02)
        for key in self.predictors:
            self.predictor(key).reset_output_bias()

    def _allowed(self, ids: Tensor, mask: Tensor | None) -> Tensor | None:
        if not self.utf8_safe:
            return mask
        ends = ends_character(ids)
        return ends if mask is None else ends & mask

    def _samples(self) -> bool:
        return self.training or self.config["eval_boundaries"] == "sample"

    def _closing(self, boundaries: Tensor) -> Tensor:
        """Return the boundaries that close a segment: those within the capacity."""
        return boundaries if self.capacity in (None, 1) else within_capacity(boundaries, self.capacity)

    def _slots(self, closing: Tensor) -> int:
        if self.capacity is not None:
            return most_segments(self.capacity, closing.shape[1])
        return int(closing.detach().sum(1).max())


class DynamicPoolingLM(MagnetLM):
    """One predictor and one α for all scripts: Dynamic Token Pooling.

    Args:
        vocab: number of ids.
        rate: α.
        names: the scripts that rows may be labelled with.
        **options: the other arguments of `MagnetLM`.
    """

    def __init__(self, vocab: int = 262, *, rate: float, names: Sequence[str], **options: Any) -> None:
        super().__init__(vocab, scripts=dict.fromkeys(names, rate), routing="shared", **options)
        without = ("scripts", "languages", "routing")
        kept = {key: value for key, value in self.config.items() if key not in without}
        self.config = {**kept, "rate": rate, "names": list(names)}


def _rows(tensor: Tensor | None, at: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or at is None else tensor.index_select(0, at)


def _inverse(order: list[int]) -> list[int]:
    inverse = [0] * len(order)
    for position, row in enumerate(order):
        inverse[row] = position
    return inverse
