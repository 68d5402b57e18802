"""Members side by side: each comes to what it would come to alone."""

import pytest
import torch

from aleator.rl import DSAC, SAC, STAC, Members, learn_when_due, vectorised
from tests.rl.spaces import SMALL, box
from tests.rl.worlds import Counting

BETAS = (0.0, 0.5, 1.0)


def some(kind, **settings):
    env = Counting()
    given = {**SMALL, **settings}
    return [
        kind(env.observation_space, env.action_space, seed=seed, **({"beta": beta} if kind is STAC else {}), **given)
        for seed, beta in enumerate(BETAS)
    ]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (STAC, {"actor_dropout": 0.1, "critic_dropout": 0.05}),
        (STAC, {"normalize_obs": True, "temperature_rule": "adam", "train_freq": 2, "gradient_steps": 2}),
        (SAC, {}),
        (DSAC, {"actor_dropout": 0.0}),
    ],
)
def test_a_member_is_the_agent_alone(kind, settings):
    members = Members(some(kind, **settings))
    collector = members.collector(vectorised(lambda: Counting(ends=6), 6))
    for _ in range(40):
        learn_when_due(members, collector)
    for index, alone in enumerate(some(kind, **settings)):
        own = alone.collector(vectorised(lambda: Counting(ends=6), 2))
        for _ in range(40):
            learn_when_due(alone, own)
        beside = members.agents[index]
        assert own.steps == collector.steps
        for (name, a), b in zip(alone.state_dict().items(), beside.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_metrics_are_one_number_for_each():
    members = Members(some(STAC))
    collector = members.collector(vectorised(Counting, 3))
    metrics = {}
    while not metrics:
        metrics = learn_when_due(members, collector)[1]
    assert all(value.shape == (3,) for value in metrics.values())


def test_members_come_back_from_their_state():
    first, second = Members(some(STAC)), Members(some(STAC))
    collectors = [each.collector(vectorised(lambda: Counting(cut=9), 3)) for each in (first, second)]
    for _ in range(30):
        learn_when_due(first, collectors[0])
    second.load_training_state(first.training_state())
    for a, b in zip(first.agents, second.agents, strict=True):
        b.streams.load_state_dict(a.streams.state_dict())
    collectors[1].load_state_dict(collectors[0].state_dict())
    for _ in range(5):
        one, two = (learn_when_due(each, own)[1] for each, own in zip((first, second), collectors, strict=True))
        assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in two.items()}
    assert torch.equal(first.agents[2].alpha, second.agents[2].alpha)
    assert first.agents[2].alpha != first.agents[1].alpha


@pytest.mark.plain
def test_agents_that_are_not_alike_are_refused():
    with pytest.raises(ValueError, match="agents must differ in seed and beta only"):
        Members([STAC(box(3), box(2), **SMALL), SAC(box(3), box(2), **SMALL)])
    with pytest.raises(ValueError, match="agents must have the same spaces"):
        Members([SAC(box(3), box(2), **SMALL), SAC(box(4), box(2), **SMALL)])
    agent = SAC(box(3), box(2), **SMALL)
    with pytest.raises(ValueError, match="streams of its own"):
        Members([agent, SAC(box(3), box(2), seed=agent.streams, **SMALL)])
