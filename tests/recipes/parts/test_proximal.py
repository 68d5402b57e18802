"""Penalties and stationarity tests as options of supervised recipes."""

import pytest
import torch

from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes.classify import Classify


def built(**options):
    streams = Streams(0)
    with streams.scope("init"):
        return Classify(train_size=128, **options).task(streams, make_accelerator())


def stepped(task, steps):
    batches = task.train_batches()
    for _ in range(steps):
        task.train_step(next(batches))
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])


def test_an_l1_penalty_sets_entries_of_matrices_to_zero_and_says_how_many():
    task = built(prox="l1", prox_lam=0.01)
    stepped(task, 20)
    matrices = [p for p in task.model.parameters() if p.ndim > 1]
    zeros = sum(int((p == 0).sum()) for p in matrices) / sum(p.numel() for p in matrices)
    assert 0.3 < zeros < 1
    assert task.evaluate("validation")["zeros"] == zeros
    assert not any((p == 0).any() for p in task.model.parameters() if p.ndim == 1)


def test_a_group_lasso_sets_whole_units_to_zero():
    task = built(prox="group-lasso", prox_lam=0.002)
    stepped(task, 60)
    dead = (task.model[3].weight == 0).sum(1)
    assert set(dead.tolist()) == {0, 256}


def test_a_penalty_around_sgd_is_the_proximal_optimizer():
    options = {"prox": "l1", "prox_lam": 0.01, "precision": "float64", "weight_decay": 0.0, "momentum": 0.0}
    around, own = (stepped(built(optimizer=name, **options), 10) for name in ("sgd", "proximal-sgd"))
    assert torch.allclose(around, own, rtol=1e-12, atol=1e-15)


def test_a_tiny_penalty_is_almost_none():
    plain = stepped(built(precision="float64"), 6)
    assert torch.allclose(plain, stepped(built(precision="float64", prox="l1", prox_lam=1e-12), 6), atol=1e-9)


@pytest.mark.parametrize(
    "options", [{"prox": "l1", "prox_lam": 0.01}, {"schedule": "sasa", "lr": 0.1}, {"optimizer": "sgld"}]
)
def test_they_go_on_where_they_were_saved(options):
    whole = built(**options)
    stepped(whole, 60)
    cut = built(**options)
    stepped(cut, 25)
    resumed = built(**options)
    resumed.load_state_dict(cut.state_dict())
    resumed.run.streams.load_state_dict(cut.run.streams.state_dict())
    assert torch.equal(stepped(whole, 0), stepped(resumed, 35))


def test_sasa_lowers_the_rate_of_a_walk_around_the_minimum():
    task = built(schedule="sasa", lr=0.5, momentum=0.0, model="mlp", rounds=1000, stop_at=4000, weight_decay=0.1)
    stepped(task, 1500)
    assert task.optimizer.param_groups[0]["lr"] < 0.5


def test_sgld_walks_by_its_noise_which_is_the_seeds():
    options = {"optimizer": "sgld", "lr": 1e-6, "schedule": "constant", "weight_decay": 0.0}
    one, again = (stepped(built(**options), 10) for _ in range(2))
    assert torch.equal(one, again)
    moved = one - stepped(built(**options), 0)
    # Ten steps of variance 2h each, next to which the gradients of these steps are small.
    assert float(moved.var()) == pytest.approx(10 * 2e-6, rel=0.05)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prox": "l1"}, "prox_lam must be given with prox l1, got None"),
        ({"prox_lam": 0.1}, "prox_lam cannot be used with prox None, got 0.1"),
        ({"prox": "l1", "prox_lam": -1.0}, "prox_lam must be positive and finite, got -1.0"),
        ({"prox": "l1", "prox_lam": 0.1, "optimizer": "lamb"}, "prox cannot be used with optimizer lamb, got l1"),
        ({"optimizer": "proximal-sgd"}, "prox must be given with optimizer proximal-sgd, got None"),
        ({"prox": "l1", "prox_lam": 0.1, "schedule": "sasa"}, "prox cannot be used with schedule sasa, got l1"),
        ({"schedule": "sasa", "optimizer": "adamw"}, "schedule sasa cannot be used with optimizer adamw"),
        ({"schedule": "sasa", "max_grad_norm": 1.0}, "max_grad_norm cannot be used with schedule sasa, got 1.0"),
        ({"schedule": "sasa", "surrogate": 2}, "surrogate cannot be used with schedule sasa, got 2"),
        ({"optimizer": "sgld", "max_grad_norm": 1.0}, "max_grad_norm cannot be used with optimizer sgld, got 1.0"),
        ({"optimizer": "sgld", "surrogate": 2}, "surrogate cannot be used with optimizer sgld, got 2"),
        ({"schedule": "sasa", "first_layer": "tract"}, "first_layer cannot be used with schedule sasa, got tract"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Classify(**options)
