"""The value error by hand, and evaluations that change nothing."""

import math

import numpy as np
import pytest
import torch

from aleator.rl import STAC, Evaluator, evaluation, value_error
from tests.rl.spaces import SMALL
from tests.rl.worlds import Counting

Q, R, LOG = [10.0, 8.0, 5.0], [1.0, 2.0, 3.0], [-0.5, 0.2, 1.0]


@pytest.mark.parametrize("terminated", [True, False])
def test_the_value_error_is_the_formula(terminated):
    alpha, gamma = 0.2, 0.9
    soft = [q - alpha * log for q, log in zip(Q, LOG, strict=True)]
    last = 3.0 - alpha * 1.0 if terminated else soft[2]
    second = 2.0 - alpha * 0.2 + gamma * last
    first = 1.0 - alpha * -0.5 + gamma * second
    expected = (soft[0] - first + soft[1] - second + soft[2] - last) / 3
    assert value_error(Q, R, LOG, alpha, gamma, terminated) == pytest.approx(expected, rel=1e-12)
    tensors = [torch.tensor(x, dtype=torch.float64) for x in (Q, R, LOG)]
    assert value_error(*tensors, alpha, gamma, terminated) == pytest.approx(expected, rel=1e-12)


def test_a_critic_that_knows_the_soft_return_has_no_error():
    alpha, gamma = 0.3, 0.95
    following, q = 0.0, []
    for reward, log in zip(R[::-1], LOG[::-1], strict=True):
        following = reward - alpha * log + gamma * following
        q.append(following + alpha * log)
    assert value_error(q[::-1], R, LOG, alpha, gamma, True) == pytest.approx(0, abs=1e-12)


def test_an_evaluation_reports_episodes_and_draws_nothing_of_the_agents():
    env = Counting()
    agent = STAC(env.observation_space, env.action_space, **SMALL)
    before = agent.streams.state_dict()
    evaluator = Evaluator(lambda: Counting(ends=4), 3)
    for actions in ("mean", "average"):
        first, again = (evaluator(agent, 7, actions=actions) for _ in range(2))
        assert first.returns.tolist() == again.returns.tolist() == [10.0] * 3
        assert first.lengths.tolist() == [4] * 3
    assert np.isnan(first.value_errors).all()
    after = agent.streams.state_dict()
    assert all(torch.equal(a["state"], b["state"]) for a, b in zip(before["torch"], after["torch"], strict=True))


def test_a_cut_episode_has_the_critics_estimate_behind_it_and_an_end_has_nothing():
    env = Counting()
    agent = STAC(env.observation_space, env.action_space, **SMALL)
    with torch.no_grad():
        last = agent.critic.layers[-1]
        last.weight.zero_()
        last.bias[0] = 7.0
    end, cut = (Evaluator(lambda kind=kind: Counting(**kind), 1)(agent, 0) for kind in ({"ends": 4}, {"cut": 4}))
    share = np.mean([agent.settings.gamma**step for step in range(4)])
    assert end.value_errors[0] - cut.value_errors[0] == pytest.approx((7 - 4) * share, rel=1e-6)


def test_the_averaged_action_is_the_mean_of_ten_draws_and_the_same_for_one_key():
    env = Counting()
    agent = STAC(env.observation_space, env.action_space, **SMALL)
    sums = {}
    for key in (1, 2):
        world = Counting(cut=2)
        Evaluator(lambda world=world: world, 1)(agent, key, actions="average")
        sums[key] = world.state[2]
    assert sums[1] != sums[2]
    assert all(-2 < total / 2 < 4 for total in sums.values())


def test_the_error_of_a_cut_episode_is_finite_with_saturated_actions():
    env = Counting()
    agent = STAC(env.observation_space, env.action_space, **SMALL)
    with torch.no_grad():
        agent.actor.layers[-1].bias[0] = 40.0  # tanh is 1 exactly
    found = Evaluator(lambda: Counting(cut=3), 1)(agent, 0)
    assert all(math.isfinite(error) for error in found.value_errors)


@pytest.mark.plain
def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one number for each step, got 2, 3 and 3"):
        value_error(Q[:2], R, LOG, 0.1, 0.9, True)
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        Evaluator(Counting, 0)


@pytest.mark.plain
def test_an_episode_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST", 4)
    agent = STAC(Counting().observation_space, Counting().action_space, **SMALL)
    assert Evaluator(lambda: Counting(cut=4), 1)(agent, 0).lengths.tolist() == [4]
    with pytest.raises(ValueError, match=r"an episode must end, got 4 steps; gymnasium\.wrappers\.TimeLimit"):
        Evaluator(Counting, 1)(agent, 0)
