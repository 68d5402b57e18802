"""The learned rate as an option of supervised recipes."""

import json

import pytest
import torch

from aleator.experiment.accelerators import make_accelerator
from aleator.optim import CosineToBudget, LinearEpochWarmupPoly
from aleator.random import Streams
from aleator.recipes.classify import Classify
from aleator.recipes.parts.curvature import Factor

SMALL = {"train_size": 128, "batch_size": 16, "lr_rule": "curvature"}


def built(**options):
    streams = Streams(0)
    with streams.scope("init"):
        return Classify(**{**SMALL, **options}).task(streams, make_accelerator())


def stepped(task, steps):
    batches, rates = task.train_batches(), []
    for _ in range(steps):
        rates.append(float(task.train_step(next(batches)).metrics["lr"]))
    return rates


def weights(task):
    return torch.cat([value.double().flatten() for value in task.model.state_dict().values()])


def test_the_rate_comes_from_the_curvature_and_sgd_is_a_heavy_ball():
    task = built(schedule="constant", rounds=20)
    learned = task.schedule.learned
    group = task.optimizer.param_groups[0]
    assert (group["nesterov"], group["momentum"]) == (False, learned.momentum)
    rates = stepped(task, 41)
    assert learned.probes == 3  # every 20 steps: a round has only 8
    assert rates[0] == pytest.approx(rates[19] / 20)  # the warm-up of the first probe's rate
    result = task.train_step(next(task.train_batches()))
    assert float(result.metrics["curvature"]) == pytest.approx(learned.lmbda)
    assert float(result.metrics["momentum"]) == pytest.approx(learned.momentum)


def test_it_learns_the_digits():
    task = built(train_size=None, batch_size=64, rounds=8)
    stepped(task, 160)
    assert task.evaluate("validation")["accuracy"] > 0.9


@pytest.mark.parametrize("options", [{}, {"model": "cnn-bn", "augment": "crop"}, {"prox": "l1", "prox_lam": 1e-4}])
def test_it_goes_on_where_it_was_saved(options):
    whole = built(rounds=10, **options)
    stepped(whole, 45)
    cut = built(rounds=10, **options)
    stepped(cut, 25)
    resumed = built(rounds=10, **options)
    resumed.load_state_dict(cut.state_dict())
    resumed.run.streams.load_state_dict(cut.run.streams.state_dict())
    stepped(resumed, 20)
    assert torch.equal(weights(whole), weights(resumed))


def test_probes_change_neither_statistics_nor_the_order_of_examples():
    """At a factor of 0 nothing learns: what a run without a learner would see, is seen."""
    task, plain = built(model="cnn-bn", rounds=4), built(model="cnn-bn", rounds=4, lr_rule="fixed", lr=1e-30)
    task.schedule.learned.factor = _zero
    task.schedule.learned._set()
    batches = [task.train_batches(), plain.train_batches()]
    for _ in range(22):
        one, other = (next(each) for each in batches)
        assert torch.equal(one.indices, other.indices)
        task.train_step(one), plain.train_step(other)
    buffers = [dict(each.model.named_buffers()) for each in (task, plain)]
    assert buffers[0]
    assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())


def _zero(step: int) -> float:
    return 0.0


@pytest.mark.parametrize(("schedule", "warmup"), [("cosine", 0), ("cosine", 3), ("linear", 4), ("constant", 0)])
def test_the_factor_is_that_of_the_schedule(schedule, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rule = {
        "cosine": lambda: CosineToBudget(optimizer, 12, warmup=warmup),
        "linear": lambda: LinearEpochWarmupPoly(optimizer, 12, warmup_steps=warmup),
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    }[schedule]()
    factor = Factor(schedule, 12, warmup)
    for step in range(15):
        assert factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-15)
        optimizer.step()
        rule.step()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"optimizer": "adamw"}, "lr_rule curvature cannot be used with optimizer adamw"),
        ({"first_layer": "tract"}, "lr_rule curvature cannot be used with first_layer tract"),
        ({"surrogate": 2}, "lr_rule curvature cannot be used with surrogate 2"),
        ({"shard": True}, "lr_rule curvature cannot be used with shard True"),
        ({"schedule": "sasa"}, "lr_rule curvature cannot be used with schedule sasa"),
        ({"lr": 0.1}, "lr cannot be used with lr_rule curvature, got 0.1"),
        ({"momentum": 0.5}, "momentum cannot be used with lr_rule curvature, got 0.5"),
        ({"lr_min": 0.0}, "lr_min cannot be used with lr_rule curvature, got 0.0"),
    ],
)
def test_what_cannot_be_used_with_it_is_refused(options, line):
    with pytest.raises(ValueError, match=line):
        built(**options)


def test_two_processes_learn_the_rates_of_one(processes, tmp_path):
    from pathlib import Path

    program = Path(__file__).with_name("program.py")
    outs = {}
    for count in (1, 2):
        outs[count] = tmp_path / str(count)
        options = {
            **SMALL,
            "rounds": 3,
            "train_size": 64,
            "validation_size": 16,
            "test_size": 16,
            "precision": "float64",
        }
        asked = [{"recipe": "classify", "options": options, "out": str(outs[count])}]
        processes(program, count, json.dumps(asked))
    one, two = (
        [json.loads(line)["metrics"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in outs.values()
    )
    assert [m["lr"] for m in one if "lr" in m] == pytest.approx([m["lr"] for m in two if "lr" in m], rel=1e-6)
    assert [m["loss"] for m in one] == pytest.approx([m["loss"] for m in two], rel=1e-6)
