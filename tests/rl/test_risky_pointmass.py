"""RiskyPointMass-v0: its rules at hand-made points, its starts, and that its seed is all its chance."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from aleator.rl import risky_pointmass_risk, risky_pointmass_step


def test_the_risk_is_the_formula_inside_and_nothing_outside():
    states = np.array([[0.5, 0.5], [0.5, 0.75], [0.5, 0.81], [1.0, 1.0]])
    assert risky_pointmass_risk(states).tolist() == pytest.approx([0.1, 0.1 * np.exp(-4 * 0.0625 / 0.09), 0, 0])


def test_a_step_pays_for_the_state_before_the_move():
    state = np.array([[0.3, 0.4], [0.95, 0.0], [0.5, 0.5], [0.03, 0.03]])
    action = np.array([[0.5, -0.5], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    slip = np.full((4, 2), 0.02)
    following, reward, ended = risky_pointmass_step(state, action, slip, np.array([0.5, 0.0, 0.05, 0.0]))
    assert following[0].tolist() == pytest.approx([0.352, 0.352])
    assert following[1].tolist() == [1.0, 0.0]
    length = np.linalg.norm(state, axis=1)
    assert reward.tolist() == pytest.approx([-length[0] - 0.1, -1.05, -length[2] - 10.1, -length[3] - 0.1])
    assert ended.tolist() == [False, False, False, True]


def test_starts_are_outside_the_circle_and_everywhere_there():
    env = gymnasium.make("aleator.rl:RiskyPointMass-v0")
    starts = np.array([env.reset(seed=seed)[0] for seed in range(300)])
    assert ((starts - 0.5) ** 2).sum(1).min() > 0.09 - 1e-6
    assert starts.min() >= 0.3
    assert starts.dtype == np.float32
    for corner in ([0.3, 1.0], [1.0, 0.3], [1.0, 1.0]):
        assert np.abs(starts - corner).sum(1).min() < 0.25


def test_a_seed_is_all_its_chance():
    def rewards():
        env = gymnasium.make("RiskyPointMass-v0")
        env.reset(seed=3)
        return [env.step(np.float32([-0.3, -0.3]))[1] for _ in range(15)]

    assert rewards() == rewards()


def test_it_is_a_gymnasium_environment_that_can_be_seen():
    check_env(gymnasium.make("RiskyPointMass-v0", render_mode="rgb_array").unwrapped)
    env = gymnasium.make("RiskyPointMass-v0", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (160, 160, 3)
    at = env.unwrapped.state
    assert picture[159 - int(at[1] * 160), int(at[0] * 160)].tolist() == [0, 0, 0]


def test_an_episode_is_cut_after_two_hundred_steps():
    env = gymnasium.make("RiskyPointMass-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(200)]
    assert ends[-1] == (False, True)
    assert ends[-2] == (False, False)
