"""Conditional computation: images classified by a wide layer of which a gater opens a few units for each example.

What is learned is here; what the gates do in a step and in an evaluation is in `aleator.recipes.gates.gating`. The
defaults are the paper's, with a network the size of the digits; for MNIST it has ``--experts 2000 --gater-hidden 400``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from aleator.experiment import Headline
from aleator.recipes.images.recipe import ImageRecipe
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless
from aleator.recipes.parts.descent import ScheduleOption
from aleator.recipes.parts.part import Act, Part
from aleator.recipes.parts.proximal import Proximal
from aleator.recipes.parts.rows import rates
from aleator.recipes.parts.supervised import SupervisedBase

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aleator.recipes.parts.run import Run

_RATES = {"sgd": 0.1}
LrOption = Annotated[float | None, tyro.conf.arg(help=f"Learning rate at its highest. Default: {rates(_RATES)}.")]


@dataclass(frozen=True)
class _GatedNetwork(Part):
    """The network; a base of its own so that it comes before the training options in the help."""

    gate: Literal["st", "st-identity", "relaxed", "reinmax", "sts", "sbn", "noisy-relu", "relu", "none", "dense"] = "st"
    """Random gates by their gradient: straight-through with the sigmoid's derivative or without, through a relaxation,
    ReinMax, stochastic times smooth, REINFORCE; or rectifiers with noise or without. None: all experts, which is a
    linear network. Dense: as many experts as would be open, all of them, times sigmoids."""
    experts: int = 200
    """Units of the wide layer."""
    gater_hidden: int | None = None
    """Hidden units of the gater, by default 40. Gate none has no gater."""
    block: int | None = None
    """Experts that share a gate, by default 1; from 16 on those that are shut are skipped."""
    sparsity: float | None = None
    """Share of the gates that should be open, by default 0.1."""
    penalty: float | None = None
    """Weight of the penalty on open gates, a sum over the gates. By default 0.01, or 1e-5 for rectifiers, where it is
    moved after every step."""
    gater_lr_ratio: float | None = None
    """The learning rate of the gater, divided by the learning rate of the rest, by default 1. With 0 it stays as it was
    drawn."""
    max_norm: float | None = 2.0
    """After every step bound the norm of each unit's incoming weights."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "experts", "gater_hidden", "block", "max_norm")
        not_negative(self, "penalty", "gater_lr_ratio")
        refuse_unless(self.gate != "none", "gate none", self, "gater_lr_ratio", "sparsity")
        refuse_unless(self.gate not in ("none", "dense"), f"gate {self.gate}", self, "block", "penalty")
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity must be in (0, 1), got {self.sparsity}")
        if self.block is not None and self.experts % self.block:
            raise ValueError(f"block must divide experts, {self.experts}, got {self.block}")


@dataclass(frozen=True)
class Gates(Proximal, ImageRecipe, SupervisedBase, _GatedNetwork):
    """Classify images with few open units of many: estimators of the gradient of gates, at any sparsity."""

    headline: ClassVar[Headline | None] = Headline("accuracy", "max")
    own_lr: ClassVar[Mapping[str, float]] = _RATES
    own_lr_min: ClassVar[float | None] = 0.0
    own_momentum: ClassVar[Mapping[str, float]] = {"sgd": 0.0}

    lr: LrOption = None
    momentum: float | None = None
    """Of SGD, by default 0 here; of LARS, by default 0.9, and of Signum, by default 0.95."""
    weight_decay: float = 0.0
    schedule: ScheduleOption = "constant"

    def check(self) -> None:
        """Check what can be checked without data."""
        if self.accumulate != 1:  # the penalty is no mean over examples
            raise ValueError(f"accumulate must be 1 in the recipe gates, got {self.accumulate}")
        if self.shard:
            raise ValueError("shard must be False in the recipe gates, got True")

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Return the gated network, or one that it is compared with."""
        from aleator.recipes.gates.models import GatedClassifier

        return GatedClassifier(
            splits["train"][0][0].numel(),
            len(self.images.classes),
            gate=self.gate,
            experts=self.experts,
            gater_hidden=40 if self.gater_hidden is None else self.gater_hidden,
            block=self.blocks,
            sparsity=0.1 if self.sparsity is None else self.sparsity,
            penalty=self.penalty,
        )

    def prepared(self, inputs: Any) -> Any:
        """Return images as rows of numbers."""
        return super().prepared(inputs).flatten(1)

    def losses(self, outputs: Any, targets: Any) -> Tensor:
        """Return the cross entropy of every example, in the precision of the weights."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs.to(self.dtype), targets, reduction="none")

    @property
    def blocks(self) -> int:
        """Experts that share a gate."""
        return 1 if self.block is None else self.block

    def act(self, run: Run) -> Act | None:
        """Return what the gates do."""
        from aleator.recipes.gates.gating import Gating

        return Gating(self, run)
