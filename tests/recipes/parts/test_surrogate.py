"""Target surrogates as an option of ``classify``."""

import pytest
import torch
from torch import nn

from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes.classify import Classify, models
from aleator.recipes.parts.surrogate_step import SurrogateGradientStep

QUIET = RunOptions(trackers=(), log_every=1)


def task(**options):
    streams = Streams(0)
    with streams.scope("init"):
        return Classify(train_size=128, precision="float64", **options).task(streams, make_accelerator())


def weights(of):
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def stepped(built, steps=6):
    batches = built.train_batches()
    results = [built.train_step(next(batches)) for _ in range(steps)]
    return weights(built), results


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "spectra-adamw"])
def test_one_inner_step_is_an_ordinary_step(optimizer):
    options = {"optimizer": optimizer, "lr": 0.01}
    plain, surrogate = stepped(task(**options))[0], stepped(task(surrogate=1, **options))[0]
    assert torch.allclose(plain, surrogate, rtol=1e-7, atol=1e-10)


def test_the_schedule_moves_once_a_batch_and_both_counts_are_told(tmp_path):
    recipe = Classify(rounds=2, train_size=128, surrogate=5)
    found = run(recipe, tmp_path / "run", QUIET, name="classify")["test"]
    assert (found["target_gradient_calls"], found["total_inner_steps"]) == (8, 40)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert all(row["metrics"]["inner_steps"] == 5 for row in rows)
    assert [row["metrics"]["target_gradient_calls"] for row in rows] == list(range(1, 9))
    assert rows[-1]["metrics"]["total_inner_steps"] == 40
    assert rows[-1]["metrics"]["lr"] < rows[0]["metrics"]["lr"]
    assert len(rows) == 8


def test_more_inner_steps_lower_the_loss_of_a_batch_further():
    losses = {}
    for inner in (1, 8):
        built = task(surrogate=inner, schedule="constant", lr=0.005)
        _, results = stepped(built, 12)
        losses[inner] = float(results[-1].metrics["loss"])
    assert losses[8] < losses[1]


def normalised(monkeypatch):
    def model(*_):
        layers = nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)
        return nn.Sequential(*layers)

    monkeypatch.setattr(models, "image_model", model)


def test_dropout_and_normalisation_see_a_batch_once(monkeypatch):
    normalised(monkeypatch)
    built = task(surrogate=4)
    with Streams(0).scope("step"):
        stepped(built, 3)
    assert built.model[2].num_batches_tracked == 3


def test_a_batch_that_is_not_finite_teaches_nothing(monkeypatch):
    normalised(monkeypatch)
    built = task(surrogate=4)
    before = weights(built)
    built.prepared_inputs = lambda x: x.double() * float("nan")
    with Streams(0).scope("step"):
        result = built.train_step(next(built.train_batches()))
    assert result.skipped
    assert torch.equal(weights(built), before)
    assert built.model[2].num_batches_tracked == 0
    assert not built.model[2].running_mean.any()
    assert built.schedule.last_epoch == 0


class EndlessSlope(torch.autograd.Function):
    """A loss that is finite where its gradient is not."""

    @staticmethod
    def forward(ctx, scores):
        ctx.shape = scores.shape
        return torch.zeros(len(scores), dtype=scores.dtype)

    @staticmethod
    def backward(ctx, grad):
        return torch.full(ctx.shape, torch.inf, dtype=grad.dtype)


def test_a_finite_loss_whose_gradient_is_not_is_told_as_skipped():
    model = nn.utils.skip_init(nn.Linear, 4, 2)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    report, _ = SurrogateGradientStep(make_accelerator(), model, optimizer, schedule, 1.0, 3)(
        torch.eye(4), EndlessSlope.apply
    )
    assert report.skipped
    assert (model.weight == 1).all()
    assert schedule.last_epoch == 0


def test_bfloat16_learns(tmp_path, warm):
    # A process of its own: an accelerator has one precision in a process.
    words = ["run", "classify", "--precision", "bfloat16", "--surrogate", "2", "--rounds", "6"]
    words += ["--lr", "0.005", "--out", str(tmp_path / "o"), "--trackers"]
    done = warm.command(*words)
    assert done.code == 0, done.err
    assert read_json(tmp_path / "o" / "result.json")["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(("slope", "calls"), [(1.0, 3), (0.0, 1)])
def test_gradients_are_transformed_before_every_inner_step_and_after_a_step_that_is_not_taken(slope, calls):
    model = nn.utils.skip_init(nn.Linear, 4, 2)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    called = []
    step = SurrogateGradientStep(
        make_accelerator(), model, optimizer, schedule, 1.0, 3, before_step=[lambda: called.append(model.weight.grad)]
    )
    step(torch.eye(4), lambda scores: slope * scores.sum(1))
    assert len(called) == calls
    assert (called[0] is not None) == (slope > 0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"surrogate": 0}, "surrogate must be positive and finite, got 0"),
        ({"surrogate": 2, "target_step_size": -1.0}, "target_step_size must be positive and finite, got -1.0"),
        ({"target_step_size": 1.0}, "target_step_size cannot be used without surrogate, got 1.0"),
        ({"surrogate": 2, "accumulate": 2}, "accumulate cannot be used with surrogate, got 2"),
        ({"surrogate": 2, "max_grad_norm": 1.0}, "max_grad_norm cannot be used with surrogate, got 1.0"),
        ({"surrogate": 2, "shard": True}, "shard cannot be used with surrogate, got True"),
        ({"surrogate": 2, "precision": "float16"}, "precision cannot be used with surrogate, got float16"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=r"must be|cannot be") as error:
        Classify(**options)
    assert message in str(error.value)
