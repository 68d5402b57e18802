"""The task behind the recipe ``graphs``: a set of graphs, GDSS, and the distance of what it generates from real ones.

A step trains both networks on a batch, each with an optimizer and a bound on its gradient's norm of its own. Noise and
times are drawn for the batch of all processes, of which each takes its part; gradients are averaged over processes.

An evaluation generates graphs, each with noise of its own, so that neither the number of processes nor how many are
generated at a time changes them, and always from the same numbers. On validation they are compared with the training
graphs, for there is no part set apart in the published splits; on test with the test graphs, next to the *floor*: the
distance between the test graphs and as many training graphs. Molecules are compared with as many real ones, the first
of either part; they are new if they are not among all training molecules, also where ``train_size`` uses fewer.

How much generated features and edges have to do with each other is ``degree_coupling``: the share of nodes whose
feature names their degree, less what it is on the average after shuffling the features among a graph's own nodes.

Streams: ``init`` for the weights, ``data`` for the order of the graphs, ``noise`` for times and noise of training, the
key ``samples`` for what is generated.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from aleator.data import GraphSet, InMemoryLoader, MoleculeSet, load
from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.graphs import (
    GDSS,
    DenseBatch,
    GraphSamples,
    ScoreNetworkA,
    ScoreNetworkX,
    decode_molecules,
    degree_agreement,
    dense_batch,
    encode_smiles,
    graph_mmd,
    graph_noise,
    molecule_metrics,
    quantize,
    shuffled_agreement,
)
from aleator.optim import weight_ema
from aleator.random import Streams
from aleator.recipes.graphs import exhibits as graph_exhibits
from aleator.recipes.graphs.settings import GraphSettings, Process
from aleator.recipes.parts.gradient_task import whole_rounds
from aleator.sde import S4, SDE, VESDE, VPSDE, EulerMaruyama, PredictorCorrector, Solver

if TYPE_CHECKING:
    from aleator.recipes.graphs.options import Graphs

_log = logging.getLogger("aleator.recipes")

STATISTICS: tuple[Literal["degree", "clustering", "orbit"], ...] = ("degree", "clustering", "orbit")
AVERAGE_DECAY = 0.999
GENERATED_AT_A_TIME = 500  # on a CPU, whose caches hold no more
ENTRIES_AT_A_TIME = 2**20  # of their adjacency matrices: the networks hold up to a few hundred numbers for each
_EPS = 1e-5  # of the times in training


def generated_at_a_time(nodes: int, device: str) -> int:
    """Return how many graphs of ``nodes`` nodes are generated in one batch, which changes them by rounding alone.

    On a GPU a step of small graphs takes as long as its kernels take to start, however many there are: it gets all that
    fit.
    """
    fit = max(1, ENTRIES_AT_A_TIME // nodes**2)
    return min(fit, GENERATED_AT_A_TIME) if device == "cpu" else fit


class Blind(nn.Module):
    """A score network that sees one part of the noisy graph alone, for the ablation.

    Args:
        net: (x, adj, mask) → score.
        unseen: ``"x"`` or ``"adj"``, which is given to it as zeros.
    """

    def __init__(self, net: nn.Module, unseen: str) -> None:
        super().__init__()
        self.net, self.unseen = net, unseen

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> Tensor:
        """Return the network's output for the part that it sees."""
        seen = (torch.zeros_like(x), adj) if self.unseen == "x" else (x, torch.zeros_like(adj))
        return self.net(*seen, mask)  # type: ignore[no-any-return]


class GenerationTask:
    """GDSS in training; see `aleator.experiment.Task`."""

    def __init__(self, options: Graphs, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.settings, self.accelerator = options, options.chosen, accelerator
        self.headline = Headline("validity", "max") if options.molecules else Headline("mmd", "min")
        self.graphs = load(options.data)
        self.train = _encoded(self.graphs, self.settings, options.train_size, accelerator.device)
        self.samples_key = streams.key("samples")
        self.noise = streams.generator("noise")

        count = len(self.train.x)
        self.batch_size = min(self.settings.batch_size, count)
        self.sampler = whole_rounds(count, self.batch_size, streams, accelerator)
        per_epoch = -(-count // self.batch_size)
        steps = options.steps or (self.settings.epochs * per_epoch if options.settings == "published" else 600)
        self.budget = Budget(1 if options.model != "gdss" else steps, "steps")
        self.evaluate_every = max(1, steps // 4)

        self.model = _model(self.settings, options.coupling).to(accelerator.device)
        self.model.observe(self.train)
        self.average = weight_ema(self.model, AVERAGE_DECAY)
        self.steps = [
            _NetworkStep(net, self.settings.lr, accelerator, partial(_rate, self.settings.schedule, steps, per_epoch))
            for net in (self.model.net_x, self.model.net_a)
        ]
        self._shown: tuple[GraphSamples, float] | None = None

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield this process's share of the batches, round after round; the last of a round may be short."""
        while True:
            yield from InMemoryLoader(tuple(self.train), self.sampler.batches(self.batch_size, drop_last=False))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step of both networks on a batch of graphs."""
        if self.options.model != "gdss":
            return StepResult({}, examples=0)
        self.model.train()
        x, adj, mask = batch
        size = len(x) * self.accelerator.num_processes
        times, noise = self._drawn(batch, size)
        losses = self.model.loss(x, adj, mask, times, noise)
        reports = [
            step([(len(x), partial(losses.__getitem__, name))], total=size)
            for name, step in zip(("x", "adj"), self.steps, strict=True)
        ]
        skipped = any(report.skipped for report in reports)
        if not skipped:
            self.average.update_parameters(self.model)
        metrics = {"loss_x": reports[0].loss, "loss_adj": reports[1].loss}
        return StepResult(metrics, examples=size, skipped=skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Generate graphs and return how far they are from real ones, and for molecules whether they can exist."""
        count = self.options.samples if split == "test" else self.options.validation_samples
        begun = time.perf_counter()
        samples = self._generated(count)
        seconds = time.perf_counter() - begun
        if split == "test":
            self._shown = samples, seconds
        measure = self._of_molecules if self.options.molecules else self._of_graphs
        return {**measure(samples, split), "nfe": float(samples.nfe)}

    def exhibits(self) -> Sequence[Exhibit]:
        """Return drawings of what was generated next to training graphs."""
        if self._shown is None:  # not before a test
            return []
        samples, seconds = self._shown
        note = f"{len(samples.x)} were generated in {seconds:.1f} s, with {samples.nfe} evaluations of each network."
        if isinstance(self.graphs, MoleculeSet):
            drawn = slice(graph_exhibits.SHOWN)
            made = decode_molecules(samples.x[drawn], samples.adj[drawn], self.graphs.elements)
            return graph_exhibits.molecules([text for text in made.smiles if text], self.graphs.train, note)
        real = [graph.adjacency() for graph in self.graphs.train]
        return graph_exhibits.graphs(quantize(samples.adj, samples.mask), real, note)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and their means, optimizers, schedules and the position in the data."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "steps": [step.state_dict() for step in self.steps],
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for step, saved in zip(self.steps, state["steps"], strict=True):
            step.load_state_dict(saved)
        self.sampler.load_state_dict(state["sampler"])

    def _drawn(self, batch: tuple[Tensor, ...], size: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Draw times and noise for the batch of all processes, of this size, and return this process's part."""
        own = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        times = _EPS + (1 - _EPS) * torch.rand(size, generator=self.noise)
        noise = []
        for index, part in enumerate(batch[:2]):
            like = torch.empty(size, *part.shape[1:])
            noise.append(graph_noise(like, index, self.noise)[own].to(part.device))
        return times[own].to(batch[0].device), (noise[0], noise[1])

    def _generated(self, count: int) -> GraphSamples:
        generator = Streams(self.samples_key).generator("samples")
        if self.options.model == "random":
            return _random_graphs(self.train, count, generator)
        chosen = cast("GDSS", self.average.module) if self.settings.average_weights else self.model
        processes = self.accelerator.num_processes
        samples = chosen.sample(
            count,
            _solver(self.settings),
            generator=generator,
            batch_size=generated_at_a_time(self.settings.max_nodes, self.accelerator.device.type),
            per_graph=True,
            num_replicas=processes,
            rank=self.accelerator.process_index,
        )
        return samples.gathered() if processes > 1 else samples

    def _of_graphs(self, samples: GraphSamples, split: Split) -> dict[str, float]:
        assert isinstance(self.graphs, GraphSet)
        reference = self.graphs.test if split == "test" else self.graphs.train
        distance = partial(graph_mmd, stats=STATISTICS, convention=self.options.convention)
        found = distance(reference, quantize(samples.adj, samples.mask))
        metrics = {"mmd": found.pop("average"), **found}
        made = samples.x, samples.adj, samples.mask
        metrics["degree_agreement"], metrics["shuffled_agreement"] = degree_agreement(*made), shuffled_agreement(*made)
        metrics["degree_coupling"] = metrics["degree_agreement"] - metrics["shuffled_agreement"]
        if split == "test":
            metrics["floor"] = distance(reference, self.graphs.train[: len(reference)])["average"]
        return metrics

    def _of_molecules(self, samples: GraphSamples, split: Split) -> dict[str, float]:
        assert isinstance(self.graphs, MoleculeSet)
        made = decode_molecules(samples.x, samples.adj, self.graphs.elements)
        real = self.graphs.test if split == "test" else self.graphs.train
        if not any(made.smiles):
            return {"validity": sum(made.valid) / len(made.valid), "uniqueness": 0.0, "novelty": 0.0}
        return molecule_metrics(made, self.graphs.train, real[: len(samples.x)])


class _NetworkStep(GradientStep):
    """The step of one of the two networks: Adam, a bound of 1 on the gradient's norm, a schedule."""

    def __init__(self, net: nn.Module, lr: float, accelerator: Accelerator, rate: Callable[[int], float]) -> None:
        self.optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=1e-4)
        self.schedule = LambdaLR(self.optimizer, rate)
        average = (partial(_average_gradients, net),) if accelerator.num_processes > 1 else ()
        super().__init__(accelerator, net, self.optimizer, schedule=self.schedule, max_grad_norm=1.0, transform=average)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and the schedule's."""
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def _average_gradients(net: nn.Module) -> None:
    """Average over processes, in one message: the networks are small, and two of them in one step are not one DDP."""
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for gradient, mean in zip(gradients, torch.split(together, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _rate(schedule: str, steps: int, per_epoch: int, step: int) -> float:
    if schedule == "exponential":
        return 0.999 ** (step // per_epoch)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
    return 1.0


def _encoded(graphs: GraphSet | MoleculeSet, settings: GraphSettings, size: int | None, device: Any) -> DenseBatch:
    if size is not None and size > len(graphs.train):
        raise ValueError(f"train_size must be at most {len(graphs.train)} for {graphs.name}, got {size}")
    if isinstance(graphs, MoleculeSet):
        arrays, refused = encode_smiles(graphs.train[:size], graphs.elements, settings.max_nodes)
        if refused:
            first = "; ".join(f"line {line.position}, {line.smiles!r}: {line.reason}" for line in refused[:5])
            _log.warning("%d training molecules of %s are left out, the first: %s", len(refused), graphs.name, first)
        made = DenseBatch(*arrays)
    else:
        made = dense_batch([graph.adjacency() for graph in graphs.train[:size]], settings.features, settings.max_nodes)
    return DenseBatch(*(tensor.to(device) for tensor in made))


def _model(settings: GraphSettings, coupling: str) -> GDSS:
    net_x: nn.Module = ScoreNetworkX(settings.features, settings.depth, settings.hidden)
    net_a: nn.Module = ScoreNetworkA(
        settings.features, settings.hidden, settings.layers, linears=settings.linears, c_hidden=settings.c_hidden
    )
    if coupling == "independent":
        net_x, net_a = Blind(net_x, "adj"), Blind(net_a, "x")
    return GDSS(net_x, net_a, _process(settings.sde_x), _process(settings.sde_a))


def _process(process: Process) -> SDE:
    return (VPSDE if process.kind == "vp" else VESDE)(process.low, process.high)


def _solver(settings: GraphSettings) -> Solver:
    steps, snr, scale_eps = settings.sampling_steps, settings.snr, settings.scale_eps
    if settings.solver == "s4":
        return S4(steps, snr=snr, scale_eps=scale_eps)
    if settings.solver == "euler":
        return EulerMaruyama(steps)
    predictor: Any = settings.solver.removesuffix("-langevin")
    return PredictorCorrector(steps, predictor=predictor, snr=snr, scale_eps=scale_eps)


def _random_graphs(train: DenseBatch, count: int, generator: torch.Generator) -> GraphSamples:
    """Return graphs with the nodes and the number of edges of training graphs, the edges anywhere."""
    chosen = torch.randint(len(train.x), (count,), generator=generator)
    mask = train.mask[chosen].cpu()
    edges = train.adj[chosen].cpu().triu(1).sum((1, 2)).long()
    pairs = (mask.unsqueeze(-1) & mask.unsqueeze(-2)).triu(1)
    lots = torch.rand(pairs.shape, generator=generator).masked_fill(~pairs, torch.inf).flatten(1)
    place = lots.argsort(1).argsort(1).view_as(pairs)
    upper = (place < edges.view(-1, 1, 1)) & pairs
    adj = (upper | upper.mT).float()
    degrees = nn.functional.one_hot(adj.sum(-1).long().clamp(max=train.x.shape[-1] - 1), train.x.shape[-1])
    x = degrees * mask.unsqueeze(-1)
    return GraphSamples(x.float(), adj, mask, torch.arange(count), 0)
