"""Rollouts: what they record, and that weighted paths end where the tilted distribution is."""

import math

import pytest
import torch

from aleator.random import ItemGenerator
from aleator.sde import FlowSDE, RewardGuidance, gaussian_noise, shifted_sigmas
from aleator.video import ZeroOrderGuidance, group_noise, repeat_groups, reward_gradient, rollout
from tests.video.flows import GUIDANCE, Flow, curved, rolled

M, Q = 1.5, 0.25


def exact_velocity(x, s, cond):
    s = s[:, None]
    return -M + (s - (1 - s) * Q) / ((1 - s) ** 2 * Q + s**2) * (x - (1 - s) * M)


@pytest.mark.parametrize(("eta", "unweighted", "share"), [(2.0, 1.710, 0.93)])
def test_weighted_paths_end_in_the_tilted_gaussian_and_unweighted_ones_do_not(eta, unweighted, share):
    """N(1.5, ¼) tilted by exp(x) is N(1.75, ¼); guidance alone gets a part of the way. Within 0.015 of the means."""
    n = 4_000
    generator = torch.Generator().manual_seed(0)
    x1 = torch.randn(n // 2, 1, generator=generator, dtype=torch.float64)
    path = rollout(
        exact_velocity,
        torch.cat([x1, -x1]),
        shifted_sigmas(400, dtype=torch.float64),
        FlowSDE("constant", eta),
        prm=lambda x, s, cond: (1 - s) * x[:, 0],
        guidance=RewardGuidance(beta=1.0),
        generator=generator,
        noise=lambda like, state, g: torch.cat([z := gaussian_noise(like[: len(like) // 2], state, g), -z]),
        return_log_weights=True,
    )
    end = path.states[-1][:, 0]
    weights = torch.softmax(path.log_weights, 0)
    assert float(end.mean()) == pytest.approx(unweighted, abs=0.003)
    assert float((weights * end).sum()) == pytest.approx(1.75, abs=0.015)
    assert float((weights * (end - 1.75) ** 2).sum()) == pytest.approx(0.25, abs=0.015)
    assert 1 / float(weights.square().sum()) / n == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("sde", [FlowSDE("constant", 0.5), FlowSDE("flow_grpo", 0.7)], ids=str)
@pytest.mark.parametrize("mean", ["unguided", "guided"])
def test_it_records_the_states_and_their_log_probabilities(sde, mean):
    flow = Flow()
    path = rolled(flow, sde=sde, logprob_mean=mean)
    assert len(path) == 5
    assert path.trained == [0, 1, 2, 3]
    for k in range(5):
        s, s_next = (path.sigmas[i].expand(8) for i in (k, k + 1))
        v = flow(path.states[k], s, path.cond).detach()
        x = path.states[k].clone().requires_grad_()
        (g,) = torch.autograd.grad(curved(x, s, None).sum(), x)
        guided = sde.mean(path.states[k], v, s, s_next, g, GUIDANCE)
        plain = sde.mean(path.states[k], v, s, s_next)
        torch.testing.assert_close(path.shifts[k], guided - plain, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(sde.mean(path.states[k], path.targets[k], s, s_next), guided, rtol=1e-5, atol=1e-6)
        under = plain if mean == "unguided" else guided
        log_prob = sde.log_prob(path.states[k + 1], under, s, s_next)
        torch.testing.assert_close(path.log_probs[:, k], log_prob, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(path.x0_pred, path.states[4] - s[:, None] * v)
    found = torch.stack([curved(path.states[k], path.sigmas[k].expand(8), None) for k in range(5)], 1)
    torch.testing.assert_close(path.process_rewards, found)
    assert not path.x0_pred.requires_grad


def test_a_group_begins_with_the_same_noise_and_ends_apart():
    path = rolled(Flow(), groups=2, size=4)
    begin, end = (path.states[k].reshape(2, 4, 3) for k in (0, -1))
    assert torch.equal(begin, begin[:, :1].expand(2, 4, 3))
    assert not torch.equal(begin[0], begin[1])
    assert len(end.reshape(8, 3).unique(dim=0)) == 8
    own = group_noise(torch.empty(8, 3), 4, same_noise=False, generator=torch.Generator().manual_seed(0))
    assert len(own.unique(dim=0)) == 8
    assert torch.equal(own[::4], begin[:, 0])


def test_process_rewards_are_recorded_in_all_steps_and_guidance_acts_in_its_own():
    guided = rolled(Flow(), guidance=RewardGuidance(scale=1.0, start=1, end=4, interval=2))
    assert [shift is not None for shift in guided.shifts] == [False, True, False, True, False]
    assert guided.process_rewards.shape == (8, 5)
    plain = rolled(Flow(), guidance=None)
    assert torch.equal(plain.states[1], guided.states[1])
    assert not torch.equal(plain.states[2], guided.states[2])
    assert plain.figures == {}
    stds = [guided.sde.std(*(guided.sigmas[i][None] for i in (k, k + 1))) for k in (1, 3)]
    ratios = torch.stack([guided.shifts[k].norm(dim=1) / std for k, std in zip((1, 3), stds, strict=True)])
    torch.testing.assert_close(guided.figures["shift_over_std"], ratios.mean())


def test_states_are_judged_once_each_and_those_that_no_trained_step_leads_to_only_if_asked_for():
    judged = []

    def watched(x, s, cond):
        judged.append(float(s[0]))
        return curved(x, s, cond)

    late = {"prm": watched, "guidance": RewardGuidance(scale=1.0, start=2)}
    path = rolled(Flow(), **late)
    assert judged == path.sigmas[1:-1].tolist()
    assert path.process_rewards.isnan().all(0).tolist() == [True, False, False, False, False]
    judged.clear()
    whole = rolled(Flow(), **late, judge_first=True)
    assert judged == path.sigmas[:-1].tolist()
    assert torch.equal(whole.process_rewards[:, 1:], path.process_rewards[:, 1:])
    torch.testing.assert_close(whole.process_rewards[:, 0], curved(path.states[0], path.sigmas[0].expand(8), None))
    judged.clear()
    rolled(Flow(), prm=watched)  # guided from the first step on
    assert judged == path.sigmas[:-1].tolist()


def test_guidance_by_a_black_box_is_added_to_that_by_a_process_reward():
    drawn = []

    def noise(like, state, generator):
        drawn.append(gaussian_noise(like, state, generator))
        return drawn[-1]

    def black_box(x, cond):
        return x @ torch.tensor([1.0, -2.0, 0.5])

    zero = ZeroOrderGuidance(black_box, RewardGuidance(scale=0.3, start=1, end=2))
    path = rolled(Flow(), zero_order=zero, noise=noise)
    assert len(drawn) == 5 + 1
    s, s_next = (path.sigmas[i].expand(8) for i in (1, 2))
    x, u = path.states[1], drawn[2]  # after the noise of two steps
    _, g = reward_gradient(curved, x, s)
    slope = (u @ torch.tensor([1.0, -2.0, 0.5]))[:, None] * u
    h = (s - s_next)[:, None]
    torch.testing.assert_close(path.shifts[1], 0.5**2 * h * g + 0.3 * h * slope, rtol=1e-3, atol=1e-4)
    plain = path.sde.mean(x, Flow()(x, s, path.cond).detach(), s, s_next)
    noisy = plain + path.shifts[1] + path.sde.std(s, s_next)[:, None] * drawn[1]
    torch.testing.assert_close(path.states[2], noisy, rtol=1e-4, atol=1e-5)


def test_outside_a_window_steps_follow_the_ode_and_are_not_trained():
    path = rolled(Flow(), window=(1, 3), guidance=None)
    assert path.random == (False, True, True, False, False)
    assert path.trained == [1, 2]
    assert path.log_probs.isnan().all(0).tolist() == [True, False, False, True, True]
    s, s_next = (path.sigmas[i].expand(8) for i in (3, 4))
    v = Flow()(path.states[3], s, path.cond).detach()
    torch.testing.assert_close(path.states[4], FlowSDE("none").mean(path.states[3], v, s, s_next))


def test_a_sample_does_not_depend_on_its_batch_where_numbers_belong_to_items():
    flow, grid, sde = Flow(), shifted_sigmas(4), FlowSDE()

    def ends(items):
        generator = ItemGenerator(3, items)
        x1 = gaussian_noise(torch.empty(len(items), 3), 0, generator)
        zero = ZeroOrderGuidance(lambda x, cond: x[:, 0], RewardGuidance(scale=0.1))
        return rollout(flow, x1, grid, sde, prm=curved, guidance=GUIDANCE, zero_order=zero, generator=generator)

    whole, part = ends(range(6)), ends([4, 5])
    torch.testing.assert_close(whole.states[-1][4:], part.states[-1], rtol=1e-5, atol=1e-6)


def test_states_are_kept_on_the_device_asked_for_and_are_the_same():
    path, moved = rolled(Flow()), rolled(Flow(), offload="cpu")
    assert all(torch.equal(a, b) for a, b in zip(path.states, moved.states, strict=True))
    meta = rolled(Flow(), offload="meta")
    assert {x.device.type for x in meta.states + meta.shifts + meta.targets} == {"meta"}
    assert torch.equal(meta.x0_pred, path.x0_pred)


def test_conditions_are_repeated_for_the_samples_of_a_group():
    cond = {"text": torch.tensor([1, 2]), "more": (torch.tensor([[3], [4]]), None, "name")}
    repeated = repeat_groups(cond, 2)
    assert repeated["text"].tolist() == [1, 1, 2, 2]
    assert repeated["more"][0].tolist() == [[3], [3], [4], [4]]
    assert repeated["more"][1:] == (None, "name")


@pytest.mark.plain
def test_texts_in_the_place_of_their_embeddings_are_not_taken_for_rows():
    with pytest.raises(ValueError, match=r"tensors with a row for each sample, got texts, \['a cat', 'a dog'\]"):
        repeat_groups({"prompt": ["a cat", "a dog"]}, 2)


def nan_in_step(x, s, cond):
    return x * math.nan


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigmas": torch.tensor([1.0, 0.5, 0.5])}, "sigmas must decrease strictly within .*, got 1, 0.5, 0.5"),
        ({"sigmas": torch.tensor([1.2, 0.5])}, r"sigmas must decrease strictly within \[0, 1\], got 1.2, 0.5"),
        ({"sigmas": torch.tensor([1.0])}, "sigmas must be at least two numbers in a row"),
        ({"sigmas": torch.tensor([1.0, math.nan, 0.0])}, "sigmas must decrease strictly"),
        ({"prm": None}, "prm must be given where guidance is, got None"),
        ({"prm": lambda x, s, cond: x}, r"prm must return one number for each of 2 samples, got shape \(2, 3\)"),
        ({"prm": lambda x, s, cond: x.detach()[:, 0]}, "prm must be differentiable in the states where it guides"),
        ({"prm": lambda x, s, cond: x[:, 0] * math.nan}, "prm must return finite rewards, got nan"),
        ({"velocity": nan_in_step, "prm": None, "guidance": None}, "velocity and the gradients .* finite, got nan"),
        ({"velocity": lambda x, s, cond: x[:, :2]}, r"v must have the shape of the state, \(2, 3\), got \(2, 2\)"),
        ({"x1": torch.zeros(2, 3).bfloat16()}, "x1 must be float32 or float64"),
        ({"logprob_mean": "both"}, "logprob_mean must be unguided or guided, got 'both'"),
        ({"window": (2, 2)}, r"window must be \(first, after\) with 0 <= first < after <= 2, got \(2, 2\)"),
        ({"generator": None}, "generator must be given where noise is constant, got None"),
        ({"return_log_weights": True, "guidance": RewardGuidance(scale=1.0)}, "return_log_weights needs guidance by"),
        ({"return_log_weights": True, "guidance": RewardGuidance(beta=1.0, start=1)}, "guidance in all 2 steps"),
        (
            {"return_log_weights": True, "window": (0, 1)},
            r"return_log_weights cannot be used with window, got \(0, 1\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    given = {
        "velocity": lambda x, s, cond: x,
        "x1": torch.zeros(2, 3),
        "sigmas": shifted_sigmas(2),
        "sde": FlowSDE(),
        "prm": curved,
        "guidance": GUIDANCE,
        "generator": torch.Generator(),
        **changes,
    }
    with pytest.raises(ValueError, match=message) as refusal:
        rollout(**given)
    assert "\n" not in str(refusal.value)
