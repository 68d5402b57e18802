"""The loss that teaches a model to predict two answers together: −log p(y₁, y₂ | x), a proper score of the pair.

Its minimum over all predictors that see Φ(x) is E[p(y₁ | X) p(y₂ | X) | Φ(x)], from which `aleator.nn.PairDistribution`
reads the covariance of the true p(· | X) around the prediction. Label smoothing, focal weights and class weights move
the minimum elsewhere. The two answers must be independent given X: of different annotators, not one answer twice.

D. D. Johnson et al., arXiv 2402.08733, section 3.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from aleator.nn import PairDistribution


def pair_nll(
    logits_or_dist: Float[Tensor, "*batch K K2"] | PairDistribution,
    y1: Int[Tensor, "*batch"],
    y2: Int[Tensor, "*batch"],
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "*shape"]:
    """Return the negative log-likelihood of pairs of answers, in nats and in float32 at least.

    Args:
        logits_or_dist: a `PairDistribution`, such as a `PairHead` returns; or scores of (y₁, y₂), which are
            symmetrised.
        y1: the first answers, in [0, K).
        y2: the second answers, in [0, K).
        reduction: ``"mean"`` over the pairs, or ``"none"``.

    Raises:
        ValueError: if a shape does not fit, the tables are not square, ``reduction`` is none of the two, or, on a CPU,
            if a label is out of range.

    Example:
        >>> pair_nll(torch.zeros(4, 3, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 1, 1]))
        tensor(2.1972)
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be mean or none, got {reduction!r}")
    pairs = PairDistribution.from_logits(logits_or_dist) if isinstance(logits_or_dist, Tensor) else logits_or_dist
    losses = -pairs.log_prob(y1, y2)
    return losses.mean() if reduction == "mean" else losses
