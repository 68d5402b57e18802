"""The task behind the recipe ``spiking``: images in memory, `SymSTDPClassifier`, no gradient anywhere.

A step is the next hundred training images or so, in the order of the data set, as the authors have it; the budget
counts images. The classifier has a seed of its own, derived from the run's, so its random numbers depend on the run's
seed and on how many images came before, and a run that goes on needs nothing but the classifier's state.

With several processes the engines private and frozen share out every batch; with the others, which learn one sample
after another, all processes learn the same. Evaluation is shared out in any case, among processes and among threads.

Streams: ``split`` for the choice of training examples; the key ``spiking`` is the classifier's seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from aleator.data import Examples, LabelledImages, load
from aleator.experiment import Budget, Exhibit, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.images.examples import full_size, image_splits
from aleator.recipes.spiking import exhibits as spiking_exhibits
from aleator.spiking import Responses, SymSTDPClassifier, decide, preset

if TYPE_CHECKING:
    from aleator.recipes.spiking.options import Spiking

STRIDE = 100  # samples of a step, rounded up to whole batches where they learn in batches
_ENLARGE = {"digits": 3}


def grey_images(images: LabelledImages, examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the pixels as bytes in 0…255, [samples, pixels], enlarged where they are few, and the labels."""
    factor = _ENLARGE.get(images.name, 1)
    greys = (examples.inputs[:, 0].double() * (255 / images.max_value)).round().to(torch.uint8)
    greys = greys.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return greys.flatten(1), examples.targets


class LearnedNetwork(nn.Module):
    """What a classifier learned, as buffers that share its memory, to be saved and loaded like any model."""

    def __init__(self, classifier: SymSTDPClassifier) -> None:
        super().__init__()
        for name, tensor in vars(classifier.state_).items():
            self.register_buffer(name, tensor)
        for name in ("label_sums_", "label_samples_"):
            self.register_buffer(name, torch.from_numpy(getattr(classifier, name)))


class PlasticityTask:
    """A spiking classifier in training; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")

    def __init__(self, options: Spiking, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        images = load(options.data)
        splits = image_splits(images, options, streams)
        self.full_size = full_size(images, options)
        self.classes = images.classes
        self.examples = {name: grey_images(images, split) for name, split in splits.items()}
        parameters = preset(options.preset_name)
        if options.without != "nothing":
            parameters = parameters.without(options.without)
        if options.theta_decay == "none":
            parameters = parameters.replace(tau_theta=math.inf)
        self.classifier = SymSTDPClassifier(
            n_in=self.examples["train"][0].shape[1],
            n_hidden=options.hidden,
            n_classes=len(images.classes),
            parameters=parameters,
            engine=options.engine,
            schedule=options.schedule,
            epochs=options.epochs,
            batch_size=options.samples_together,
            n_jobs=torch.get_num_threads(),
            device=str(accelerator.device),
            seed=streams.key("spiking"),
        )
        if accelerator.num_processes > 1:
            self.classifier.process_group = dist.group.WORLD
        self.classifier.start()
        self.count = len(self.examples["train"][1])
        total = self.count * self.classifier.passes
        self.budget = Budget(total, "examples")
        self.evaluate_every = max(1, total // 5)
        at_once = options.samples_together if options.learns_in_batches else 1
        self.stride = at_once * -(-STRIDE // at_once)
        self.accuracies: list[list[float]] = []  # examples seen, validation accuracy
        self._right = torch.empty(0)
        self._responses: tuple[Responses, Tensor] | None = None

    @property
    def model(self) -> LearnedNetwork:
        """The network as it is now."""
        return LearnedNetwork(self.classifier)

    def train_batches(self) -> Iterator[slice]:
        """Yield the next training examples, in the order of the data set."""
        while True:
            begin = self.classifier.samples_seen_ % self.count
            yield slice(begin, min(begin + self.stride, self.count))

    def train_step(self, batch: slice) -> StepResult:
        """Learn from some examples, one after the other or batch by batch."""
        phase = self.classifier.prepare(self.classifier.samples_seen_, self.count)
        greys, labels = self.examples["train"]
        stats = self.classifier.partial_fit(greys[batch], labels[batch], phase=phase).sample_stats_
        metrics = {
            "hidden_spikes": torch.tensor(stats.hidden_spikes.mean()),
            "re_presentations": torch.tensor(stats.re_presentations.mean()),
            "silent_fraction": torch.tensor(stats.silent_fraction),
        }
        examples = batch.stop - batch.start
        return StepResult(metrics, progress=examples, examples=examples)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the accuracy of both readouts, and the fraction of the examples that nothing answered."""
        greys, labels = self.examples[split]
        responses = self._respond(greys)
        answers = {name: decide(self.classifier.scores(responses, name)) for name in ("sl", "assignment")}
        right = {name: float((answer == labels.numpy()).mean()) for name, answer in answers.items()}
        metrics = {
            "accuracy": right[self.options.readout],
            "sl_accuracy": right["sl"],
            "assignment_accuracy": right["assignment"],
            "silent_fraction": float((answers[self.options.readout] < 0).mean()),
            "hidden_spikes": float(responses.hidden.sum(1).mean()),
            "examples": len(labels),
        }
        if split == "validation":
            self.accuracies.append([float(self.classifier.samples_seen_), metrics["accuracy"]])
        else:
            self._responses = responses, labels
            self._right = torch.from_numpy(answers[self.options.readout] == labels.numpy())
        return metrics

    def test_examples(self) -> tuple[Tensor, Tensor]:
        """Return whether each of this process's test images was answered rightly, and that each counts once."""
        own = self._right[self.accelerator.process_index :: self.accelerator.num_processes]
        return own, torch.ones_like(own)

    def exhibits(self) -> Sequence[Exhibit]:
        """Return what the network learned, how it answers, and how its accuracy grew."""
        if self._responses is None:  # not before a test
            return []
        responses, labels = self._responses
        answers = decide(self.classifier.scores(responses, self.options.readout))
        greys, _ = self.examples["test"]
        return [
            spiking_exhibits.growth(self.accuracies),
            spiking_exhibits.fields(self.classifier.state_.weights_in),
            spiking_exhibits.raster(self.classifier, greys, labels),
            spiking_exhibits.confusion(answers, labels.numpy(), self.classes),
            *spiking_exhibits.maps(responses, greys, labels.numpy(), self.classes),
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the network, where training is, and the accuracies so far."""
        return {"classifier": self.classifier.state_dict(), "accuracies": self.accuracies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.classifier.load_state_dict(state["classifier"])
        self.accuracies = state["accuracies"]

    def _respond(self, greys: Tensor) -> Responses:
        """Return the responses to all images, of which every process presents a part."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        cuts = np.linspace(0, len(greys), processes + 1).astype(int)
        begin, end = int(cuts[rank]), int(cuts[rank + 1])
        own = self.classifier.spike_counts(greys[begin:end])
        if processes == 1:
            return own
        parts = gather_object([own])
        return Responses(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(own)})
