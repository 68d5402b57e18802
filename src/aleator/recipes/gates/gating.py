"""The gates in a run of the recipe ``gates``: their noise, their penalty, their threshold.

Gates are sampled while training. An evaluation first sets their threshold so that on validation data the share wanted
is open, and is then deterministic; on test data the share that is open is therefore a measurement.

Stream: ``gates`` for the noise. It is drawn for the batch of all processes, of which each takes its part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aleator.experiment import Split
from aleator.experiment.gradient_step import GradientReport
from aleator.nn import ConditionalLinear
from aleator.recipes.gates.models import GatedClassifier, bound_norms
from aleator.recipes.parts.batch import Batch
from aleator.recipes.parts.part import Act
from aleator.recipes.parts.run import Run


class Gating(Act):
    """The gates' part in a step and in an evaluation."""

    def __init__(self, options: Any, run: Run) -> None:
        self._options, self._run = options, run
        self._generator = run.generator("gates", on_device=True)
        self._network: GatedClassifier | None = None
        self._task: Any = None

    @property
    def gated(self) -> ConditionalLinear | None:
        """The layer with gates, unless the network has none or sigmoids."""
        assert self._network is not None
        return self._network.gated

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Remember the network."""
        assert isinstance(network, GatedClassifier)
        self._network = network
        return network

    def lr_ratio(self, name: str) -> float:
        """Return the gater's ratio for its weights."""
        ratio: float | None = self._options.gater_lr_ratio
        return ratio if ratio is not None and ".gater." in name else 1.0

    def before_step(self, batch: Batch) -> None:
        """Draw the noise of the batch."""
        assert self._network is not None
        self._network.noise = self._noise(batch.total)

    def penalty(self, losses: Tensor) -> Tensor | None:
        """Return the penalty on open gates, and the loss of estimators that learn from losses."""
        if self.gated is None:
            return None
        penalty = self.gated.penalty()
        if self.gated.controller is not None:  # a sum over examples, of which other processes have the rest
            penalty = penalty * self._run.processes
        return self.gated.score_loss(losses) + penalty

    def after_step(self, report: GradientReport) -> None:
        """Bound the norms of the weights."""
        assert self._network is not None
        self._network.noise = None
        if self._options.max_norm is not None and not report.skipped:
            bound_norms(self._network, self._options.max_norm)

    def logged(self) -> Mapping[str, Tensor]:
        """Return how many gates are open, and the weight of the penalty."""
        if self.gated is None:
            return {}
        return {
            "active_fraction": self.gated.active_fraction.clone(),
            "penalty_weight": self.gated.penalty_weight.clone(),
        }

    def started(self, task: Any) -> None:
        """Remember the task, whose held-out examples the threshold depends on."""
        self._task = task

    def before_evaluation(self, split: Split) -> None:
        """Set the threshold on validation data."""
        if self.gated is not None:
            with self._run.accelerator.autocast():
                self.gated.calibrate_threshold(self._inputs("validation"))

    def measured(self, split: Split, found: Mapping[str, float]) -> Mapping[str, float]:
        """Return the error and what the gates do; every process looks at all examples, which takes the gater alone.

        The active fraction is the share of the experts that are computed, the mean over examples; the share of likely
        gates counts gates that training would open with a probability above one half.
        """
        if self.gated is None:
            assert self._network is not None
            return {"error": 1 - found["accuracy"], "active_fraction": self._network.width}
        open_, likely, count = 0.0, 0.0, 0
        with self._run.accelerator.autocast():
            for x in self._inputs(split):
                logits = self.gated.gater(x)
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                open_ += float((self.gated.gate(logits) != 0).double().sum())
                likely += float((self.gated.gate.estimator.probability(logits) > 0.5).double().sum())
                count += logits.numel()
        gates = {"active_fraction": open_ / count, "likely_fraction": likely / count}
        return {"error": 1 - found["accuracy"], **gates}

    def _inputs(self, split: Split) -> Iterator[Tensor]:
        for inputs in torch.split(self._task.held_out[split].inputs, self._options.evaluation_batch):
            yield self._task.prepared_inputs(inputs)

    def _noise(self, rows: int) -> Tensor | None:
        if self.gated is None or self._options.gate == "relu":
            return None
        draw = torch.randn if self._options.gate == "noisy-relu" else torch.rand
        shape = (rows, self._options.experts // self._options.blocks)
        whole = draw(shape, generator=self._generator, device=self._run.device, dtype=self._run.dtype)
        return whole[self._run.rank :: self._run.processes]
