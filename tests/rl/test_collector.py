"""Collection: ends, cuts and resets where they belong, seeds by key, and environments that come back after a resume."""

import logging

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy.stats import kstest

from aleator.random import derive_key
from aleator.rl import STAC, learn_when_due, vectorised
from tests.rl.spaces import SMALL
from tests.rl.worlds import Counting


def agent_for(env, **settings):
    return STAC(env.observation_space, env.action_space, **{**SMALL, "learning_starts": 1000, **settings})


def collected(make, steps, count=1, **settings):
    agent = agent_for(make(), **settings)
    collector = agent.collector(vectorised(make, count))
    for _ in range(steps):
        collector.step()
    return agent, collector, agent.replay.batch(torch.arange(agent.replay.size))


def test_an_end_is_an_end_and_a_cut_is_not_and_both_keep_their_last_observation():
    for kind, terminated in (({"ends": 4}, 3), ({"cut": 4}, 0)):
        _, collector, batch = collected(lambda kind=kind: Counting(**kind), 12)
        assert collector.episodes.tolist() == [3]
        assert batch.obs[:, 1].tolist() == [0, 1, 2, 3] * 3
        assert batch.next_obs[:, 1].tolist() == [1, 2, 3, 4] * 3
        assert (batch.next_obs[:, 0] == batch.obs[:, 0]).all(), "no transition leads from one episode to the next"
        assert int(batch.terminated.sum()) == terminated
        assert list(collector.returns) == [10.0] * 3


def test_each_episode_of_each_environment_has_a_seed_of_its_own():
    batch = collected(lambda: Counting(cut=2), 4, count=2)[2]
    expected = [derive_key(0, "key", "episode", env, episode) % 1000 for env in range(2) for episode in range(2)]
    assert sorted(set(batch.obs[:, 0].tolist())) == sorted(expected)
    assert len(set(expected)) == 4


def test_learning_again_begins_other_episodes():
    agent = agent_for(Counting())
    for _ in range(3):
        agent.learn(lambda: Counting(ends=5), 5)
    starts = agent.replay.batch(torch.tensor([0, 5, 10])).obs[:, 0].tolist()
    assert len(set(starts)) == 3


def test_a_vector_environment_may_write_into_one_array():
    envs = SyncVectorEnv([lambda: Counting(ends=4)], autoreset_mode=AutoresetMode.DISABLED, copy=False)
    agent = agent_for(Counting())
    collector = agent.collector(envs)
    for _ in range(8):
        collector.step()
    batch = agent.replay.batch(torch.arange(8))
    assert batch.obs[:, 1].tolist() == [0, 1, 2, 3] * 2
    assert batch.next_obs[:, 1].tolist() == [1, 2, 3, 4] * 2


def test_what_is_sent_is_what_is_kept_in_the_boxs_units():
    batch = collected(Counting, 5)[2]
    moved = batch.next_obs[:, 2] - batch.obs[:, 2]
    torch.testing.assert_close(moved, 1 + 3 * batch.action[:, 0], rtol=1e-4, atol=1e-4)
    assert (batch.action.abs() < 1).all()


def test_learning_begins_behind_its_start_without_catching_up():
    agent = agent_for(Counting(), learning_starts=30)
    collector = agent.collector(Counting())
    learned = [bool(learn_when_due(agent, collector)[1]) for _ in range(33)]
    assert learned == [False] * 30 + [True] * 3


def test_nothing_is_learned_from_less_than_a_batch():
    agent = agent_for(Counting(), learning_starts=0)
    collector = agent.collector(Counting())
    assert [bool(learn_when_due(agent, collector)[1]) for _ in range(17)] == [False] * 15 + [True] * 2


def test_the_first_actions_are_tanh_of_noise():
    batch = collected(Counting, 100)[2]
    # Kolmogorov-Smirnov, false alarm 1e-4.
    assert kstest(np.arctanh(batch.action[:, 0].double().numpy()), "norm").pvalue > 1e-4


@pytest.mark.parametrize("env", ["Pendulum-v1", "HalfCheetah-v5", "RiskyPointMass-v0"])
def test_environments_come_back_bit_for_bit(env):
    made = gymnasium.make(env)
    agents = [agent_for(made, learning_starts=20) for _ in range(2)]
    first, second = (agent.collector(vectorised(env, 2)) for agent in agents)
    for _ in range(15):
        learn_when_due(agents[0], first)
    agents[1].load_training_state(agents[0].training_state())
    agents[1].streams.load_state_dict(agents[0].streams.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(15):
        for agent, collector in zip(agents, (first, second), strict=True):
            learn_when_due(agent, collector)
    for a, b in zip(*(agent.state_dict().values() for agent in agents), strict=True):
        assert torch.equal(a, b)
    batches = [agent.replay.batch(torch.arange(60)) for agent in agents]
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def test_environments_at_different_steps_of_their_episodes_come_back():
    envs = [SyncVectorEnv([lambda: Counting(ends=3), lambda: Counting(cut=5)], autoreset_mode=AutoresetMode.DISABLED)
            for _ in range(2)]  # fmt: skip
    agents = [agent_for(Counting()) for _ in range(2)]
    first, second = (agent.collector(env) for agent, env in zip(agents, envs, strict=True))
    for _ in range(8):  # two steps into the third episode of one, three into the second of the other
        first.step()
    second.load_state_dict(first.state_dict())
    assert [env.state.tolist() for env in envs[0].envs] == [env.state.tolist() for env in envs[1].envs]
    assert second.episodes.tolist() == [2, 1]


def test_an_environment_that_does_not_come_back_begins_a_new_episode_and_says_so(caplog):
    agents = [agent_for(Counting()) for _ in range(2)]
    first, second = (agent.collector(Counting(noise=True)) for agent in agents)
    for _ in range(4):
        first.step()
    with caplog.at_level(logging.WARNING):
        second.load_state_dict(first.state_dict())
    assert "1 of 1 environments are not deterministic" in caplog.text
    assert second.episodes.tolist() == [1]
    assert second.envs.envs[0].state[1] == 0


@pytest.mark.plain
@pytest.mark.parametrize(("bad", "what"), [("reward", "reward"), ("range", "reward"), ("observation", "observation")])
def test_numbers_that_are_none_are_refused(bad, what):
    agent = agent_for(Counting())
    with pytest.raises(ValueError, match=f"every {what} of an environment must be finite"):
        agent.learn(Counting(bad=bad), 5)


@pytest.mark.plain
def test_vector_environments_that_reset_themselves_and_other_spaces_are_refused():
    agent = agent_for(Counting())
    with pytest.raises(ValueError, match=r"autoreset_mode AutoresetMode\.DISABLED, got AutoresetMode\.NEXT_STEP"):
        agent.learn(SyncVectorEnv([Counting]), 5)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        agent.learn(Counting, 5, n_envs=0)
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        agent.learn(Counting, 0)
    with pytest.raises(ValueError, match="observation space must be"):
        agent.learn("Pendulum-v1", 5)
    with pytest.raises(ValueError, match="env must be registered with gymnasium, got 'Nowhere-v0'"):
        agent.learn("Nowhere-v0", 5)
