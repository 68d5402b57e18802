"""The task behind the recipe ``language``: bytes in memory, a model of the next byte, cross entropy.

    bits per byte = −(1/N) Σ_i log₂ p(byte_i | the bytes before it in its window)

Streams: ``init`` for the weights, ``data`` for the windows. Runs of one seed share them, so variants differ only in
what they change. Held-out bytes are cut into windows of ``context`` that do not overlap, the same for every seed; the
first bytes of a window are predicted from little, so a longer context has better figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aleator.data import TextCorpus, load, read_texts
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state
from aleator.random import Streams
from aleator.recipes.language_models import language_model, weight_norms
from aleator.recipes.training import make_optimizer, make_schedule, placed
from aleator.recipes.windows import ProportionalWindows

if TYPE_CHECKING:
    from aleator.recipes.language import Language

# Bytes that an evaluation passes through the model at once, on each process.
EVALUATION_BYTES = 2**15


class HeldOut(NamedTuple):
    """Windows of held-out bytes, one byte longer than the context, and the index of each one's domain."""

    windows: UInt8[Tensor, "n length"]
    domains: Int64[Tensor, " n"]


class LanguageTask:
    """A language model in training; see `aleator.experiment.Task`."""

    headline = Headline("bits_per_byte", "min")

    def __init__(self, options: Language, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.accelerator = accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.budget = Budget(options.steps, "steps")

        # Bytes: all training domains in one row, each beginning where the one before it ends.
        corpus = _corpus(options)
        device = accelerator.device
        self.names = [domain.name for domain in corpus.domains]
        self.train = torch.cat([domain.train for domain in corpus.domains]).to(device)
        lengths = [len(domain.train) for domain in corpus.domains]
        self.begins = (torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)).to(device)
        self.held_out = {
            "validation": _held_out({d.name: d.validation for d in corpus.domains}, "validation", options, device),
            "test": _held_out({d.name: d.test for d in corpus.domains}, "test", options, device),
        }

        # Which windows a step sees.
        self.sampler = ProportionalWindows(
            [_windows(d.name, "training", len(d.train), options.context) for d in corpus.domains],
            options.batch_size,
            generator=streams.generator("data"),
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
        )

        model = language_model(
            options.model, width=options.width, layers=options.layers, heads=options.heads, context=options.context
        )
        self.model = placed(model.to(self.dtype), options, accelerator)
        self.optimizer = make_optimizer(self.model, options, options.steps)
        self.schedule = make_schedule(self.optimizer, options, options.steps)
        self.gradient_step = GradientStep(
            accelerator,
            self.model,
            self.optimizer,
            schedule=self.schedule,
            max_grad_norm=options.max_grad_norm,
        )

    def train_batches(self) -> Iterator[Int64[Tensor, "batch length"]]:
        """Yield this process's windows of every step, one byte longer than the context."""
        inside = torch.arange(self.options.context + 1, device=self.train.device)
        while True:
            domains, starts = (indices.to(self.train.device) for indices in self.sampler.take())
            yield self.train[(self.begins[domains] + starts)[:, None] + inside].long()

    def train_step(self, batch: Int64[Tensor, "batch length"]) -> StepResult:
        """Take one step on a batch of windows."""
        lr = torch.tensor(self.schedule.get_last_lr()[0])
        report = self.gradient_step(
            [(len(piece), partial(self._loss, piece)) for piece in batch.chunk(self.options.accumulate)],
            total=self.options.batch_size,
        )
        metrics = {"loss": report.loss, "bits_per_byte": report.loss / math.log(2), "lr": lr}
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(metrics, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return bits per byte over the bytes of all domains, of each of several domains, and norms of the weights."""
        held_out, processes = self.held_out[split], self.accelerator.num_processes
        count, length = len(held_out.windows), self.options.context
        # Every process takes as many, for a sharded model gathers its weights in every pass; what is too much has no
        # weight.
        mine = torch.arange(self.accelerator.process_index, processes * -(-count // processes), processes)
        # For each domain the sum of −ln p, and its bytes.
        sums = torch.zeros(2, len(self.names), dtype=torch.float64, device=self.accelerator.device)
        self.model.eval()
        for indices in torch.split(mine, max(1, EVALUATION_BYTES // length)):
            chosen = indices.clamp(max=count - 1).to(sums.device)
            windows, domains = held_out.windows[chosen].long(), held_out.domains[chosen]
            with self.accelerator.autocast():
                nats = self._nats(windows)
            weight = (indices < count).to(sums)
            sums.index_add_(1, domains, torch.stack([nats.sum(1).double() * weight, length * weight]))
        self.model.train()
        nats_of, bytes_of = self.accelerator.reduce(sums, reduction="sum").tolist()
        metrics = {"bits_per_byte": sum(nats_of) / sum(bytes_of) / math.log(2)}
        if len(self.names) > 1:
            for name, total, number in zip(self.names, nats_of, bytes_of, strict=True):
                metrics[f"bits_per_byte/{name}"] = total / number / math.log(2)
        metrics["weight_norm"], metrics["spectral_norm"] = weight_norms(self.model)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule and the position in the data."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _loss(self, windows: Int64[Tensor, "batch length"]) -> Tensor:
        return self._nats(windows).mean()

    def _nats(self, windows: Int64[Tensor, "batch length"]) -> Tensor:
        """Return −ln p of every byte but the first, [batch, length − 1]."""
        scores = self.model(windows[:, :-1]).to(self.dtype)
        return F.cross_entropy(scores.transpose(1, 2), windows[:, 1:], reduction="none")


def _corpus(options: Language) -> TextCorpus:
    if options.files:
        corpus = read_texts(options.paths)
    else:
        found: Any = load(options.data or "tinyshakespeare")
        corpus = found if isinstance(found, TextCorpus) else found.corpus()  # a treebank has a text, too
    return corpus.only(options.domains) if options.domains else corpus


def _held_out(texts: dict[str, Tensor], part: str, options: Language, device: torch.device) -> HeldOut:
    """Cut the first bytes of every domain into windows; each begins with the last byte of the one before it."""
    windows, domains = [], []
    for index, (name, text) in enumerate(texts.items()):
        text = text[: options.eval_bytes]
        _windows(name, part, len(text), options.context)
        cut = text.unfold(0, options.context + 1, options.context)
        windows.append(cut)
        domains.append(torch.full((len(cut),), index))
    return HeldOut(torch.cat(windows).to(device), torch.cat(domains).to(device))


def _windows(name: str, part: str, length: int, context: int) -> int:
    """Return how many windows of one byte more than the context there are.

    Raises:
        ValueError: if there is none.
    """
    if length <= context:
        raise ValueError(f"context must be below the {length} {part} bytes of domain {name!r}, got {context}")
    return length - context
