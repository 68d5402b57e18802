"""Alignment of a flow with rewards of its samples and rewards of its steps, and its peers as settings of it.

The loss of an update is the mean over its samples and their steps of

    orm_coef  ℓ(ρ, A^O)      the reward of the finished sample, compared within its group
    prm_coef  ℓ(ρ, A^P)      the process reward of the step, compared within the group at that step
    distill_coef  h c² ‖v − v*‖² / (2 σ²)    v* makes the guided step without guidance; mean over elements
    kl_coef  h c² ‖v − v_ref‖² / (2 σ²)

with ℓ the clipped surrogate of `aleator.losses` and ρ the ratio of the policies at the recorded step. A step is to be
credited with what it led to, r(x_{k+1}, s_{k+1}). The official program takes r(x_k, s_k), which does not depend on the
step: its policy gradient is 0 on average and all noise. It is here as prm_at="current".

An update is a list of pieces, each with a graph of its own: with pieces of one step of one sample the activations of
one step are what has to fit. The pieces are the same in number on all processes, and groups are never split.

R. Zhong et al., "Euphonium", arXiv 2602.04928; Z. Xue et al., "DanceGRPO", arXiv 2505.07818; J. Liu et al.,
"Flow-GRPO", arXiv 2505.05470. The distillation, the exact divergence and the two other alignments are the house's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from aleator.losses import Velocity, clipped_surrogate, group_advantages
from aleator.video.groups import check_groups, take
from aleator.video.rewards import checked_rewards
from aleator.video.trajectories import Trajectory
from aleator.video.update import Update

Rewards = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Advantages:
    """What samples and their steps were worth, compared within groups."""

    orm: Float[Tensor, " batch"] | None
    """Of the samples; None without outcome rewards."""
    prm: Float[Tensor, "batch steps"] | None
    """Of all steps but the last; None without process rewards."""
    figures: dict[str, Tensor]
    """0-d tensors: the mean of each reward, and the share of groups whose rewards are all equal."""


@dataclass(frozen=True)
class DualRewardGRPO:
    """The objective. With ``prm_coef=0`` and ``distill_coef=0`` it is its peers', see `dance_grpo` and `flow_grpo`.

    Args:
        group_size: G, samples of a prompt, neighbours in the batch; at least 2.
        clip: half the width of the ratio's clipping, for log-probabilities that are means over elements.
        adv_clip: bound of advantages; it acts only from G = 27 on where it is 5.
        orm_coef: of the outcome rewards' surrogate, not negative, as the other coefficients.
        prm_coef: of the process reward's surrogate.
        prm_at: credit a step with the process reward of the state it led to ("next"), of the state it began in
            ("current", as the official program does) or with the difference of the two ("delta"); these two need a
            rollout with ``judge_first``.
        distill_coef: of the distillation, where steps were guided.
        kl_coef: of the divergence from the reference.
        orm_weights: by name, of the outcome rewards' advantages in their sum; None: 1 for each.
        std: divide advantages by the deviation of the group, or of the batch of all processes.
        unbiased: whether that is with n − 1.
        eps: added to it.
        best_of: train on so many samples of a group, half of them the best and half the worst by the outcome rewards;
            None: on all.
        timestep_fraction: of the steps that are trained, drawn for each sample, in (0, 1].
        distill_gated: distil only steps whose advantages together are positive.

    Raises:
        ValueError: if a value is out of range.
    """

    group_size: int = 8
    clip: float = 1e-4
    adv_clip: float | None = 5.0
    orm_coef: float = 1.0
    prm_coef: float = 1.0
    prm_at: Literal["next", "current", "delta"] = "next"
    distill_coef: float = 1.0
    kl_coef: float = 0.0
    orm_weights: Mapping[str, float] | None = None
    std: Literal["group", "batch"] = "group"
    unbiased: bool = True
    eps: float = 1e-8
    best_of: int | None = None
    timestep_fraction: float = 1.0
    distill_gated: bool = False

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {self.group_size}")
        if not 0 < self.clip < float("inf"):
            raise ValueError(f"clip must be positive and finite, got {self.clip}")
        if self.adv_clip is not None and not self.adv_clip > 0:
            raise ValueError(f"adv_clip must be positive, got {self.adv_clip}")
        for name in ("orm_coef", "prm_coef", "distill_coef", "kl_coef", "eps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must not be negative and must be finite, got {getattr(self, name)}")
        if self.prm_at not in ("next", "current", "delta"):
            raise ValueError(f"prm_at must be next, current or delta, got {self.prm_at!r}")
        if self.std not in ("group", "batch"):
            raise ValueError(f"std must be group or batch, got {self.std!r}")
        if self.best_of is not None and not (2 <= self.best_of <= self.group_size and self.best_of % 2 == 0):
            raise ValueError(f"best_of must be even, from 2 to group_size = {self.group_size}, got {self.best_of}")
        for name, weight in (self.orm_weights or {}).items():
            if not abs(weight) < float("inf"):
                raise ValueError(f"orm_weights must be finite, got {weight} for {name}")
        if not 0 < self.timestep_fraction <= 1:
            raise ValueError(f"timestep_fraction must be in (0, 1], got {self.timestep_fraction}")

    @classmethod
    def dance_grpo(cls, **settings: Any) -> DualRewardGRPO:
        """Return DanceGRPO's objective, for rollouts with the noise "constant"; its program trains 0.6 of the steps."""
        return cls(**{"prm_coef": 0.0, "distill_coef": 0.0, **settings})

    @classmethod
    def flow_grpo(cls, **settings: Any) -> DualRewardGRPO:
        """Return Flow-GRPO's objective, for rollouts with the noise "flow_grpo" and eta 0.7."""
        peer = {"group_size": 24, "prm_coef": 0.0, "distill_coef": 0.0, "kl_coef": 0.04, "std": "batch"}
        return cls(**{**peer, "unbiased": False, "eps": 1e-4, **settings})

    def __call__(
        self,
        velocity: Velocity,
        trajectory: Trajectory,
        orm_rewards: Rewards | None = None,
        ref: Velocity | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a whole trajectory with one graph, for networks that are small; see `updates`."""
        everything = len(trajectory.log_probs) * len(trajectory)
        (update,) = self.updates(
            velocity, trajectory, orm_rewards, ref, count=1, piece_size=everything, generator=generator
        )
        ((_, loss_of),) = update.pieces
        return loss_of()

    def updates(
        self,
        velocity: Velocity,
        trajectory: Trajectory,
        orm_rewards: Rewards | None = None,
        ref: Velocity | None = None,
        *,
        count: int = 2,
        piece_size: int = 1,
        generator: torch.Generator | None = None,
    ) -> list[Update]:
        """Divide a trajectory into updates, of disjoint samples; step the optimizer after each.

        Args:
            velocity: (x, s, cond) → v, the policy with its parameters.
            trajectory: of `rollout`.
            orm_rewards: outcome rewards of the samples, by name or one.
            ref: the reference, such as the policy without its adapters. Its divergence is measured even where
                ``kl_coef`` is 0.
            count: how many updates; samples are dealt out in turn.
            piece_size: steps of samples that go through the network at once.
            generator: draws the steps of each sample, and is needed where ``timestep_fraction`` is below 1. It draws
                for the samples of all processes, in the order of their ranks: with one seed on all of them the steps
                are those of one process with all groups.

        Raises:
            ValueError: if something that a coefficient needs is missing, a reward is not finite, groups or samples
                cannot be dealt out evenly, or processes differ in what they have.
        """
        batch = len(trajectory.log_probs)
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if piece_size < 1:
            raise ValueError(f"piece_size must be at least 1, got {piece_size}")
        if self.kl_coef and ref is None:
            raise ValueError(f"ref must be given where kl_coef is {self.kl_coef:g}, got None")
        trained = trajectory.trained
        if not trained:
            raise ValueError("a trajectory must have a step with noise before its last, got none")
        advantages = self.advantages(trajectory, orm_rewards)
        samples = self._chosen(advantages.orm, batch)
        if len(samples) % count:
            raise ValueError(f"count must divide the {len(samples)} samples, got {count}")
        chosen = max(1, round(self.timestep_fraction * len(trained)))
        if chosen < len(trained) and generator is None:
            raise ValueError(f"generator must be given where timestep_fraction is {self.timestep_fraction}, got None")
        _check_alike(len(samples), chosen, trajectory.log_probs.device)
        steps_of = [trained] * len(samples)
        if chosen < len(trained) and generator is not None:
            everyone = len(samples) * _processes()
            order = torch.rand(everyone, len(trained), generator=generator, device=generator.device).argsort(1)
            own = order.chunk(_processes())[dist.get_rank() if _processes() > 1 else 0]
            steps_of = [[trained[step] for step in sorted(row)] for row in own[:, :chosen].tolist()]
        updates = []
        for first in range(count):
            pairs = [
                (sample, step)
                for sample, steps in zip(samples[first::count], steps_of[first::count], strict=True)
                for step in steps
            ]
            if piece_size > 1:
                pairs.sort(key=lambda pair: pair[1])  # states of one step lie together
            met: list[dict[str, Tensor]] = []
            pieces = [pairs[i : i + piece_size] for i in range(0, len(pairs), piece_size)]
            turns = [(len(p), self._piece(velocity, trajectory, advantages, ref, p, met)) for p in pieces]
            updates.append(Update(turns, met, advantages.figures))
        return updates

    def advantages(self, trajectory: Trajectory, orm_rewards: Rewards | None = None) -> Advantages:
        """Compare rewards within groups.

        Raises:
            ValueError: if something that a coefficient needs is missing, a reward is not finite, or the batch does not
                consist of groups.
        """
        batch = len(trajectory.log_probs)
        check_groups(batch, self.group_size)
        figures: dict[str, Tensor] = {}
        flat = torch.ones(batch // self.group_size, dtype=torch.bool, device=trajectory.log_probs.device)
        orm = prm = None
        if self.orm_coef:
            if orm_rewards is None:
                raise ValueError(f"orm_rewards must be given where orm_coef is {self.orm_coef:g}, got None")
            named = checked_rewards({"reward": orm_rewards} if isinstance(orm_rewards, Tensor) else orm_rewards)
            if any(len(value) != batch for value in named.values()):
                raise ValueError(f"orm_rewards must be for {batch} samples, got {len(next(iter(named.values())))}")
            weights = self._weights(named)
            each = [weights[name] * self._compared(value.to(flat.device)) for name, value in named.items()]
            orm = torch.stack(each).sum(0)
            figures |= {f"orm_{name}": value.mean() for name, value in named.items()}
            flat &= (orm.reshape(-1, self.group_size) == 0).all(1)
        if self.prm_coef:
            r = trajectory.process_rewards
            if r is None:
                raise ValueError(f"prm_coef must be 0 where the rollout had no prm, got {self.prm_coef:g}")
            if self.prm_at != "next" and bool(r[:, 0].isnan().any()):
                raise ValueError(f"prm_at must be next where the rollout had no judge_first, got {self.prm_at}")
            last = len(trajectory) - 1  # the last step is never trained
            credit = {"next": r[:, 1:], "current": r[:, :last], "delta": r[:, 1:] - r[:, :last]}
            prm = self._compared(credit[self.prm_at])
            figures["prm"] = r[:, 1:].mean()
            flat &= (prm.reshape(-1, self.group_size * last) == 0).all(1)
        figures["flat_groups"] = flat.float().mean()
        return Advantages(orm, prm, figures)

    def _compared(self, rewards: Tensor) -> Tensor:
        settings: dict[str, Any] = {"clip": self.adv_clip, "unbiased": self.unbiased, "eps": self.eps}
        if self.std == "batch" and _processes() > 1:  # the deviation is of all processes' samples
            everywhere = [torch.empty_like(rewards) for _ in range(_processes())]
            dist.all_gather(everywhere, rewards.contiguous())
            whole = group_advantages(torch.cat(everywhere), self.group_size, std="batch", **settings)
            return whole.chunk(_processes())[dist.get_rank()]
        return group_advantages(rewards, self.group_size, std=self.std, **settings)

    def _weights(self, named: Mapping[str, Tensor]) -> Mapping[str, float]:
        if self.orm_weights is None:
            return dict.fromkeys(named, 1.0)
        if set(self.orm_weights) != set(named):
            raise ValueError(
                f"orm_weights must name the rewards {', '.join(named)}, got {', '.join(self.orm_weights) or 'none'}"
            )
        return self.orm_weights

    def _chosen(self, orm: Tensor | None, batch: int) -> list[int]:
        """The samples that are trained on, each group's together."""
        if self.best_of is None or self.best_of == self.group_size:
            return list(range(batch))
        if orm is None:
            raise ValueError(f"best_of needs outcome rewards, got orm_coef={self.orm_coef:g}")
        order = orm.reshape(-1, self.group_size).argsort(dim=1, stable=True)
        half = self.best_of // 2
        ends = torch.cat([order[:, :half], order[:, -half:]], 1).sort(1).values
        first = torch.arange(0, batch, self.group_size, device=ends.device)[:, None]
        return [int(sample) for sample in (ends + first).reshape(-1).tolist()]

    def _piece(
        self,
        velocity: Velocity,
        trajectory: Trajectory,
        advantages: Advantages,
        ref: Velocity | None,
        pairs: list[tuple[int, int]],
        met: list[dict[str, Tensor]],
    ) -> Callable[[], Tensor]:
        def loss_of() -> Tensor:
            loss, figures = self._loss(velocity, trajectory, advantages, ref, pairs)
            met.append(figures)
            return loss

        return loss_of

    def _loss(
        self,
        velocity: Velocity,
        trajectory: Trajectory,
        advantages: Advantages,
        ref: Velocity | None,
        pairs: list[tuple[int, int]],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        device, sde = trajectory.log_probs.device, trajectory.sde
        indices = torch.tensor(pairs)
        rows = indices[:, 0], indices[:, 1]
        none = trajectory.x0_pred[:1].expand(len(pairs), *trajectory.x0_pred.shape[1:])  # every step has its states
        x, x_next = _gathered(trajectory.states[:-1], *rows, none), _gathered(trajectory.states[1:], *rows, none)
        s, s_next = trajectory.sigmas[rows[1]].to(device), trajectory.sigmas[rows[1] + 1].to(device)
        cond = take(trajectory.cond, rows[0])
        samples, steps = (index.to(device) for index in rows)
        v = velocity(x, s, cond)
        mean = sde.mean(x, v, s, s_next)
        if trajectory.logprob_mean == "guided":
            mean = mean + _gathered(trajectory.shifts, *rows, torch.zeros_like(x))
        new, old = sde.log_prob(x_next, mean, s, s_next), trajectory.log_probs[samples, steps]
        losses = torch.zeros_like(new)
        figures = {"count": torch.tensor(float(len(pairs)), device=device)}
        worth = torch.zeros_like(new)
        for name, coef, all_of in (
            ("orm", self.orm_coef, advantages.orm),
            ("prm", self.prm_coef, advantages.prm),
        ):
            if all_of is not None:
                of_steps = (all_of[samples] if all_of.ndim == 1 else all_of[samples, steps]).to(new.dtype)
                surrogate = clipped_surrogate(new, old, of_steps, self.clip)
                losses = losses + coef * surrogate
                worth = worth + coef * of_steps
                figures[f"surrogate_{name}"] = surrogate.detach().mean()
        guided = [trajectory.targets[k] is not None for _, k in pairs]
        if self.distill_coef and any(guided):
            target = _gathered(trajectory.targets, *rows, v.detach())
            distance = sde.kl(v, target, s, s_next)
            counts = torch.tensor(guided, device=device)
            if self.distill_gated:
                counts = counts & (worth > 0)
            distance = torch.where(counts, distance, 0.0)
            losses = losses + self.distill_coef * distance
            figures["distill"] = distance.detach().mean()
        elif self.distill_coef:
            figures["distill"] = torch.zeros((), device=device)
        if ref is not None:
            with torch.no_grad():
                v_ref = ref(x, s, cond)
            divergence = sde.kl(v, v_ref, s, s_next)
            losses = losses + self.kl_coef * divergence
            figures["kl"] = divergence.detach().mean()
        away = torch.expm1((new - old).detach())
        figures["ratio"] = 1 + away.mean()
        figures["ratio_square"] = away.square().mean()
        figures["clip_fraction"] = (away.abs() > self.clip).float().mean()
        return losses.mean(), figures


def _gathered(
    of_steps: tuple[Tensor | None, ...],
    samples: Int[Tensor, " pairs"],
    steps: Int[Tensor, " pairs"],
    absent: Tensor,
) -> Tensor:
    """The rows of pairs, on the device of ``absent``, which stands in for the steps that have none."""
    parts, places = [], []
    for step in sorted(set(steps.tolist())):
        here = (steps == step).nonzero()[:, 0]
        tensor = of_steps[step]
        rows = absent[here.to(absent.device)] if tensor is None else tensor[samples[here].to(tensor.device)]
        parts.append(rows.to(absent.device))
        places.append(here)
    return torch.cat(parts)[torch.cat(places).argsort().to(absent.device)] if len(parts) > 1 else parts[0]


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _check_alike(samples: int, steps: int, device: torch.device) -> None:
    """All processes go back equally often, or the last would wait for ever."""
    if _processes() == 1:
        return
    mine = torch.tensor([samples, steps], device=device)
    everywhere = [torch.empty_like(mine) for _ in range(_processes())]
    dist.all_gather(everywhere, mine)
    found = torch.stack(everywhere).tolist()
    if any(each != found[0] for each in found):
        raise ValueError(f"processes must have equally many samples and trained steps, got {found}")
