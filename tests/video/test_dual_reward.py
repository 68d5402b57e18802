"""The objective of alignment: its peers' formulas, credit for steps, distillation, and its division into pieces."""

import math

import pytest
import torch
from torch import nn

from aleator.losses import group_advantages
from aleator.sde import FlowSDE, RewardGuidance, gaussian_noise, shifted_sigmas
from aleator.video import DualRewardGRPO, outcome_rewards, rollout
from tests.video.flows import Flow, curved, first, gradients, rolled


def test_without_guidance_it_is_the_loss_of_dancegrpo_by_its_own_formulas():
    flow = Flow()
    path = rolled(flow, prm=None, guidance=None)
    reward = path.x0_pred[:, 0]
    moved = Flow(seed=1)  # ratios that differ from 1
    loss = DualRewardGRPO.dance_grpo(group_size=4, clip=0.2)(moved, path, {"r": reward})
    groups = reward.reshape(2, 4)
    a = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-8)).reshape(-1)
    total, clipped, ratios = 0.0, 0, []
    for k in range(4):  # the last of five is not trained
        s, s_next = float(path.sigmas[k]), float(path.sigmas[k + 1])
        x, x_next, std = path.states[k], path.states[k + 1], 0.5 * math.sqrt(s - s_next)
        log_probs = []
        for net in (moved, flow):
            v = net(x, torch.full((8,), s), path.cond)
            guess = x - s * v
            mean = x - (s - s_next) * (v + 0.5 * 0.5**2 * (x - guess * (1 - s)) / s**2)
            log_probs.append((-((x_next - mean) ** 2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi))).mean(1))
        ratio = torch.exp(log_probs[0] - log_probs[1].detach())
        total += torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.2)).mean() / 4
        clipped += int(((ratio - 1).abs() > 0.2).sum())
        ratios.append(ratio.detach())
    assert 0 < clipped < 32
    torch.testing.assert_close(loss, total, rtol=1e-4, atol=1e-6)
    objective = DualRewardGRPO.dance_grpo(group_size=4, clip=0.2)
    (update,) = objective.updates(moved, path, reward, count=1, piece_size=3)
    update.backward()
    figures, each = update.figures(), torch.stack(ratios)
    found = [float(figures[name]) for name in ("ratio", "ratio_std", "clip_fraction")]
    assert found == pytest.approx([float(each.mean()), float(each.std(correction=0)), clipped / 32], rel=1e-3)


def test_without_guidance_it_is_the_loss_of_flow_grpo_by_its_own_formulas():
    flow, ref = Flow(), Flow(seed=2)
    path = rolled(flow, prm=None, guidance=None, sde=FlowSDE("flow_grpo", 0.7))
    reward, moved = path.x0_pred[:, 0], Flow(seed=1)
    loss = DualRewardGRPO.flow_grpo(group_size=4, clip=0.2, kl_coef=0.3)(moved, path, reward, ref)
    groups = reward.reshape(2, 4)
    a = ((groups - groups.mean(1, keepdim=True)) / (reward.std(correction=0) + 1e-4)).reshape(-1)
    total = 0.0
    for k in range(4):
        s, by = float(path.sigmas[k]), float(path.sigmas[k + 1] - path.sigmas[k])
        level = math.sqrt(s / (1 - (float(path.sigmas[1]) if s == 1 else s))) * 0.7
        x, x_next, std = path.states[k], path.states[k + 1], level * math.sqrt(-by)
        log_probs, means = [], []
        for net in (moved, flow, ref):
            v = net(x, torch.full((8,), s), path.cond)
            mean = x * (1 + level**2 / (2 * s) * by) + v * (1 + level**2 * (1 - s) / (2 * s)) * by
            means.append(mean)
            log_probs.append((-((x_next - mean) ** 2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi))).mean(1))
        ratio = torch.exp(log_probs[0] - log_probs[1].detach())
        divergence = ((means[0] - means[2]) ** 2).mean(1) / (2 * std**2)  # exact: std is that of the step
        total += (torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.2)) + 0.3 * divergence).mean() / 4
    torch.testing.assert_close(loss, total, rtol=1e-4, atol=1e-6)


def test_guidance_of_scale_zero_changes_nothing():
    flow = Flow()
    losses = []
    for guidance in (None, RewardGuidance(scale=0.0)):
        path = rolled(flow, guidance=guidance)
        losses.append(DualRewardGRPO(group_size=4)(Flow(seed=1), path, first(path.x0_pred, None)))
    assert torch.equal(*losses)


@pytest.mark.parametrize(("at", "learns"), [("next", True), ("delta", True), ("current", False)])
def test_a_step_learns_from_the_state_it_led_to_and_not_from_where_it_began(at, learns):
    """With v = θ and r(x) = x the gradient is h c at every step by the next state, and 0 by the current one.

    Advantages are over 10⁵ paths, and are multiplied by their deviation again. Within four standard errors.
    """
    n, sde, grid = 100_000, FlowSDE("constant", 0.5), shifted_sigmas(3, dtype=torch.float64)
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)

    def velocity(x, s, cond):
        of_step = torch.where(s > 0.9, theta[0], theta[1])
        return of_step[:, None].expand_as(x)

    x1 = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    path = rollout(velocity, x1, grid, sde, prm=lambda x, s, cond: x[:, 0], judge_first=True, generator=generator)
    DualRewardGRPO(n, clip=10.0, adv_clip=None, orm_coef=0.0, prm_at=at)(velocity, path).backward()
    r = path.process_rewards
    credit = {"next": r[:, 1:3], "current": r[:, :2], "delta": r[:, 1:3] - r[:, :2]}[at]
    found = theta.grad * credit.std(0) * 2  # the loss is the mean over two steps
    factor = sde.velocity_factor(grid[:2], grid[1:3])
    # ∇log π = −ε h c / std: its product with an advantage of deviation d has at most √2 d times the factor's deviation
    error = 4 * math.sqrt(2 / n) * credit.std(0) * factor / sde.std(grid[:2], grid[1:3])
    expected = factor if learns else torch.zeros(2).double()
    assert bool(((found - expected).abs() < error).all())
    assert bool((error < factor / 4).all())


def test_distillation_makes_the_guided_step_without_guidance():
    """Descent on it alone, from the policy of the rollout, ends where the plain step is the guided one."""

    class Free(nn.Module):
        def __init__(self):
            super().__init__()
            self.v = nn.Parameter(torch.zeros(8, 3))

        def forward(self, x, s, cond):
            return self.v

    free, grid, sde = Free(), torch.tensor([0.8, 0.5, 0.2]), FlowSDE("constant", 0.5)
    x1 = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    settings = {"prm": curved, "guidance": RewardGuidance(scale=2.0), "generator": torch.Generator()}
    path = rollout(free, x1, grid, sde, **settings)
    objective = DualRewardGRPO(8, orm_coef=0.0, prm_coef=0.0, distill_coef=1.0)
    assert path.trained == [0]
    optimizer = torch.optim.LBFGS(free.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = objective(free, path)
        loss.backward()
        return loss

    assert float(closure().detach()) > 1e-3
    optimizer.step(closure)
    s, s_next = grid[0].expand(8), grid[1].expand(8)
    guided = sde.mean(x1, torch.zeros(8, 3), s, s_next) + path.shifts[0]
    torch.testing.assert_close(sde.mean(x1, free.v.detach(), s, s_next), guided, rtol=1e-3, atol=1e-4)


def test_equal_rewards_leave_no_gradient():
    flow = Flow()
    path = rolled(flow, prm=None, guidance=None)
    DualRewardGRPO.dance_grpo(group_size=4)(flow, path, torch.full((8,), 0.1)).backward()
    assert torch.equal(gradients(flow), torch.zeros_like(gradients(flow)))


@pytest.mark.parametrize("piece_size", [1, 5, 1000])
@pytest.mark.parametrize("mean", ["unguided", "guided"])
def test_pieces_add_up_to_the_loss_of_the_whole(piece_size, mean):
    flow, moved, ref = Flow(), Flow(seed=1), Flow(seed=2)
    path = rolled(flow, logprob_mean=mean, guidance=RewardGuidance(scale=1.0, start=1, interval=2))
    objective = DualRewardGRPO(group_size=4, clip=0.2, distill_coef=1.3, kl_coef=0.7)
    loss = objective(moved, path, first(path.x0_pred, None), ref)
    loss.backward()
    whole = gradients(moved).clone()
    moved.zero_grad()
    (update,) = objective.updates(moved, path, first(path.x0_pred, None), ref, count=1, piece_size=piece_size)
    found = update.backward(moved)
    torch.testing.assert_close(found, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(moved), whole, rtol=1e-4, atol=1e-6)
    figures = update.figures()
    assert {name: figures[name] for name in ("orm_first", "prm", "flat_groups")} == objective.advantages(
        path, first(path.x0_pred, None)
    ).figures
    parts = figures["surrogate_orm"] + figures["surrogate_prm"] + 1.3 * figures["distill"] + 0.7 * figures["kl"]
    torch.testing.assert_close(parts, loss.detach(), rtol=1e-4, atol=1e-6)


def test_the_graph_of_one_step_of_one_sample_lives_at_a_time():
    flow = Flow()
    path = rolled(flow)
    alive = most = 0

    class Kept:
        def __init__(self, tensor):
            nonlocal alive, most
            self.tensor = tensor
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    def most_of(samples):
        nonlocal most
        most = 0
        part = rolled(flow, groups=samples // 4)
        (update,) = DualRewardGRPO(group_size=4).updates(flow, part, part.x0_pred[:, 0], count=1)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            update.backward()
        return most

    assert len(path) > 1
    assert most_of(4) == most_of(16) > 0


def test_before_the_first_update_ratios_are_one():
    flow = Flow()
    for mean in ("unguided", "guided"):
        path = rolled(flow, logprob_mean=mean)
        (update,) = DualRewardGRPO(group_size=4).updates(flow, path, path.x0_pred[:, 0], count=1, piece_size=8)
        update.backward()
        figures = update.figures()
        assert float(figures["ratio"]) == pytest.approx(1, abs=2e-6)
        assert float(figures["ratio_std"]) < 2e-6
        assert float(figures["clip_fraction"]) == 0


def shown(objective, path, reward, **settings):
    """The states that the network is shown in each update, as rows."""
    seen = []

    class Watched(Flow):
        def forward(self, x, s, cond):
            seen[-1].append(torch.cat([x, s[:, None]], 1))
            return super().forward(x, s, cond)

    watched = Watched()
    for update in objective.updates(watched, path, reward, **settings):
        seen.append([])
        update.backward()
    return [torch.cat(rows) for rows in seen]


def rows_of(path, samples, steps):
    return torch.cat([torch.cat([path.states[k][samples], path.sigmas[k].expand(len(samples), 1)], 1) for k in steps])


def as_set(rows):
    return {tuple(row) for row in rows.tolist()}


def test_updates_are_of_disjoint_halves_of_every_group():
    path = rolled(Flow(), steps=4)
    one, two = shown(DualRewardGRPO(group_size=4), path, path.x0_pred[:, 0], piece_size=3)
    assert as_set(one) == as_set(rows_of(path, [0, 2, 4, 6], [0, 1, 2]))
    assert as_set(two) == as_set(rows_of(path, [1, 3, 5, 7], [0, 1, 2]))


def test_a_fraction_of_the_steps_is_drawn_for_each_sample_anew():
    path = rolled(Flow(), steps=6, guidance=None)
    objective = DualRewardGRPO(group_size=4, timestep_fraction=0.4)
    generator = torch.Generator().manual_seed(0)
    (rows,) = shown(objective, path, path.x0_pred[:, 0], count=1, generator=generator)
    assert len(rows) == 8 * 2
    times = rows[:, -1].reshape(8, 2)
    assert bool((times[:, 0] > times[:, 1]).all())
    assert len(times.unique(dim=0)) > 1
    assert float(times.min()) > float(path.sigmas[5])  # never the last step


def test_the_best_and_the_worst_of_a_group_are_kept():
    path = rolled(Flow(), steps=2, guidance=None, prm=None)
    reward = torch.tensor([3.0, 1.0, 2.0, 0.0, 5.0, 6.0, 7.0, 8.0])
    (rows,) = shown(DualRewardGRPO.dance_grpo(group_size=4, best_of=2), path, reward, count=1)
    assert as_set(rows) == as_set(rows_of(path, [0, 3, 4, 7], [0]))


def test_advantages_of_named_rewards_are_added_with_their_weights():
    path = rolled(Flow(), prm=None, guidance=None)
    a, b = path.x0_pred[:, 0], path.x0_pred[:, 1] * 100
    objective = DualRewardGRPO.dance_grpo(group_size=4, orm_weights={"a": 2.0, "b": -0.5})
    found = objective.advantages(path, {"a": a, "b": b})
    torch.testing.assert_close(found.orm, 2 * group_advantages(a, 4) - 0.5 * group_advantages(b, 4))
    torch.testing.assert_close(found.figures["orm_b"], b.mean())
    narrow = DualRewardGRPO.dance_grpo(group_size=4, adv_clip=0.5).advantages(path, a)
    assert float(narrow.orm.abs().max()) == 0.5
    flat = objective.advantages(path, {"a": torch.cat([a[:4], torch.zeros(4)]), "b": torch.zeros(8)})
    assert float(flat.figures["flat_groups"]) == 0.5


@pytest.mark.parametrize("at", ["current", "delta"])
def test_credit_that_needs_the_first_state_is_refused_where_it_was_not_judged(at):
    path = rolled(Flow(), guidance=None)
    with pytest.raises(ValueError, match=f"prm_at must be next where the rollout had no judge_first, got {at}"):
        DualRewardGRPO(group_size=4, orm_coef=0.0, prm_at=at).advantages(path)


def test_only_a_window_of_steps_is_trained():
    path = rolled(Flow(), window=(1, 3), guidance=None)
    (rows,) = shown(DualRewardGRPO(group_size=4), path, path.x0_pred[:, 0], count=1)
    assert as_set(rows) == as_set(rows_of(path, range(8), [1, 2]))


def test_gated_distillation_is_of_steps_that_were_worth_it():
    path = rolled(Flow())
    r = path.x0_pred[:, 0]
    settings = {"group_size": 4, "prm_coef": 0.0, "distill_gated": True}
    (update,) = DualRewardGRPO(**settings).updates(Flow(), path, r, count=1)
    update.backward()
    gated = torch.stack([met["distill"] for met in update.met]).reshape(8, 4)
    assert torch.equal(gated.sum(1) > 0, group_advantages(r, 4) > 0)


def test_a_reward_that_is_no_number_is_raised_with_its_name():
    def broken(samples, condition):
        return {"fine": samples[:, 0], "teeth": torch.where(samples[:, 0] > 0, math.nan, 0.0)}

    samples = torch.tensor([[-1.0], [1.0]])
    with pytest.raises(ValueError, match="reward teeth must be finite, got nan for sample 1"):
        outcome_rewards(broken, samples)
    assert outcome_rewards(first, samples)["first"].tolist() == [-1, 1]


@pytest.mark.plain
def test_a_reward_without_a_name_is_refused():
    with pytest.raises(ValueError, match="a reward must return tensors by name, got Tensor"):
        outcome_rewards(lambda samples, condition: samples[:, 0], torch.zeros(2, 1))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"group_size": 1}, {}, "group_size must be at least 2, got 1"),
        ({"group_size": 3}, {}, "a batch must be a multiple of group_size = 3 on every process, got 8"),
        ({"clip": 0.0}, {}, "clip must be positive and finite, got 0.0"),
        ({"adv_clip": -1.0}, {}, "adv_clip must be positive, got -1.0"),
        ({"prm_at": "before"}, {}, "prm_at must be next, current or delta, got 'before'"),
        ({"std": "all"}, {}, "std must be group or batch, got 'all'"),
        ({"kl_coef": -1.0}, {}, "kl_coef must not be negative and must be finite, got -1.0"),
        ({"best_of": 3}, {}, "best_of must be even, from 2 to group_size = 4, got 3"),
        ({"timestep_fraction": 0.0}, {}, r"timestep_fraction must be in \(0, 1\], got 0.0"),
        ({"timestep_fraction": 0.5}, {}, "generator must be given where timestep_fraction is 0.5, got None"),
        ({"kl_coef": 1.0}, {}, "ref must be given where kl_coef is 1, got None"),
        ({"prm_coef": 1.0}, {}, "prm_coef must be 0 where the rollout had no prm, got 1"),
        ({}, {"orm_rewards": None}, "orm_rewards must be given where orm_coef is 1, got None"),
        ({}, {"orm_rewards": {}}, "a reward must return at least one tensor by name, got none"),
        ({}, {"orm_rewards": torch.zeros(4)}, "orm_rewards must be for 8 samples, got 4"),
        ({}, {"orm_rewards": {"a": torch.zeros(8, 1)}}, r"reward a must be of shape \(8,\), got \(8, 1\)"),
        ({}, {"orm_rewards": {"a": torch.full((8,), math.inf)}}, "reward a must be finite, got inf for sample 0"),
        ({"orm_weights": {"b": 1.0}}, {"orm_rewards": {"a": torch.zeros(8)}}, "must name the rewards a, got b"),
        ({"orm_weights": {"a": math.nan}}, {"orm_rewards": {"a": torch.zeros(8)}}, "must be finite, got nan for a"),
        ({}, {"orm_rewards": {"a": [0.0] * 8}}, "reward a must be a tensor, got list"),
        ({}, {"count": 3}, "count must divide the 8 samples, got 3"),
        ({}, {"count": 0}, "count must be at least 1, got 0"),
        ({}, {"piece_size": 0}, "piece_size must be at least 1, got 0"),
        ({}, {"sde": FlowSDE("none")}, "a trajectory must have a step with noise before its last, got none"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings, given, message):
    flow = Flow()
    given = {"orm_rewards": torch.zeros(8), **given}
    path = rolled(flow, prm=None, guidance=None, sde=given.pop("sde", None))
    with pytest.raises(ValueError, match=message) as refusal:
        DualRewardGRPO(**{"group_size": 4, "prm_coef": 0.0, **settings}).updates(flow, path, **given)
    assert "\n" not in str(refusal.value)


def test_noise_is_what_the_caller_draws():
    calls = []

    def noise(like, state, generator):
        calls.append(tuple(like.shape))
        return gaussian_noise(like, state, generator)

    rolled(Flow(), noise=noise)
    assert calls == [(8, 3)] * 5
