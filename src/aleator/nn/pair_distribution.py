"""The joint distribution of two answers to one question, and what it says about what the model does not know.

Let Y₁ and Y₂ be independent answers to the same input X, of which the model sees no more than Φ(X). Predicting the pair
it predicts E[p(y₁ | X) p(y₂ | X) | Φ(X)]. That Y₁ tells something about Y₂ can only be because it tells something about
X that the model did not see. With marginals p₁, p₂ of a predicted joint:

    Σ_ij = p(y_i, y_j) − p₁(y_i) p₂(y_j)           covariance of p(· | X) around the prediction, if calibrated
    V(y) = p₁(y) (p₂(y | y) − p₁(y))               its diagonal, where both marginals agree
    C(y) = p₁(y) / p₂(y | y)                       confidence that p(y | X) is not 0
    I    = Σ p(y_i, y_j) log p(y_i, y_j)/(p₁ p₂)   mutual information in nats: what cheating gains

A joint is held as a table of log-probabilities, or as a mixture Σ_m w_m q_m(y₁) q_m(y₂), which every calibrated one is.
For a mixture V is the weighted variance of the q_m, so that V ≥ 0 and C ≤ 1 by construction. The members of an
ensemble, the passes of MC dropout, samples of a Laplace approximation are such a mixture.

D. D. Johnson, D. Tarlow, D. Duvenaud, C. J. Maddison, "Experts Don't Cheat: Learning What You Don't Know By Predicting
Pairs", ICML 2024, arXiv 2402.08733. The mixture is ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aleator.stats import CheatScores, cheat_scores


class PairDistribution(ABC):
    """A batch of joint distributions of two answers out of K; everything is in float32 at least.

    Make one by `from_logits`, `from_log_joint` or `from_members`, or take the one that a `PairHead` returns.

    Attributes:
        num_labels: K.

    Example:
        >>> members = torch.tensor([[[0.9, 0.1], [0.5, 0.5]]])  # of one input, from two networks
        >>> PairDistribution.from_members(members).variance()
        tensor([[0.0400, 0.0400]])
    """

    num_labels: int

    @staticmethod
    def from_logits(logits: Float[Tensor, "*batch K K2"], symmetric: bool = True) -> PairDistribution:
        """Return the softmax over the K² cells of a table of scores.

        Args:
            logits: scores of (y₁, y₂).
            symmetric: whether scores of (y₁, y₂) and (y₂, y₁) are averaged, since answers are exchangeable: it halves
                their noise, and both marginals are the same.

        Raises:
            ValueError: if the tables are not square.
        """
        scores = at_least_float32(_square("logits", logits))
        if symmetric:
            scores = (scores + scores.mT) / 2
        return _Table(scores.flatten(-2).log_softmax(-1).reshape(scores.shape))

    @staticmethod
    def from_log_joint(log_joint: Float[Tensor, "*batch K K2"]) -> PairDistribution:
        """Return the distribution with these log-probabilities, −inf where a pair is impossible.

        Raises:
            ValueError: if the tables are not square, or, on a CPU, if one does not sum to 1 within 0.001.
        """
        exact = at_least_float32(_square("log_joint", log_joint))
        if _may_look(exact):
            _check_sums("log_joint", exact.flatten(-2).exp().sum(-1))
        return _Table(exact)

    @staticmethod
    def from_members(
        probs: Float[Tensor, "*batch M K"], weights: Float[Tensor, "*shape"] | None = None
    ) -> PairDistribution:
        """Return Σ_m w_m q_m(y₁) q_m(y₂) for predictions of one input that were made in several ways.

        Args:
            probs: q_m, a distribution over the K labels for each member.
            weights: w_m of shape ``[M]`` or ``[*batch, M]``, not negative; they are divided by their sum. Default: all
                equal.

        Raises:
            ValueError: if the shapes do not fit, or, on a CPU, if a value is negative or not a number, or a member
                does not sum to 1 within 0.001, or within 0.008 in bfloat16.
        """
        if probs.ndim < 2:
            raise ValueError(f"probs must have the shape [..., members, labels], got {tuple(probs.shape)}")
        exact = at_least_float32(probs)
        mass = exact.new_ones(exact.shape[:-1]) if weights is None else weights.to(exact)
        if mass.shape not in (exact.shape[-2:-1], exact.shape[:-1]):
            raise ValueError(
                f"weights must have the shape {tuple(exact.shape[-2:-1])} or {tuple(exact.shape[:-1])}, "
                f"got {tuple(mass.shape)}"
            )
        if _may_look(exact):
            for name, values in (("probs", exact), ("weights", mass)):
                wrong = values[~(values >= 0)]
                if len(wrong):
                    raise ValueError(f"{name} must be numbers that are not negative, got {wrong[0].item():g}")
            _check_sums("probs", exact.sum(-1), torch.finfo(probs.dtype).eps)
        shares = (mass / mass.sum(-1, keepdim=True)).expand(exact.shape[:-1])
        return _Mixture(shares.log(), exact.log())

    @staticmethod
    def from_mixture_logits(
        weights: Float[Tensor, "*batch M"], members: Float[Tensor, "*batch M K"]
    ) -> PairDistribution:
        """Return the mixture whose weights and members are the softmax of these scores."""
        return _Mixture(at_least_float32(weights).log_softmax(-1), at_least_float32(members).log_softmax(-1))

    @abstractmethod
    def log_marginal(self, response: int = 1) -> Float[Tensor, "*batch K"]:
        """Return log p₁ of the first response, or with ``response=2`` log p₂ of the second."""

    @abstractmethod
    def log_joint(self) -> Float[Tensor, "*batch K K"]:
        """Return log p(y₁, y₂)."""

    @abstractmethod
    def log_cheated(self) -> Float[Tensor, "*batch K"]:
        """Return log p₂(y | y): how likely an answer is for one who was shown it. It is −inf where p₁(y) = 0."""

    @abstractmethod
    def log_prob(self, y1: Int[Tensor, "*batch"], y2: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return log p(y₁, y₂) of one pair for each input.

        Raises:
            ValueError: if a shape does not fit the batch, or, on a CPU, if a label is not in [0, K).
        """

    def log_conditional(self) -> Float[Tensor, "*batch K K"]:
        """Return log p₂(y₂ | y₁) in rows by y₁; the row of an impossible y₁ is −inf."""
        marginal = self.log_marginal().unsqueeze(-1)
        return torch.where(marginal == -torch.inf, -torch.inf, self.log_joint() - marginal)

    def scores(self, clip: bool = True) -> CheatScores:
        """Return variance, confidence and log-variance of every answer, see `aleator.stats.cheat_scores`."""
        return cheat_scores(self.log_marginal(), self.log_cheated(), clip)

    def variance(self, clip: bool = True) -> Float[Tensor, "*batch K"]:
        """Return V: the mean squared error of p₁(y), if calibrated. Raw values can be below 0 in a table."""
        return self.scores(clip).variance

    def confidence(self, clip: bool = True) -> Float[Tensor, "*batch K"]:
        """Return C. Raw values can be above 1 in a table."""
        return self.scores(clip).confidence

    def covariance(self) -> Float[Tensor, "*batch K K"]:
        """Return Σ, whose rows sum to 0. Its trace is the variance of all answers together."""
        joint, product, gain = self._gain()
        # The difference of two exponentials loses its digits where the gain is small, and only there.
        return torch.where(gain < 1, product.exp() * torch.expm1(gain), joint.exp() - product.exp())

    def mutual_information(self) -> Float[Tensor, "*batch"]:
        """Return I(Y₁; Y₂) in nats."""
        joint, _, gain = self._gain()
        return torch.where(joint == -torch.inf, 0.0, joint.exp() * gain).sum((-2, -1))

    def agreement(self) -> Float[Tensor, "*batch"]:
        """Return P(Y₁ = Y₂), the trace of the joint."""
        return torch.logsumexp(self.log_marginal() + self.log_cheated(), -1).exp()

    def _gain(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(y₁, y₂), log p₁(y₁) p₂(y₂), and their difference, 0 where the second is −inf."""
        joint = self.log_joint()
        product = self.log_marginal(1).unsqueeze(-1) + self.log_marginal(2).unsqueeze(-2)
        return joint, product, torch.where(product == -torch.inf, 0.0, joint - product)


class _Table(PairDistribution):
    """Log-probabilities of all K² pairs."""

    def __init__(self, log_joint: Float[Tensor, "*batch K K"]) -> None:
        self._log_joint = log_joint
        self.num_labels = log_joint.shape[-1]

    def log_marginal(self, response: int = 1) -> Float[Tensor, "*batch K"]:
        return torch.logsumexp(self._log_joint, -1 if response == 1 else -2)

    def log_joint(self) -> Float[Tensor, "*batch K K"]:
        return self._log_joint

    def log_cheated(self) -> Float[Tensor, "*batch K"]:
        marginal = self.log_marginal()
        both = self._log_joint.diagonal(dim1=-2, dim2=-1)
        return torch.where(marginal == -torch.inf, -torch.inf, both - marginal)

    def log_prob(self, y1: Int[Tensor, "*batch"], y2: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        first, second = checked_labels(y1, y2, self._log_joint.shape[:-2], self.num_labels)
        cell = (first * self.num_labels + second).unsqueeze(-1)
        return self._log_joint.flatten(-2).gather(-1, cell).squeeze(-1)


class _Mixture(PairDistribution):
    """Log-weights of M members, and their log-probabilities."""

    def __init__(self, log_weights: Float[Tensor, "*batch M"], log_members: Float[Tensor, "*batch M K"]) -> None:
        self._log_weights, self._log_members = log_weights, log_members
        self.num_labels = log_members.shape[-1]

    def log_marginal(self, response: int = 1) -> Float[Tensor, "*batch K"]:
        return torch.logsumexp(self._log_weights.unsqueeze(-1) + self._log_members, -2)

    def log_joint(self) -> Float[Tensor, "*batch K K"]:
        # One member after the other, so that memory is for K² numbers and not for M K².
        terms = self._log_weights.unsqueeze(-1) / 2 + self._log_members
        members = terms.unbind(-2)
        joint = members[0].unsqueeze(-1) + members[0].unsqueeze(-2)
        for member in members[1:]:
            joint = torch.logaddexp(joint, member.unsqueeze(-1) + member.unsqueeze(-2))
        return joint

    def log_cheated(self) -> Float[Tensor, "*batch K"]:
        # log(p₂(y | y)/p₁(y)) = log(1 + Σ_m w_m (q_m/p − 1)²): at least 0 whatever is rounded. It is also
        # log Σ_m w_m (q_m/p)², exact where it is large: there the squares may overflow, since q_m/p is up to 1/w_m.
        marginal = self.log_marginal()
        impossible = marginal == -torch.inf
        ratio = torch.where(impossible.unsqueeze(-2), 0.0, self._log_members - marginal.unsqueeze(-2))
        half = self._log_weights.unsqueeze(-1) / 2
        moment = torch.logsumexp(2 * (half + ratio), -2)
        near = half.exp() * torch.expm1(ratio.clamp(max=1))
        far = (half + ratio).clamp(max=1).exp() - half.exp()  # more than that is where the moment is taken
        spread = torch.where(ratio < 1, near, far).square().sum(-2)
        gain = torch.where(moment > 2, moment, torch.log1p(spread))
        return torch.where(impossible, -torch.inf, marginal + gain)

    def log_prob(self, y1: Int[Tensor, "*batch"], y2: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        batch = self._log_members.shape[:-2]
        of_members = [
            self._log_members.gather(-1, y[..., None, None].expand(*self._log_members.shape[:-1], 1)).squeeze(-1)
            for y in checked_labels(y1, y2, batch, self.num_labels)
        ]
        return torch.logsumexp(self._log_weights + of_members[0] + of_members[1], -1)

    def covariance(self) -> Float[Tensor, "*batch K K"]:
        deviation = self._log_members.exp() - self.log_marginal().exp().unsqueeze(-2)
        return (self._log_weights.exp().unsqueeze(-1) * deviation).mT @ deviation


def at_least_float32(values: Tensor) -> Tensor:
    """Return values as they are, or in float32 if they have half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _may_look(values: Tensor) -> bool:
    """Whether values can be looked at: a device would make the host wait, and a graph has none."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _square(name: str, table: Tensor) -> Tensor:
    if table.ndim < 2 or table.shape[-1] != table.shape[-2] or table.shape[-1] == 0:
        raise ValueError(f"{name} must be square tables, [..., K, K], got shape {tuple(table.shape)}")
    return table


def _check_sums(name: str, sums: Tensor, rounding: float = 0.0) -> None:
    wrong = sums[~((sums - 1).abs() <= max(1e-3, rounding))]
    if len(wrong):
        raise ValueError(f"{name} must be probabilities that sum to 1, got a sum of {wrong[0].item():g}")


def checked_labels(y1: Tensor, y2: Tensor, batch: torch.Size, num_labels: int) -> tuple[Tensor, Tensor]:
    """Return labels in int64.

    Raises:
        ValueError: if a shape does not fit the batch, or, on a CPU, if a label is not in [0, K).
    """
    for name, y in (("y1", y1), ("y2", y2)):
        if y.shape != batch:
            raise ValueError(f"{name} must have the shape {tuple(batch)}, a label for each input, got {tuple(y.shape)}")
        if _may_look(y):
            wrong = y[(y < 0) | (y >= num_labels)]
            if len(wrong):
                raise ValueError(f"{name} must be in [0, {num_labels}), got {wrong[0].item()}")
    return y1.long(), y2.long()
