"""Process rewards: how good a state is before it is finished, r_s(x), and its gradient.

A network that tells good data from bad ones after noise has been added learns

    r_s(x) = log P(good | x_s = x) / P(bad | x_s = x)

from x_s = (1 − s) x₀ + s z at random s, by binary cross entropy on batches that are half good and half bad; or, from
pairs of which one is better, by −log σ(r(better) − r(worse)) (Bradley-Terry). This is up to a constant what a flow that
is steered towards good data has to follow.

R. Zhong et al., "Euphonium", arXiv 2602.04928, whose process reward model was trained on about 200 000 judged videos.
Its training program is not public: this recipe is the house's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.utils.checkpoint import checkpoint

from aleator.sde import Noise, gaussian_noise, over_trailing
from aleator.video.groups import take

Objective = Literal["bce", "bradley_terry"]
Net = TypeVar("Net", bound=nn.Module)


# States [batch, ...], times [batch] and a condition, or None → one number for each sample: logits.
ProcessReward: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]


def score(prm: ProcessReward, x: Tensor, s: Tensor, cond: Any) -> Float[Tensor, " batch"]:
    """Return the process rewards of states, at least in float32.

    Raises:
        ValueError: if there is not one for each sample.
    """
    r = prm(x, s, cond)
    if r.shape != x.shape[:1]:
        raise ValueError(f"prm must return one number for each of {len(x)} samples, got shape {tuple(r.shape)}")
    return r.to(torch.promote_types(r.dtype, torch.float32))


def reward_gradient(
    prm: ProcessReward, x: Float[Tensor, "batch ..."], s: Float[Tensor, " batch"], cond: Any = None
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch ..."]]:
    """Return the process rewards of states and their gradients in the states; parameters get none.

    Args:
        prm: (x, s, cond) → rewards. It takes the memory of a training step; `checkpointed` makes that less.
        x: the states.
        s: their times.
        cond: handed on to ``prm``.

    Raises:
        ValueError: if rewards are not of shape [batch], or do not depend on the states by something differentiable.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        r = score(prm, x, s, cond)
        gradient = torch.autograd.grad(r.sum(), x, allow_unused=True)[0] if r.requires_grad else None
    if gradient is None:
        raise ValueError(
            "prm must be differentiable in the states where it guides, got no gradient; "
            "what is not guides by zero_order"
        )
    return r.detach(), gradient


@contextlib.contextmanager
def checkpointed(net: nn.Module) -> Iterator[None]:
    """Let every block of a network's lists of blocks keep its input alone, and compute the rest again going back.

    The gradient is the same. The blocks are what stands in the `torch.nn.ModuleList` and `torch.nn.Sequential` that are
    not inside one another.

    Raises:
        ValueError: if the network has no such list.
    """
    blocks = [*_blocks(net)]
    if not blocks:
        raise ValueError(f"net must have a ModuleList or Sequential of blocks, got {type(net).__name__}")
    before = [block.__dict__.get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = _again_going_back(block.forward)
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def process_reward_loss(
    net: ProcessReward,
    latents: Float[Tensor, "batch ..."],
    labels: Tensor,
    s: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch ..."],
    cond: Any = None,
    *,
    objective: Objective = "bce",
) -> Float[Tensor, ""]:
    """Return the loss of a batch of data with noise.

    Args:
        net: (x, s, cond) → logits.
        latents: x₀.
        labels: for "bce" the probability of being good, in [0, 1], of shape [batch]. For "bradley_terry" pairs of rows
            (better, worse), of shape [pairs, 2]; a pair should have one time and one condition.
        s: times in [0, 1].
        noise: z, standard normal.
        cond: handed on to ``net``.
        objective: what is learned from.

    Raises:
        ValueError: if shapes do not fit or the objective is unknown.
    """
    if noise.shape != latents.shape:
        raise ValueError(f"noise must have the shape of latents, {tuple(latents.shape)}, got {tuple(noise.shape)}")
    times = over_trailing(s, latents).to(latents.dtype)
    logits = score(net, (1 - times) * latents + times * noise, s, cond)
    check_labels(labels, len(latents), objective)
    if objective == "bce":
        return binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    better, worse = labels.to(logits.device).unbind(1)
    return softplus(logits[worse] - logits[better]).mean()


def train_process_reward(
    net: Net,
    latents: Float[Tensor, "items ..."],
    labels: Tensor,
    objective: Objective = "bce",
    *,
    generator: torch.Generator | None = None,
    cond: Any = None,
    steps: int = 1500,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    noise: Noise = gaussian_noise,
) -> Net:
    """Train a process reward on judged data and return it, with AdamW and a rate that falls to 0 as a cosine.

    Args:
        net: (x, s, cond) → logits; trained in place, in the mode that it is in.
        latents: x₀ of all judged data.
        labels: for "bce" 0 or 1, of shape [items], both of which must be there: half of every batch is good. For
            "bradley_terry" pairs of rows (better, worse), of shape [pairs, 2].
        objective: what is learned from.
        generator: of the choices, the times and the noise, on the CPU; None stands for one of seed 0.
        cond: condition of the data, with a row for each.
        steps: how many.
        batch_size: data of a step, even.
        lr: the first learning rate.
        weight_decay: of AdamW.
        noise: draws standard noise.

    Raises:
        ValueError: if a value is out of range, or the labels do not fit.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if batch_size < 2 or batch_size % 2:
        raise ValueError(f"batch_size must be even and positive, got {batch_size}")
    check_labels(labels, len(latents), objective)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    half = batch_size // 2
    sides = _good_and_bad(labels) if objective == "bce" else None
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    judged = torch.cat([torch.ones(half), torch.zeros(half)]).to(latents.device)
    pairs = torch.arange(batch_size, device=latents.device).reshape(2, half).T
    for _ in range(steps):
        s = torch.rand(half, generator=generator)
        if sides is not None:
            rows = torch.cat([side[torch.randint(len(side), (half,), generator=generator)] for side in sides])
            s = torch.cat([s, torch.rand(half, generator=generator)])
        else:
            rows = labels[torch.randint(len(labels), (half,), generator=generator)].T.reshape(-1)
            s = s.repeat(2)
        x0 = latents[rows.to(latents.device)]
        z = noise(torch.empty_like(x0, device="cpu"), 0, generator).to(x0.device)
        given = take(cond, rows)
        wanted = judged if sides is not None else pairs
        loss = process_reward_loss(net, x0, wanted, s.to(x0.device), z, given, objective=objective)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()  # or whoever trains on would add to the last one
    return net


def check_labels(labels: Tensor, rows: int, objective: str) -> None:
    """Refuse labels of another shape than the objective's, or outside what they may be.

    Raises:
        ValueError: if so, or if the objective is unknown.
    """
    if objective == "bce":
        if labels.shape != (rows,):
            raise ValueError(f"labels must be one for each of {rows} latents, got shape {tuple(labels.shape)}")
        wrong = ~((labels >= 0) & (labels <= 1))
        if bool(wrong.any()):
            raise ValueError(f"labels must be in [0, 1], got {float(labels[wrong][0]):g}")
    elif objective == "bradley_terry":
        if labels.ndim != 2 or labels.shape[1] != 2 or labels.is_floating_point():
            raise ValueError(
                f"labels must be pairs of rows (better, worse), got {labels.dtype} of {tuple(labels.shape)}"
            )
        wrong = (labels < 0) | (labels >= rows)
        if bool(wrong.any()):
            raise ValueError(f"labels must be rows in [0, {rows}), got {int(labels[wrong][0])}")
    else:
        raise ValueError(f"objective must be bce or bradley_terry, got {objective!r}")


def _good_and_bad(labels: Tensor) -> tuple[Int[Tensor, " good"], Int[Tensor, " bad"]]:
    good, bad = (labels == 1).nonzero()[:, 0].cpu(), (labels == 0).nonzero()[:, 0].cpu()
    if not len(good) or not len(bad) or len(good) + len(bad) < len(labels):
        raise ValueError(
            f"labels must be 0 and 1 and have both, got {len(bad)} of 0 and {len(good)} of 1 among {len(labels)}"
        )
    return good, bad


def _blocks(net: nn.Module) -> Iterator[nn.Module]:
    for child in net.children():
        if isinstance(net, nn.ModuleList | nn.Sequential):
            yield child
        else:
            yield from _blocks(child)


def _again_going_back(forward: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
