"""Training in two stages: first by what is known of a person, then with the photograph's own latents at random.

A model that always has the latents of the photograph copies its light, pose and what is in front of the face. In the
first stage it has none of them and learns from identity, vision tokens and text; in the second each sample has them
with probability p. Apart from that, each sample loses text, vision and identity together with probability 0.1, so that
guidance has a negative branch; a sample's photograph stays, as it does in sampling.

    keep_b ~ Bernoulli(p of the stage),  drop_b ~ Bernoulli(0.1)

What the authors trained with is not published; the stages are theirs, p and the rest are a reconstruction.

J. Wei et al., "EchoVideo", arXiv 2501.13452.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aleator.nn import Stage, StochasticConditioning
from aleator.nn.stochastic_conditioning import Conditioned
from aleator.video.guidance import GUIDED

SHALLOW = "shallow"
"""The part of a condition that holds the latents of the photograph."""


class TwoStageConditions(nn.Module):
    """The conditions that a batch is trained with.

    Args:
        stages: of the probability that a sample has the latents of its photograph.
        text: tokens of the empty text.
        vision: tokens of a black image.
        identity: width of an identity vector.
        drop: probability that a sample has the negative inputs instead of its own.
        generator: two integers are drawn from it, here and never again; None stands for one of seed 0.
        rank: of this process, see `aleator.nn.StochasticConditioning`.

    Raises:
        ValueError: if a probability is out of [0, 1].
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        text: Float[Tensor, "tokens dim"],
        vision: Float[Tensor, "patches width"],
        identity: int,
        drop: float = 0.1,
        generator: torch.Generator | None = None,
        rank: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= drop <= 1:
            raise ValueError(f"drop must be in [0, 1], got {drop}")
        if generator is None:  # a key each: with one, what is dropped would never have its photograph
            generator = torch.Generator().manual_seed(0)
        null = {"text": text, "vision": vision, "identity": torch.zeros(identity)}
        self.shallow = StochasticConditioning(stages, generator=generator, rank=rank)
        self.guided = StochasticConditioning([Stage(1, 1 - drop)], null=null, generator=generator, rank=rank)

    def forward(
        self, condition: Mapping[str, Tensor], step: int, *, samples: Int64[Tensor, " batch"] | None = None
    ) -> Conditioned:
        """Return the conditions to train with, and which samples have their photograph.

        Args:
            condition: ``text``, ``vision``, ``identity`` and ``shallow``.
            step: of training, counted from 0.
            samples: numbers of the samples within the step, see `aleator.nn.StochasticConditioning.keep`.

        Raises:
            ValueError: if a part is missing.
        """
        missing = [name for name in (*GUIDED, SHALLOW) if name not in condition]
        if missing:
            raise ValueError(f"condition must have {', '.join((*GUIDED, SHALLOW))}, got none of {', '.join(missing)}")
        shallow, keep = self.shallow(condition[SHALLOW], step, samples=samples)
        known = self.guided({name: condition[name] for name in GUIDED}, step, samples=samples).condition
        return Conditioned({**condition, **known, SHALLOW: shallow}, keep)
