import json
import math
import sys

import numpy as np
import pytest
import torch

from aleator.cli import main
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes.surrogate import Surrogate, pendulum
from aleator.recipes.surrogate.imitation import LinearSystem


def task(seed=0, **options):
    streams = Streams(seed)
    with streams.scope("init"):
        return Surrogate(**options).task(streams, make_accelerator())


def trained(calls, **options):
    built = task(calls=calls, **options)
    batches = built.train_batches()
    for _ in range(calls):
        built.train_step(next(batches))
    return built.evaluate("test")


# --- supervised problems


@pytest.mark.parametrize("features", ["raw", "max-scaled", "standardised"])
def test_exact_steps_have_the_losses_of_the_sheet_whatever_the_scale(features):
    found = trained(20, features=features, held_out=0.0, inner="exact", loss_after=(5, 10))
    losses = [found[name] for name in ("train_loss_after_5", "train_loss_after_10", "train_loss")]
    assert losses == pytest.approx([0.136, 0.107, 0.085], abs=5e-4)
    assert "held_out_loss" not in found
    assert (found["target_gradient_calls"], found["total_inner_steps"], found["loss_evaluations"]) == (20, 20, 0)


def test_other_solvers_come_close_to_the_exact_one():
    exact, lbfgs, armijo = (
        trained(5, features="standardised", inner=inner, **steps)["train_loss"]
        for inner, steps in (("exact", {}), ("lbfgs", {"inner_steps": 40}), ("armijo", {"inner_steps": 200}))
    )
    assert lbfgs == pytest.approx(exact, rel=0.01)
    assert armijo == pytest.approx(exact, rel=0.05)


def test_one_inner_step_of_adam_is_a_step_of_adam():
    options = {"features": "standardised", "lr": 0.03}
    plain = trained(8, method="adam", **options)
    inner = trained(8, inner="adam", inner_steps=1, **options)
    assert inner["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-9)


@pytest.mark.parametrize(
    ("problem", "loss", "outputs"),
    [("breast-cancer", "squared", 1), ("breast-cancer", "softmax", 2), ("digits", "logistic", 10)],
)
def test_every_loss_falls_at_every_call_on_a_full_batch(problem, loss, outputs):
    built = task(problem=problem, loss=loss, features="max-scaled", inner_steps=3, calls=5)
    assert built.model.out_features == outputs
    batches = built.train_batches()
    losses = [float(built.train_step(next(batches)).metrics["loss"]) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_model_that_knows_nothing_has_the_loss_of_guessing():
    assert task().evaluate("test")["train_loss"] == pytest.approx(math.log(2))
    assert task(problem="digits").evaluate("test")["train_loss"] == pytest.approx(math.log(10))


def test_searches_count_evaluations_of_the_loss_apart():
    line = trained(5, method="sls", features="standardised")
    assert line["target_gradient_calls"] == 5
    assert line["loss_evaluations"] >= 5
    assert line["total_inner_steps"] == 0
    target = trained(5, step_schedule="armijo", inner="exact")
    assert target["target_gradient_calls"] == 5
    assert target["loss_evaluations"] >= 10


def test_a_search_without_a_step_is_counted_and_said_once(caplog):
    built = task(calls=3, features="standardised", method="sls", armijo_c=0.999999)
    built.updates.optimizer.max_tries = 1
    batches = built.train_batches()
    with caplog.at_level("WARNING"):
        for _ in range(3):
            built.train_step(next(batches))
    assert built.evaluate("test")["failed_searches"] == 3
    assert caplog.text.count("the line search found no lower loss in 1 trials") == 1


def test_held_out_examples_are_not_trained_on_and_not_used_for_scaling():
    parts = task(features="standardised").tables
    assert [len(parts[name].classes) for name in ("train", "validation", "test")] == [455, 57, 57]
    kept = parts["train"].features
    assert torch.allclose(kept.mean(0), torch.zeros(30).double(), atol=1e-9)
    assert torch.allclose(kept.std(0, correction=0), torch.ones(30).double())
    other = task(seed=1).tables["train"].features
    assert not torch.equal(task().tables["train"].features, other)


def test_mini_batches_of_one_seed_are_the_same_for_every_method():
    batches = []
    for options in ({}, {"method": "adam"}, {"inner": "lbfgs"}):
        stream = task(batch_size=100, **options).train_batches()
        batches.append([next(stream) for _ in range(6)])
    assert {len(y) for _, y in batches[0]} == {100}
    for other in batches[1:]:
        assert all(torch.equal(a[1], b[1]) for a, b in zip(batches[0], other, strict=True))


@pytest.mark.parametrize("method", ["gd", "adam"])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_told(method):
    built = task(method=method, calls=1)
    features, classes = next(built.train_batches())
    before = {name: p.clone() for name, p in built.model.state_dict().items()}
    assert built.train_step((features * float("nan"), classes)).skipped
    assert all(torch.equal(p, before[name]) for name, p in built.model.state_dict().items())


def test_surrogates_of_a_loss_that_is_not_finite_are_not_made():
    built = task(calls=1)
    features, classes = next(built.train_batches())
    assert built.train_step((features * float("inf"), classes)).skipped
    assert not built.model.weight.any()


class RootOfTheDistance(torch.autograd.Function):
    """A loss that is finite where its gradient is not."""

    @staticmethod
    def forward(ctx, scores):
        return torch.zeros(len(scores), dtype=scores.dtype)

    @staticmethod
    def backward(ctx, grad):
        return torch.full((len(grad), 1), torch.inf, dtype=grad.dtype)


def test_a_finite_loss_whose_gradient_is_not_is_told_as_skipped():
    built = task(calls=1)
    built._losses = lambda classes, scores: RootOfTheDistance.apply(scores)
    assert built.train_step(next(built.train_batches())).skipped
    assert not built.model.weight.any()


def test_inner_steps_that_leave_all_bounds_are_told_as_skipped():
    built = task(calls=1, inner="adam", lr=1e200, inner_steps=20)
    assert built.train_step(next(built.train_batches())).skipped
    assert built.totals()["total_inner_steps"] > 0


# --- online imitation


def linear(seed=0):
    streams = Streams(seed)
    return LinearSystem(streams.generator("system"), streams.generator("rounds"))


def test_the_linear_system_is_that_of_the_sheet():
    system = linear()
    assert np.abs(np.linalg.eigvals(system.a.numpy())).max() == pytest.approx(1.02)
    closed = (system.a - system.b @ system.gain).numpy()
    assert np.abs(np.linalg.eigvals(closed)).max() < 1  # the expert, where it is linear, holds it
    observed, answers = system.collect(lambda o: torch.zeros(len(o), 2).double())
    assert observed.shape == (200, 6)
    assert torch.allclose(answers, system.expert(observed / system.scales))
    assert answers.abs().max() <= 3
    assert float(system.scales[0]) == pytest.approx(0.1)
    assert float(system.scales[-1]) == pytest.approx(10)


def test_trajectories_that_run_away_begin_anew():
    system = linear()
    observed, _ = system.collect(lambda o: 1e6 * torch.ones(len(o), 2).double())
    assert (observed / system.scales).norm(dim=1).max() <= 20


def test_a_round_is_judged_before_its_update_and_costs_one_call():
    built = task(problem="linear-imitation", calls=3, inner="adam", inner_steps=5)
    seen = []
    for _ in range(3):
        seen.append(float(built.train_step(None).metrics["round_loss"]))
    found = built.evaluate("test")
    assert found["round_loss"] == pytest.approx(sum(seen) / 3)
    assert (found["target_gradient_calls"], found["total_inner_steps"]) == (3, 15)
    first = task(problem="linear-imitation", calls=3, method="adam")
    assert float(first.train_step(None).metrics["round_loss"]) == seen[0]  # the same states and weights


def test_more_inner_steps_use_the_same_answers_better():
    one = trained(20, problem="linear-imitation", method="adam", lr=0.01)
    many = trained(20, problem="linear-imitation", inner="adam", inner_steps=10, lr=0.01)
    assert many["round_loss"] < 0.75 * one["round_loss"]
    assert many["late_round_loss"] < 0.5 * one["late_round_loss"]


def test_the_expert_swings_the_pendulum_up():
    pytest.importorskip("gymnasium")
    system = pendulum.Pendulum(Streams(0).generator("rounds"))
    found = system.measure(lambda o: torch.zeros(len(o), 1).double())
    assert found["expert_return"] > -200  # good controllers get about -150, and doing nothing less than -1000
    assert found["episode_return"] < -1000
    observed, answers = system.collect(system.ask)
    assert observed.shape == (1000, 3)
    assert answers.shape == (1000, 1)
    assert answers.abs().max() <= 2


def test_the_pendulum_can_be_imitated(tmp_path):
    pytest.importorskip("gymnasium")
    words = ["run", "surrogate", "--problem", "gymnasium:Pendulum-v1", "--calls", "2", "--evaluate-every", "2"]
    assert main([*words, "--out", str(tmp_path / "o"), "--trackers"]) == 0
    assert {"round_loss", "episode_return", "expert_return"} <= read_json(tmp_path / "o" / "result.json")["test"].keys()


@pytest.mark.plain
def test_without_gymnasium_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    words = ["run", "surrogate", "--problem", "gymnasium:Pendulum-v1", "--out", str(tmp_path / "o")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error == "aleator: problem gymnasium:Pendulum-v1 needs the extra 'rl': pip install 'aleator[rl]'\n"


# --- the recipe end to end


def test_logs_have_the_axis_of_the_paper(tmp_path):
    words = ["run", "surrogate", "--calls", "6", "--inner-steps", "4", "--log-every", "2", "--evaluate-every", "3"]
    assert main([*words, "--out", str(tmp_path / "o"), "--trackers"]) == 0
    assert json.loads((tmp_path / "o" / "config.json").read_text())["budget"] == {"total": 6, "unit": "calls"}
    rows = read_metrics(tmp_path / "o" / "metrics.jsonl")
    train = [row for row in rows if row["split"] == "train"]
    assert [row["progress"] for row in train] == [2, 4, 6]
    assert all(row["metrics"]["inner_steps"] == 4 for row in train)
    assert [row["metrics"]["target_gradient_calls"] for row in train] == [2, 4, 6]
    assert [row["metrics"]["total_inner_steps"] for row in train] == [8, 16, 24]
    validation = [row["metrics"] for row in rows if row["split"] == "validation"]
    assert [m["target_gradient_calls"] for m in validation] == [3, 6]
    assert [m["total_inner_steps"] for m in validation] == [12, 24]


def test_logs_of_a_baseline_have_it_too(tmp_path):
    words = ["run", "surrogate", "--method", "sls", "--calls", "4", "--log-every", "2", "--out", str(tmp_path / "o")]
    assert main([*words, "--trackers"]) == 0
    rows = [row["metrics"] for row in read_metrics(tmp_path / "o" / "metrics.jsonl") if row["split"] == "train"]
    assert [(row["target_gradient_calls"], row["total_inner_steps"]) for row in rows] == [(2, 0), (4, 0)]
    assert rows[0]["loss_evaluations"] < rows[1]["loss_evaluations"]


def test_classes_that_training_never_sees_have_a_score():
    for seed in range(4):
        found = task(seed, problem="digits", held_out=0.995).evaluate("test")
        assert found["held_out_loss"] == pytest.approx(math.log(10))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--held-out", "1"), "held_out must be in [0, 1), got 1.0"),
        (("--armijo-c", "0"), "armijo_c must be in (0, 1), got 0.0"),
        (("--inner-steps", "0"), "inner_steps must be positive and finite, got 0"),
        (("--step-size", "-1"), "step_size must be positive and finite, got -1.0"),
        (("--batch-size", "1000"), "batch_size must be at most 455, got 1000"),
        (("--loss-after", "5", "101"), "loss_after must be between 1 and calls, 100, got (5, 101)"),
        (("--model", "mlp", "--inner", "exact"), "model must be linear with inner exact, got mlp"),
        (("--inner", "exact", "--inner-steps", "3"), "inner_steps cannot be used with inner exact, got 3"),
        (("--lr", "0.1"), "lr cannot be used with inner armijo, got 0.1"),
        (("--method", "gd", "--inner", "adam"), "inner cannot be used with method gd, got adam"),
        (("--method", "gd", "--armijo-c", "0.1"), "armijo_c cannot be used with method gd, got 0.1"),
        (("--problem", "linear-imitation", "--features", "raw"), "features cannot be used with problem linear-imit"),
        (("--problem", "linear-imitation", "--loss-after", "2"), "loss_after cannot be used with problem linear-imi"),
    ],
)
def test_bad_options_are_named(words, message, tmp_path, capsys):
    assert main(["run", "surrogate", *words, "--out", str(tmp_path / "o")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.plain
def test_several_processes_are_refused_in_one_line():
    class Two:
        num_processes = 2

    with pytest.raises(ValueError, match="surrogate runs in one process, got 2"):
        Surrogate().task(Streams(0), Two())
