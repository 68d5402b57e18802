"""A whole update against one written out by hand, and what follows from its formulas."""

import copy
import math
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aleator.rl import DSAC, ESTAC, SAC, STAC
from aleator.rl.networks import trunk
from tests.rl.spaces import SMALL, a_batch, box

LR, GAMMA, TAU, BETA = 1e-2, 0.9, 0.1, 0.5
FIVE = {"net_arch": (5, 5), "lr": LR, "gamma": GAMMA, "tau": TAU, "init_alpha": 0.3}
PLAIN = {"actor_dropout": 0.0, "critic_dropout": 0.0}


def net(p, x):
    """Linear, LayerNorm, ReLU, twice, and Linear, from the formulas."""
    for w, b, g, c in (p[0:4], p[4:8]):
        h = x @ w.T + b
        h = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * g + c
        x = h.clamp(min=0)
    return x @ p[8].T + p[9]


def gaussian(raw):
    half = raw.shape[1] // 2
    return raw[:, :half], (1 + raw[:, half:].clamp(min=-5).exp()).log()


def draw(p, o, eps):
    m, sd = gaussian(net(p, o))
    u = m + sd * eps
    normal = torch.distributions.Normal(m, sd).log_prob(u)
    return u.tanh(), (normal - torch.log(1 - u.tanh() ** 2)).sum(1)


class Adam:
    def __init__(self, p):
        self.p, self.t = p, 0
        self.m, self.v = [torch.zeros_like(x) for x in p], [torch.zeros_like(x) for x in p]

    def step(self, loss):
        self.t += 1
        for x, g, m, v in zip(self.p, torch.autograd.grad(loss, self.p), self.m, self.v, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            x.data -= LR * (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-8)


def by_hand(kind, actor, critics, alpha, batches, noises, rule="exp_sgd"):
    """Three updates from the sheet's formulas, on lists of parameters; the trajectory of the temperature."""
    targets = [[x.detach().clone() for x in c] for c in critics]
    critic_adam, actor_adam = Adam([x for c in critics for x in c]), Adam(actor)

    def promise(nets, o, a):
        raws = [net(c, torch.cat([o, a], 1)) for c in nets]
        if kind is STAC:
            mu, sd = gaussian(raws[0])
            return (mu - BETA * sd)[:, 0], raws
        return torch.minimum(raws[0][:, 0], raws[1][:, 0]), raws

    alphas, losses = [], []
    for batch, (e1, e2) in zip(batches, noises, strict=True):
        o, a, r, o2, term = (batch[k] for k in ("obs", "action", "reward", "next_obs", "terminated"))
        with torch.no_grad():
            a2, lp2 = draw(actor, o2, e1)
            y = r + GAMMA * (promise(targets, o2, a2)[0] - alpha * lp2) * (1 - term.double())
        raws = promise(critics, o, a)[1]
        if kind is SAC:
            loss = sum(0.5 * ((raw[:, 0] - y) ** 2).mean() for raw in raws)
        else:
            loss = 0
            for raw in raws:
                mu, sd = (x[:, 0] for x in gaussian(raw))
                loss = loss + (0.5 * math.log(2 * math.pi) + sd.log() + 0.5 * ((y - mu) / sd) ** 2).mean()
        critic_adam.step(loss)
        for t, c in zip(targets, critics, strict=True):
            for x, z in zip(t, c, strict=True):
                x.copy_((1 - TAU) * x + TAU * z.detach())
        act, lp = draw(actor, o, e2)
        actor_adam.step(-(promise(critics, o, act)[0] - alpha * lp).mean())
        entropy = -lp.mean().item()
        factor = alpha if rule == "exp_sgd" else 1.0
        alpha = alpha * math.exp(LR * factor * (-act.shape[1] - entropy))
        alphas.append(alpha)
        losses.append(loss.item())
    return targets, alphas, losses


@pytest.mark.parametrize("kind", [STAC, ESTAC, SAC])
@pytest.mark.parametrize("rule", ["exp_sgd", "exp_plain"])
def test_three_updates_are_those_written_out_by_hand(kind, rule):
    own = {"beta": BETA} if kind is STAC else {}
    agent = kind(box(3), box(2), seed=3, temperature_rule=rule, **FIVE, **PLAIN, **own).double()
    agent.temperature.alpha.fill_(0.3)  # as float64, and not as float32 rounds it
    one = kind is STAC
    nets = [agent.critic] if one else list(agent.critics)
    actor, *critics = [[p.detach().clone().requires_grad_() for p in n.parameters()] for n in (agent.actor, *nets)]
    batches = [a_batch(7, seed=s) for s in range(3)]
    noise = torch.randn(3, 2, 7, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    pairs = [(e[0], e[1]) for e in noise]
    found = [agent.update(batch, noise=pair) for batch, pair in zip(batches, pairs, strict=True)]
    targets, alphas, losses = by_hand(kind, actor, critics, 0.3, batches, pairs, rule)
    assert [m["alpha"].item() for m in found] == pytest.approx(alphas, rel=1e-7)
    assert [m["q_loss"].item() for m in found] == pytest.approx(losses, rel=1e-7)
    own_targets = [agent.target_critic] if one else list(agent.target_critics)
    for module, expected in zip((agent.actor, *nets, *own_targets), (actor, *critics, *targets), strict=True):
        for x, y in zip(module.parameters(), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-9)


def test_without_pessimism_the_actors_gradient_does_not_see_the_deviation():
    def actor_gradient(beta, shift):
        agent = STAC(box(3), box(2), beta=beta, **FIVE, **PLAIN).double()
        with torch.no_grad():
            agent.critic.layers[-1].bias[1] += shift
        raw = agent.actor(a_batch(7)["obs"])
        worth = agent.rule.worth([agent.critic(torch.cat([a_batch(7)["obs"], raw[:, :2].tanh()], 1))])
        return torch.cat([g.flatten() for g in torch.autograd.grad(worth.sum(), agent.actor.parameters())])

    torch.testing.assert_close(actor_gradient(0.0, 0.0), actor_gradient(0.0, 2.0), rtol=1e-10, atol=0)
    at = {beta: actor_gradient(beta, 0.0) for beta in (0.0, 0.5, 2.0)}
    assert not torch.allclose(at[0.0], at[0.5])
    torch.testing.assert_close((at[2.0] - at[0.0]) / 4, at[0.5] - at[0.0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [STAC, SAC, ESTAC, DSAC])
def test_targets_are_the_moving_average_of_the_critics(kind):
    agent = kind(box(3), box(2), tau=0.25, net_arch=(5, 5)).double()
    which = ("critic", "target_critic") if kind is STAC else ("critics", "target_critics")
    before = copy.deepcopy(getattr(agent, which[1]))
    agent.update(a_batch(7))
    for old, new, online in zip(
        *(m.parameters() for m in (before, *(getattr(agent, w) for w in which[::-1]))), strict=True
    ):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online, rtol=1e-12, atol=1e-15)
        assert not new.requires_grad


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not any(word in name for word in ("_local_scalar_dense", "nonzero", "equal.default", "masked_select")), (
            name
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", ["exp_sgd", "adam"])
@pytest.mark.parametrize("kind", [STAC, SAC, ESTAC, DSAC])
def test_an_update_from_the_replay_waits_for_no_number(kind, rule):
    agent = kind(box(3), box(2), actor_dropout=0.01, critic_dropout=0.01, temperature_rule=rule, **SMALL)
    batch = a_batch(30, dtype=torch.float32)
    agent.replay.add(*(batch[k].unsqueeze(0) for k in ("obs", "action", "reward", "next_obs", "terminated")))
    agent.update_from_replay()
    with NoWaiting():
        metrics = agent.update_from_replay()
    assert all(value.shape == () for value in metrics.values())


def test_a_loss_that_is_not_finite_is_known_when_asked():
    agent = SAC(box(3), box(2), **SMALL)
    agent.check_finite()
    batch = a_batch(16, dtype=torch.float32)
    batch["reward"][3] = 1e30
    agent.update(batch)
    with pytest.raises(FloatingPointError, match="not finite"):
        agent.check_finite()


def test_a_batch_of_one_is_an_update():
    metrics = STAC(box(3), box(1), **SMALL).update(a_batch(1, act=1, dtype=torch.float32))
    assert math.isfinite(metrics["q_loss"])


def test_dsac_climbs_the_smaller_mean_and_regresses_on_the_smaller_quantiles():
    agent = DSAC(box(3), box(2), quantiles=4, net_arch=(5,))
    low, high = torch.tensor([[0.0, 1.0, 2.0, 9.0]]), torch.tensor([[1.0, 1.5, 2.5, 3.0]])
    assert agent.rule.bootstrap([low, high]).tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert agent.rule.worth([low, high]).item() == 2.0
    assert agent.rule.value([low, high])[1].item() == pytest.approx(high.std(correction=0).item())


@pytest.mark.plain
@pytest.mark.parametrize("kind", [STAC, SAC])
def test_compiled_updates_are_the_same_up_to_rounding(kind, monkeypatch):
    monkeypatch.setattr("aleator.rl.learner.compiled_trunk", lambda: torch.compile(trunk, backend="aot_eager"))
    dropout = {"actor_dropout": 0.1, "critic_dropout": 0.1}
    plain, compiled = (kind(box(3), box(2), compile=on, **dropout, **SMALL) for on in (False, True))
    for seed in range(3):
        batch = a_batch(16, dtype=torch.float32, seed=seed)
        expected, found = plain.update(batch), pickle.loads(pickle.dumps(compiled)).update(batch)
        compiled.update(batch)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_batch_may_be_of_arrays():
    batch = a_batch(16, dtype=torch.float32)
    one, other = (STAC(box(3), box(2), **SMALL) for _ in range(2))
    assert one.update(batch)["q_loss"] == other.update({k: v.numpy() for k, v in batch.items()})["q_loss"]


def test_learning_goes_the_same_way_twice():
    def metrics():
        agent = STAC(box(3), box(2), **SMALL)
        batch = a_batch(16, dtype=torch.float32)
        return [agent.update(batch)["pi_loss"].item() for _ in range(3)]

    assert metrics() == metrics()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"reward": torch.zeros(6)}, "one row for each transition, got obs 7, action 7, reward 6, next_obs 7"),
        ({"obs": torch.zeros(7, 4)}, r"obs must have shape \(7, 3\), got \(7, 4\)"),
        ({"terminated": torch.zeros(7)}, r"terminated must be boolean, got torch\.float32"),
        ({"reward": torch.full((7,), float("nan"))}, r"reward must be finite, got nan"),
        ({"obs": torch.full((7, 3), float("inf"))}, r"obs must be finite, got inf"),
    ],
)
def test_a_bad_batch_is_refused(change, line):
    with pytest.raises(ValueError, match=line):
        STAC(box(3), box(2), **SMALL).update({**a_batch(7, dtype=torch.float32), **change})


@pytest.mark.plain
def test_an_empty_batch_is_refused():
    empty = {name: part[:0] for name, part in a_batch(7, dtype=torch.float32).items()}
    with pytest.raises(ValueError, match="at least one transition, got none"):
        STAC(box(3), box(2), **SMALL).update(empty)
