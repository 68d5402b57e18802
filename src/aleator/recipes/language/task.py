"""The task behind the recipe ``language``: bytes in memory, a model of the next byte, cross entropy.

    bits per byte = −(1/N) Σ_i log₂ p(byte_i | the bytes before it in its window)

Streams: ``init`` for the weights, ``data`` for the windows, ``boundaries`` for the segments of dtp and magnet. Runs of
one seed share them, so variants differ only in what they change; under two mixtures each domain's windows come in the
same order, at their own pace. Held-out bytes are cut into windows of ``context`` that do not overlap, the same for
every seed; the first bytes of a window are predicted from little, so a longer context has better figures. Where
boundaries are drawn, every evaluation draws them from the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from aleator.data import ParallelCorpus, TextCorpus, load, read_texts
from aleator.data.mixtures.schedules import TemperatureSchedule
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import unwrapped
from aleator.language import CollapseMonitor, LanguageModel
from aleator.language.fairness import spread_and_variation
from aleator.losses import scalarized_loss
from aleator.random import Streams
from aleator.recipes.language.models import weight_norms
from aleator.recipes.language.reader_lm import ReaderLM
from aleator.recipes.language.readers import Reading, Segmentation, Segments, make_reader
from aleator.recipes.language.windows import TrainingWindows, Windows
from aleator.recipes.parts.gradient_task import GradientTask, placed
from aleator.recipes.parts.mixture import drawn_from, make_mixture
from aleator.recipes.parts.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from aleator.recipes.language.options import Language

# Bytes that an evaluation passes through the model at once, on each process.
EVALUATION_BYTES = 2**15


class HeldOut(NamedTuple):
    """Windows of held-out bytes, one byte longer than the context, and the index of each one's domain."""

    windows: UInt8[Tensor, "n length"]
    domains: Int64[Tensor, " n"]


class Piece(NamedTuple):
    """Windows of a batch, the index of each one's domain, and uniform numbers where boundaries are drawn."""

    windows: Int64[Tensor, "batch length"]
    domains: Int64[Tensor, " batch"]
    noise: Float[Tensor, "batch length"] | None = None


class LanguageTask(GradientTask):
    """A language model in training; see `aleator.experiment.Task`."""

    headline = Headline("bits_per_byte", "min")
    sampler: TrainingWindows
    parts: dict[Split, dict[str, int]]

    def __init__(self, options: Language, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.accelerator = accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.budget = Budget(options.steps, "steps")

        corpus = _corpus(options)
        device = accelerator.device
        self.names = [domain.name for domain in corpus.domains]
        self.held_out = {
            "validation": _held_out({d.name: d.validation for d in corpus.domains}, "validation", options, device),
            "test": _held_out({d.name: d.test for d in corpus.domains}, "test", options, device),
        }

        # In what proportion domains are to count, and which windows a step sees.
        texts = _training_texts(corpus, options)
        sizes = {name: len(text) for name, text in texts.items()}
        self.mixture = make_mixture(options, sizes, options.steps, options.batch_size * options.context)
        self.sampler = TrainingWindows(
            texts,
            drawn_from(self.mixture, options),
            options.context,
            options.batch_size,
            generator=streams.generator("data"),
            device=device,
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
        )

        self.reader = make_reader(options, texts)
        # What parallel text costs: the bytes of the whole held-out parts, or their tokens.
        self.parts = {"validation": {}, "test": {}}
        if len(self.names) > 1 and (isinstance(corpus, ParallelCorpus) or corpus.name == "udhr2"):
            cost = len if isinstance(self.reader, Segments) else self.reader.count
            self.parts["validation"] = {d.name: cost(d.validation) for d in corpus.domains}
            self.parts["test"] = {d.name: cost(d.test) for d in corpus.domains}
        self.noise = streams.generator("boundaries", device=device)
        # What it warns of depends on nothing and nothing on it, so it is no part of the state.
        self.collapse = CollapseMonitor()
        self.evaluation_key = streams.key("boundaries of an evaluation")
        self._bits = torch.empty(0)
        self.model = placed(self.reader.network.to(self.dtype), options, accelerator)
        self.optimizer = make_optimizer(self.model, options, options.steps)
        self.schedule = make_schedule(self.optimizer, options, options.steps)
        self.gradient_step = GradientStep(
            accelerator,
            self.model,
            self.optimizer,
            schedule=self.schedule,
            max_grad_norm=options.max_grad_norm,
        )

    def train_batches(self) -> Iterator[Windows]:
        """Yield this process's windows of every step."""
        return iter(self.sampler)

    def train_step(self, batch: Windows) -> StepResult:
        """Take one step on a batch of windows."""
        lr = torch.tensor(self.optimizer.param_groups[0]["lr"])
        weights, shares = self._weights(batch), self._shares(batch)
        noise = self._noise(self.noise, self.options.batch_size)
        pieces = min(self.options.accumulate, len(batch.bytes))
        # Quotas come in the order of the domains, so pieces are taken in turns: each holds something of all.
        cut = [
            Piece(batch.bytes[i::pieces], batch.domains[i::pieces], None if noise is None else noise[i::pieces])
            for i in range(pieces)
        ]
        drawn: list[Segmentation] = []

        def loss_of(piece: Piece) -> Tensor:
            loss, segmentation = self._loss(piece, weights, shares)
            if segmentation is not None:
                drawn.append(segmentation)
            return loss

        report = self.gradient_step(
            [(len(piece.domains), partial(loss_of, piece)) for piece in cut],
            total=self.options.batch_size,
        )
        metrics = {"loss": report.loss, "lr": lr}
        nats = report.loss
        if drawn:
            # As the loss, this process's part of a mean over processes.
            penalty = torch.stack([piece.penalty for piece in drawn]).sum()
            own = penalty * (self.accelerator.num_processes / self.options.batch_size)
            metrics["boundary_loss"], nats = own, report.loss - own
        rates = [piece.rates for piece in drawn]
        occurring = sorted({name for of_piece in rates for name in of_piece})
        self.collapse.update(
            {name: torch.stack([each[name] for each in rates if name in each]).mean() for name in occurring}
        )
        if weights is None:
            metrics["bits_per_byte"] = nats / math.log(2)
        if len(self.names) > 1 and isinstance(schedule := self.mixture.schedule, TemperatureSchedule):
            metrics["temperature"] = torch.tensor(schedule.temperature(batch.step, self.options.steps))
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(metrics, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return bits per byte over the bytes of all domains, and norms of the weights.

        Of each of several domains also bits per byte, and how often its bytes were predicted in training.
        `AutoCooldown` receives the bits of validation. Of models with learned segments the boundaries per byte, as they
        were drawn, for all that shares a target; of parallel text the segments, in expectation, of each domain's whole
        part, the most divided by the fewest, and their coefficient of variation.
        """
        held_out, processes = self.held_out[split], self.accelerator.num_processes
        count, length = len(held_out.windows), self.options.context
        generator = Streams(self.evaluation_key).generator("boundaries", device=self.accelerator.device)
        # Every process takes as many, for a sharded model gathers its weights in every pass; what is too much has no
        # weight.
        mine = torch.arange(self.accelerator.process_index, processes * -(-count // processes), processes)
        # For each domain the sum of −ln p, its bytes, the boundaries that were drawn, and how many were expected.
        sums = torch.zeros(4, len(self.names), dtype=torch.float64, device=self.accelerator.device)
        self.model.eval()
        bits_of_windows = []
        for indices in torch.split(mine, max(1, EVALUATION_BYTES // length)):
            chosen = indices.clamp(max=count - 1).to(sums.device)
            windows, domains = held_out.windows[chosen].long(), held_out.domains[chosen]
            noise = self._noise(generator, processes * len(indices))
            with self.accelerator.autocast():
                reading = self._read(Piece(windows, domains, noise))
            weight = (indices < count).to(sums)
            nats = reading.nats.sum(1).double() * weight
            bits_of_windows.append(nats[weight > 0] / math.log(2))
            # A window has one position more than it predicts bytes.
            marks = [
                torch.zeros_like(nats) if part is None else part.mean(1).double() * length * weight
                for part in (reading.boundaries, reading.probabilities)
            ]
            sums.index_add_(1, domains, torch.stack([nats, length * weight, *marks]))
        self.model.train()
        self._bits = torch.cat(bits_of_windows)
        sums = self.accelerator.reduce(sums, reduction="sum").cpu()
        nats_of, bytes_of = sums[:2].tolist()
        metrics = {"bits_per_byte": sum(nats_of) / sum(bytes_of) / math.log(2)}
        if len(self.names) > 1:
            each = zip(self.names, nats_of, bytes_of, strict=True)
            bits = {name: total / number / math.log(2) for name, total, number in each}
            metrics |= {f"bits_per_byte/{name}": value for name, value in bits.items()}
            metrics |= {f"epochs/{name}": value for name, value in self.sampler.epochs.items()}
            if split == "validation":
                self.mixture.observe(self.sampler.step, bits)
        metrics |= self._segments(split, sums)
        metrics["weight_norm"], metrics["spectral_norm"] = weight_norms(self.model)
        return metrics

    def test_examples(self) -> tuple[Tensor, Tensor] | None:
        """Return the bits of this process's windows in the last evaluation, and their bytes."""
        return self._bits, torch.full_like(self._bits, self.options.context)

    def language_model(self) -> LanguageModel:
        """Return the model as one that can be asked what a text costs."""
        network = unwrapped(self.model)
        if isinstance(self.reader, Segments):
            assert isinstance(network, LanguageModel)
            return network
        return ReaderLM(self.reader, network)

    def label(self, name: str, lines: Sequence[str]) -> str:
        """Return the name by which the model knows the script of a language, from its name or its text."""
        if not isinstance(self.reader, Segments):
            return name
        return self.reader.label(name, torch.tensor(list("\n".join(lines).encode()), dtype=torch.uint8))

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule, and the positions in the data and the mixture."""
        # Where losses are weighted, windows are drawn from another mixture than the one that observes.
        return {**super().state_dict(), "mixture": self.mixture.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        super().load_state_dict(state)
        self.mixture.load_state_dict(state["mixture"])

    def _weights(self, batch: Windows) -> Float[Tensor, " domains"] | None:
        """Return the weights of the domains in this step, so normalised that a batch's loss is divided by its size."""
        if self.options.weighting == "sampling":
            return None
        weights = torch.from_numpy(self.mixture.scalarization_weights(batch.step)).to(batch.bytes.device, self.dtype)
        if self.options.normalize != "weights":
            return weights
        # The sum is over all pieces and processes, so that cutting a batch does not change the step.
        total: Tensor = self.accelerator.reduce(weights[batch.domains].sum(), reduction="sum")
        return weights * (self.options.batch_size / total)

    def _segments(self, split: Split, sums: Float[Tensor, "4 domains"]) -> dict[str, float]:
        """Return the metrics of segments, from the sums of an evaluation."""
        metrics: dict[str, float] = {}
        costs = {name: float(cost) for name, cost in self.parts[split].items()}
        if isinstance(self.reader, Segments):
            of_groups = sums.new_zeros(4, len(self.reader.groups)).index_add_(1, self.reader.group_of, sums)
            rates = (of_groups[2] / of_groups[1]).tolist()
            metrics |= {f"boundary_rate/{name}": rate for name, rate in zip(self.reader.groups, rates, strict=True)}
            expected = dict(zip(self.names, (sums[3] / sums[1]).tolist(), strict=True))
            costs = {name: expected[name] * cost for name, cost in costs.items()}
        if costs:
            metrics |= {f"segments/{name}": cost for name, cost in costs.items()}
            metrics["segment_ratio"], metrics["segment_variation"] = spread_and_variation(list(costs.values()))
        return metrics

    def _shares(self, batch: Windows) -> Float[Tensor, " domains"] | None:
        """Return what a row's boundary loss counts: the mean over the groups in the batch of the mean of their rows.

        Rows are counted over all pieces and processes. The result is so normalised that the batch's loss is divided by
        its size.
        """
        if not isinstance(self.reader, Segments):
            return None
        members: Tensor = self.accelerator.reduce(self.reader.members(batch.domains), reduction="sum")
        of_group = self.options.batch_size / (members.clamp(min=1) * (members > 0).sum())
        return of_group.to(self.dtype)[self.reader.group_of.to(of_group.device)]

    def _noise(self, generator: torch.Generator, rows: int) -> Float[Tensor, "batch length"] | None:
        """Draw for a global batch of rows, and return this process's share."""
        if not isinstance(self.reader, Segments):
            return None
        shape, device = (rows, self.options.context + 1), self.accelerator.device
        whole = torch.rand(shape, generator=generator, device=device, dtype=self.dtype)
        return whole[self.accelerator.process_index :: self.accelerator.num_processes]

    def _loss(
        self, piece: Piece, weights: Float[Tensor, " domains"] | None, shares: Float[Tensor, " domains"] | None
    ) -> tuple[Tensor, Segmentation | None]:
        """Return the mean loss of a piece, and what to remember of its segments, where there are any."""
        nats, boundaries, _ = self._read(piece)
        loss = nats.mean() if weights is None else scalarized_loss(nats.mean(1), piece.domains, weights)
        if shares is None:
            return loss, None
        assert isinstance(self.reader, Segments)
        assert boundaries is not None
        penalties = shares[piece.domains] * self.reader.boundary_losses(boundaries, piece.domains)
        rates = self.reader.rates_drawn(boundaries.detach(), piece.domains)
        return loss + penalties.mean(), Segmentation(penalties.detach().sum(), rates)

    def _read(self, piece: Piece) -> Reading:
        return self.reader.read(self.model, *piece)


def _corpus(options: Language) -> TextCorpus:
    if options.files:
        corpus = read_texts(options.paths)
    else:
        found: list[Any] = [load(name) for name in options.data or ("tinyshakespeare",)]
        corpora = [each if isinstance(each, TextCorpus) else each.corpus() for each in found]  # treebanks have a text
        corpus = corpora[0]
        if len(corpora) > 1:
            name = " and ".join(each.name for each in corpora)
            corpus = TextCorpus(name, tuple(domain for each in corpora for domain in each.domains))
    return corpus.only(options.domains) if options.domains else corpus


def _training_texts(corpus: TextCorpus, options: Language) -> dict[str, Tensor]:
    """Return the training bytes of every domain, cut as ``domain_bytes`` says.

    Raises:
        ValueError: if there is no such domain, or it has fewer bytes, or one has not enough for a window.
    """
    texts = {domain.name: domain.train for domain in corpus.domains}
    for name, count in options.most_bytes.items():
        if name not in texts:
            raise ValueError(f"domain_bytes must name one of the domains {', '.join(texts)}, got {name!r}")
        if count > len(texts[name]):
            raise ValueError(f"domain_bytes must be at most {len(texts[name])} for {name!r}, got {count}")
        texts[name] = texts[name][:count]
    for name, text in texts.items():
        _check_window(name, "training", len(text), options.context)
    return texts


def _held_out(texts: dict[str, Tensor], part: str, options: Language, device: torch.device) -> HeldOut:
    """Cut the first bytes of every domain into windows; each begins with the last byte of the one before it.

    Raises:
        ValueError: if a domain has not enough for a window.
    """
    windows, domains = [], []
    for index, (name, text) in enumerate(texts.items()):
        text = text[: options.eval_bytes]
        _check_window(name, part, len(text), options.context)
        cut = text.unfold(0, options.context + 1, options.context)
        windows.append(cut)
        domains.append(torch.full((len(cut),), index))
    return HeldOut(torch.cat(windows).to(device), torch.cat(domains).to(device))


def _check_window(name: str, part: str, length: int, context: int) -> None:
    if length <= context:
        raise ValueError(f"context must be below the {length} {part} bytes of domain {name!r}, got {context}")
