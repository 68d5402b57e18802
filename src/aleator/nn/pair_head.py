"""Heads that predict two answers together, to put on any backbone.

    table            K² scores of (y₁, y₂), symmetrised             K up to 30 or so
    mixture          M weights and M distributions over K labels    V ≥ 0 and C ≤ 1 by construction, any K
    autoregressive   scores of y₁, and of y₂ given features and y₁  two marginals that need not agree

An autoregressive head's second scores come from a hidden layer, since scores linear in features and y₁ could not
express that y₁ says more about one input than about another.

D. D. Johnson et al., arXiv 2402.08733, section 3. Symmetrising and the mixture are ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import PairSampler
from aleator.nn.pair_distribution import PairDistribution, at_least_float32, checked_labels

Kind = Literal["table", "mixture", "autoregressive"]

LARGEST_TABLE = 30  # labels, above which "auto" is a mixture
_COMPONENTS = 8


class PairHead(nn.Module):
    """Features in, a `PairDistribution` out.

    Under autocast the layers run in its precision, and probabilities in float32.

    Args:
        in_features: of the last dimension of the features.
        K: number of labels.
        kind: ``"table"``, ``"mixture"``, ``"autoregressive"``, or ``"auto"``: a table up to K = 30, else a mixture.
        components: M of a mixture.
        symmetric: whether a table's scores are symmetrised, as exchangeable answers have it.
        generator: of the initial weights; without one they come, as in `torch.nn.Linear`, from the default generator.

    Attributes:
        kind: ``"table"``, ``"mixture"`` or ``"autoregressive"``.
        num_labels: K.
        components: M.

    Raises:
        ValueError: if a size is not positive, or an argument has no effect on the kind.

    Example:
        >>> head = PairHead(64, 10)
        >>> pairs = head(torch.randn(32, 64))
        >>> pairs.log_marginal().shape, pairs.confidence().shape
        (torch.Size([32, 10]), torch.Size([32, 10]))
    """

    kind: Kind

    def __init__(
        self,
        in_features: int,
        K: int,
        kind: Literal["auto", "table", "mixture", "autoregressive"] = "auto",
        components: int = _COMPONENTS,
        symmetric: bool = True,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("auto", "table", "mixture", "autoregressive"):
            raise ValueError(f"kind must be auto, table, mixture or autoregressive, got {kind!r}")
        for name, value in (("in_features", in_features), ("K", K)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if kind == "auto":
            kind = "table" if K <= LARGEST_TABLE else "mixture"
        if components != _COMPONENTS and kind != "mixture":
            raise ValueError(f"components cannot be used with kind {kind}, got {components}")
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        if not symmetric and kind != "table":
            raise ValueError(f"symmetric cannot be used with kind {kind}, got False")
        self.kind, self.num_labels, self.symmetric, self.components = kind, K, symmetric, components
        if kind == "table":
            self.scores = _linear(in_features, K**2, generator)
        elif kind == "mixture":
            self.scores = _linear(in_features, components * (K + 1), generator)
        else:
            self.scores = _linear(in_features, K, generator)
            self.hidden = _linear(in_features, in_features, generator)
            # The label's own columns of the hidden layer's weights, one for each.
            self.shown = nn.Parameter(torch.empty(K, in_features).normal_(generator=generator))
            self.second = _linear(in_features, K, generator)

    def forward(self, features: Float[Tensor, "*batch in"]) -> PairDistribution:
        """Return the distribution of pairs for each input.

        An autoregressive head looks at all K first answers here; see `log_prob`.
        """
        scores = self.scores(features)
        if self.kind == "table":
            table = scores.unflatten(-1, (self.num_labels, self.num_labels))
            return PairDistribution.from_logits(table, symmetric=self.symmetric)
        if self.kind == "mixture":
            weights, members = scores.tensor_split([self.components], dim=-1)
            return PairDistribution.from_mixture_logits(
                weights, members.unflatten(-1, (self.components, self.num_labels))
            )
        second = self.second(F.relu(self.hidden(features).unsqueeze(-2) + self.shown))
        first_log, second_log = (at_least_float32(s).log_softmax(-1) for s in (scores, second))
        return PairDistribution.from_log_joint(first_log.unsqueeze(-1) + second_log)

    def log_prob(
        self, features: Float[Tensor, "*batch in"], y1: Int[Tensor, "*batch"], y2: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Return log p(y₁, y₂) of one pair for each input: ``self(features).log_prob(y1, y2)``.

        An autoregressive head computes the second answer's scores for this first one alone, at 1/K of the cost. Inside
        `DistributedDataParallel` or FSDP call it from the ``forward`` of the module that is wrapped.

        Raises:
            ValueError: if a shape does not fit the batch, or, on a CPU, if a label is not in [0, K).
        """
        if self.kind != "autoregressive":
            return self(features).log_prob(y1, y2)  # type: ignore[no-any-return]
        first_label, second_label = checked_labels(y1, y2, features.shape[:-1], self.num_labels)
        first = self.scores(features)
        second = self.second(F.relu(self.hidden(features) + F.embedding(first_label, self.shown)))
        logs = [
            at_least_float32(scores).log_softmax(-1).gather(-1, label.unsqueeze(-1)).squeeze(-1)
            for scores, label in ((first, first_label), (second, second_label))
        ]
        return logs[0] + logs[1]

    def fit(
        self,
        features: Float[Tensor, "items in"],
        responses: PairSampler,
        *,
        held_out: tuple[Float[Tensor, "others in"], PairSampler] | None = None,
        steps: int = 1000,
        batch_size: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> PairHead:
        """Fit the head to features that stay as they are, such as a frozen backbone's, and return it.

        AdamW with a cosine to 0. Every epoch draws new pairs and a new order.

        Args:
            features: of the items.
            responses: of the same items, in the same order.
            held_out: features and responses of other items: the weights with the lowest loss on one pair of each are
                kept, looked for twenty times.
            steps: of the optimizer, at least 1.
            batch_size: items in a step; fewer if there are not as many.
            lr: learning rate at its highest.
            weight_decay: of AdamW.
            generator: of the order; torch's default generator without one.

        Raises:
            ValueError: if there is not one row of features for each item, labels exceed K, or a number is out of range.
        """
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        for rows, sampler in ((features, responses), *((held_out,) if held_out else ())):
            if len(rows) != len(sampler):
                raise ValueError(f"features must have one row for each of {len(sampler)} items, got {len(rows)}")
            if sampler.num_labels > self.num_labels:
                raise ValueError(f"responses must have at most {self.num_labels} labels, got {sampler.num_labels}")
        optimizer = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        loss_of = self._fixed_loss(*held_out) if held_out else None
        best, kept, step, epoch = math.inf, None, 0, 0
        while step < steps:
            y1, y2 = responses.pairs(epoch)
            order = torch.randperm(len(features), generator=generator)
            for rows in torch.split(order, batch_size):
                if step == steps:
                    break
                x, first, second = (t[rows.to(t.device)].to(features.device) for t in (features, y1, y2))
                optimizer.zero_grad()
                torch.autograd.backward(-self.log_prob(x, first, second).mean())
                optimizer.step()
                schedule.step()
                step += 1
                if loss_of is not None and (step == steps or step % max(1, steps // 20) == 0):
                    loss = loss_of()
                    if loss < best:
                        best, kept = loss, copy.deepcopy(self.state_dict())
            epoch += 1
        optimizer.zero_grad()
        if kept is not None:
            self.load_state_dict(kept)
        return self

    def _fixed_loss(self, features: Tensor, responses: PairSampler) -> Callable[[], float]:
        y1, y2 = (y.to(features.device) for y in responses.pairs(0))

        def loss() -> float:
            with torch.no_grad():
                return float(-self.log_prob(features, y1, y2).double().mean())

        return loss

    def extra_repr(self) -> str:
        """Return what `print` shows besides the layers."""
        return f"kind={self.kind}, num_labels={self.num_labels}"


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a layer that is initialised as `torch.nn.Linear` is, from a generator."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # draws nothing from the global generator
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
