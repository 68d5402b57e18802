"""Agents as a user meets them: spaces, saving, normalisation, callbacks, bad input."""

import copy
import json
import pickle

import gymnasium
import numpy as np
import pytest
import torch

from aleator.random import Streams
from aleator.rl import DSAC, ESTAC, SAC, STAC, KeepBest, agent_file, published_settings
from tests.rl.spaces import SMALL, a_batch, box
from tests.rl.worlds import Counting

AGENTS = (STAC, SAC, ESTAC, DSAC)


def test_parameters_come_as_promised():
    agent = STAC(box(17), box(6))
    kinds = [type(layer).__name__ for layer in agent.critic.layers]
    assert kinds == ["Linear", "LayerNorm", "Linear", "LayerNorm", "Linear"]
    assert sum(p.numel() for p in agent.critic.parameters()) == 73_474
    assert agent.critic.layers[-1].bias[1] == 0 != agent.critic.layers[-1].bias[0]
    assert agent.actor.layers[-1].out_features == 12
    assert agent.alpha.item() == pytest.approx(0.2)
    assert agent.temperature.target_entropy == -6
    double = SAC(box(17), box(6))
    assert len(double.critics) == len(double.target_critics) == 2
    assert not torch.equal(double.critics[0].layers[0].weight, double.critics[1].layers[0].weight)


def test_actions_are_in_the_environments_units_and_repeat_when_asked():
    env = Counting()
    agent = STAC(env.observation_space, env.action_space, **SMALL)
    obs = env.reset(seed=1)[0]
    action = agent.act(obs, deterministic=True)
    assert action.dtype == np.float32
    assert action.shape == (1,)
    assert env.action_space.contains(action)
    assert action == agent.act(obs, deterministic=True) != agent.act(obs)
    with pytest.raises(ValueError, match="obs must be finite, got nan"):
        agent.act(np.array([0.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match=r"obs must have 3 coordinates, got shape \(2,\)"):
        agent.act(np.zeros(2))
    rows = agent.act(torch.zeros(4, 3), deterministic=True)
    assert isinstance(rows, torch.Tensor)
    assert rows.shape == (4, 1)
    # 1 is the middle of [-2, 4], so 0 inside.
    inside = agent.judged(torch.zeros(1, 3), torch.zeros(1, 1))
    assert [x.item() for x in agent.value(np.zeros((1, 3)), np.ones((1, 1)))] == [x.item() for x in inside]


@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize("rule", ["exp_sgd", "adam"])
def test_a_saved_agent_goes_on_where_it_was(kind, rule, tmp_path):
    env = Counting(ends=7)
    settings = {**SMALL, "temperature_rule": rule, "actor_dropout": 0.1, "normalize_obs": True}
    agent = kind(env.observation_space, env.action_space, seed=5, **settings).learn(env, 30)
    agent.save(tmp_path / "agent", replay=True)
    other = kind.load(tmp_path / "agent")
    names = sorted(path.name for path in (tmp_path / "agent").iterdir())
    assert [name.partition("-")[0] for name in names] == ["agent", "agent.json", "replay"]
    for _ in range(3):
        mine, theirs = agent.update_from_replay(), other.update_from_replay()
        assert {k: v.item() for k, v in mine.items()} == {k: v.item() for k, v in theirs.items()}
    for a, b in zip(agent.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    obs = env.reset(seed=2)[0]
    assert agent.act(obs) == other.act(obs)


def test_a_loaded_agent_goes_on_learning_without_random_actions(tmp_path):
    agent = STAC(Counting().observation_space, Counting().action_space, **SMALL).learn(Counting(ends=5), 40)
    agent.save(tmp_path, replay=True)
    learned = []
    loaded = STAC.load(tmp_path).learn(
        Counting(ends=5), 10, callback=lambda agent, collector, metrics: learned.append(bool(metrics))
    )
    assert learned == [True] * 10
    starts = loaded.replay.batch(torch.arange(0, 50, 5)).obs[:, 0].tolist()
    assert not set(starts[:8]) & set(starts[8:]), "the same episodes again"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_copy_learns_as_its_original_does_and_apart_from_it(again, steps):
    agent = STAC(box(3), box(2), **SMALL)
    batch = a_batch(16, dtype=torch.float32)
    for _ in range(steps):
        agent.update(batch)
    other = again(agent)
    before = [p.clone() for p in agent.parameters()]
    other.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.parameters(), strict=True))
    agent.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(agent.parameters(), other.parameters(), strict=True))


def test_a_save_without_replay_takes_an_older_replay_away(tmp_path):
    agent = STAC(box(3), box(2), **SMALL)
    agent.save(tmp_path, replay=True)
    agent.save(tmp_path)
    assert STAC.load(tmp_path).replay.size == 0
    assert not list(tmp_path.glob("replay-*"))


def test_a_save_that_is_interrupted_leaves_the_older_one_whole(tmp_path, monkeypatch):
    agent = STAC(box(3), box(2), **SMALL)
    agent.save(tmp_path, replay=True)
    before = {name: p.clone() for name, p in agent.named_parameters()}
    agent.update(a_batch(16, dtype=torch.float32))
    write = agent_file._write

    def fails(path, content):
        if path.name == "agent.json":
            raise OSError("no space left on device")
        write(path, content)

    monkeypatch.setattr(agent_file, "_write", fails)
    with pytest.raises(OSError, match="no space"):
        agent.save(tmp_path, replay=True)
    assert all(torch.equal(p, before[name]) for name, p in STAC.load(tmp_path).named_parameters())


@pytest.mark.plain
def test_what_is_no_save_of_this_agent_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no agent: there is no agent\.json"):
        STAC.load(tmp_path)
    STAC(box(3), box(2), **SMALL).save(tmp_path / "a", replay=True)
    SAC(box(4), box(2), **SMALL).save(tmp_path / "b", replay=True)
    with pytest.raises(ValueError, match="holds a SAC, not a STAC"):
        STAC.load(tmp_path / "b")
    saved = {path.name.partition("-")[0]: path for path in (tmp_path / "a").glob("*.safetensors")}
    (other,) = (tmp_path / "b").glob("replay-*")
    saved["replay"].write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match="is the replay of another environment"):
        STAC.load(tmp_path / "a")
    saved["agent"].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"agent-\w+\.safetensors is damaged or not there"):
        STAC.load(tmp_path / "a")
    (tmp_path / "a" / "agent.json").write_text(json.dumps({"class": "STAC"}))
    with pytest.raises(ValueError, match="is damaged or was not written by"):
        STAC.load(tmp_path / "a")


def test_observations_are_normalised_by_what_was_seen_and_evaluation_adds_nothing():
    env = Counting(cut=5)
    agent = SAC(env.observation_space, env.action_space, normalize_obs=True, **{**SMALL, "batch_size": 8})
    collector = agent.collector(env)
    for _ in range(10):
        collector.step()
    seen = np.array([*range(6), *range(6), 0])  # the first observation of an episode, too
    assert agent.normalizer.mean[1].item() == pytest.approx(seen.mean())
    assert 1 / agent.normalizer.scale[1].item() == pytest.approx(seen.std())
    normal = agent.normalized(torch.tensor([[0.0, 5.0, 1e9]]))
    assert normal[0, 1].item() == pytest.approx((5 - seen.mean()) / seen.std(), rel=1e-5)
    assert normal[0, 2].item() == 10
    agent.act(np.full(3, 100.0))
    agent.update_from_replay()
    assert agent.normalizer.mean[1].item() == pytest.approx(seen.mean())
    assert agent.replay.batch(torch.arange(10)).obs[:, 1].max() == 4, "the replay holds what came"


def test_the_best_agent_is_kept(tmp_path):
    agent = STAC(Counting().observation_space, Counting().action_space, **SMALL)
    keep = KeepBest(lambda: Counting(cut=4), tmp_path / "best", every=10, episodes=2)
    agent.learn(Counting(cut=4), 35, callback=keep)
    assert [steps for steps, _ in keep.history] == [10, 20, 30]
    assert keep.best == 10.0
    best = STAC.load(tmp_path / "best")
    assert not torch.equal(best.critic.layers[0].weight, agent.critic.layers[0].weight), (
        "all are as good: the first stays"
    )


def test_a_callback_can_end_learning():
    agent = STAC(Counting().observation_space, Counting().action_space, **SMALL)
    agent.learn(Counting(), 100, callback=lambda agent, collector, metrics: collector.steps < 7)
    assert agent.replay.size == 7


def test_the_streams_may_be_given():
    streams = Streams(4)
    given, own = (STAC(box(3), box(2), seed=seed, **SMALL) for seed in (streams, 4))
    assert torch.equal(given.actor.layers[0].weight, own.actor.layers[0].weight)
    assert (
        given.update(a_batch(16, dtype=torch.float32))["q_loss"]
        == own.update(a_batch(16, dtype=torch.float32))["q_loss"]
    )


def test_another_optimizer_takes_the_steps():
    agent = STAC(box(3), box(2), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0), **SMALL)
    before = [p.clone() for p in agent.actor.parameters()]
    agent.update(a_batch(16, dtype=torch.float32))
    assert all(torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))


@pytest.mark.plain  # the hints say float and int
def test_numbers_of_numpy_are_numbers_and_can_be_saved(tmp_path):
    given = {"lr": np.float32(0.001), "batch_size": np.int64(8), "net_arch": np.array([4, 4]).tolist()}
    agent = STAC(box(3), box(2), beta=np.float32(0.5), **given, target_entropy=np.float32(-2))
    agent.save(tmp_path)
    assert STAC.load(tmp_path).settings == agent.settings


def test_published_settings_make_an_agent():
    settings = published_settings("Hopper-v5")
    assert settings.pop("total_steps") == 1_000_000
    agent = STAC(box(11), box(3), **settings)
    assert (agent.rule.beta, agent.temperature.target_entropy) == (0.5, -3.0)
    assert published_settings("LunarLander-v3") == published_settings("LunarLanderContinuous-v3")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("spaces", "given", "line"),
    [
        ((box(3), gymnasium.spaces.Discrete(2)), {}, r"act_space must be a Box of one axis, got Discrete\(2\)"),
        ((box(3), box(2, np.inf)), {}, "act_space must have finite bounds"),
        ((gymnasium.spaces.Dict(), box(2)), {}, "obs_space must be a Box of one axis"),
        ((box(3), box(2)), {"beta": -0.1}, "beta must be finite and not negative, got -0.1"),
        ((box(3), box(2)), {"beta": float("nan")}, "beta must be finite and not negative, got nan"),
        ((box(3), box(2)), {"critic_dropout": 1.0}, r"critic_dropout must be in \[0, 1\), got 1.0"),
        ((box(3), box(2)), {"gamma": 1.0}, r"gamma must be in \[0, 1\), got 1.0"),
        (
            (box(3), box(2)),
            {"temperature_rule": "sgd"},
            "temperature_rule must be one of exp_sgd, exp_plain, adam, got sgd",
        ),
        ((box(3), box(2)), {"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        ((box(3), box(2)), {"net_arch": 64}, "net_arch must be a sequence of whole widths, got 64"),
        ((box(3), box(2)), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ((box(3), box(2)), {"beta": None}, "beta must be finite and not negative, got None"),
        ((box(3), box(2)), {"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ((box(3), box(2)), {"gamma": None}, "gamma must be a number, got None"),
        ((box(3), box(2)), {"alpha": "fixed"}, "alpha must be auto or finite and not negative, got fixed"),
    ],
)
def test_what_cannot_work_is_refused(spaces, given, line):
    with pytest.raises(ValueError, match=line):
        STAC(*spaces, **given)
    with pytest.raises(ValueError, match="env_id must be a version of Ant"):
        published_settings("Pendulum-v1")
