"""Batches that grow in a supervised task: what is tested, when it counts, on every cut, resumed, what is refused."""

import contextlib
import copy
import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from aleator.cli import main
from aleator.data import BatchSizeController, required_batch_size
from aleator.experiment import RunOptions, registry, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.gradients import GradStats
from aleator.random import Streams
from aleator.recipes import Supervised
from aleator.recipes.parts import Act, Part
from aleator.recipes.parts.task import SupervisedTask

HERE = Path(__file__).parent
DIABETES, IMAGES = f"{HERE / 'diabetes.py'}:Diabetes", f"{HERE / 'images_on_disk.py'}:Images"
QUIET = RunOptions(trackers=(), log_every=1)


@dataclass(frozen=True)
class Clouds(Supervised):
    """Two clouds of points that overlap."""

    def splits(self, streams):
        generator = Streams(0).generator("clouds")
        y = torch.arange(96) % 2
        x = torch.randn(96, 3, generator=generator) + 0.8 * y[:, None]
        return {name: (x, y) for name in ("train", "validation", "test")}

    def network(self, splits):
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


BASE = {
    "batch_test": "norm",
    "max_batch_size": 48,
    "batch_size": 8,
    "rounds": 4,
    "precision": "float64",
    "momentum": 0.0,
}


def built(cls=Clouds, **options):
    streams = Streams(0)
    with streams.scope("init"):
        return cls(**{**BASE, **options}).task(streams, make_accelerator())


def weights(task):
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])


def steps(task, count=None):
    """Take steps until the run is over; return the batches."""
    seen = []
    for batch in itertools.islice(task.train_batches(), count):
        with task.run.streams.scope("step"):
            task.train_step(batch)
        seen.append(batch)
    return seen


def by_hand(task, batch):
    """Statistics of a whole batch from its examples' own gradients."""
    parameters = list(task.model.parameters())
    found = []
    for x, y in zip(batch.inputs.double(), batch.targets, strict=True):
        loss = F.cross_entropy(task.model(x[None]), y[None])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    g = torch.stack(found)
    mean = g.mean(0)
    return GradStats(g.square().sum(1), g @ mean, float(mean @ mean), len(g), g.square().mean(0), mean)


@pytest.mark.parametrize("test", ["norm", "inner", "augmented", "coordinate"])
@pytest.mark.parametrize(
    "options", [{}, {"max_grad_norm": 0.01, "optimizer": "adamw", "momentum": None}, {"first_layer": "tract"}]
)
def test_every_batch_is_tested_on_its_raw_gradients_and_the_next_is_as_large_as_asked(test, options):
    task = built(batch_test=test, eta=0.7, **options)
    expected = BatchSizeController(8, 48, test, 0.7, 0.7, quantile=0.9)
    seen = []
    for batch in task.train_batches():
        assert batch.total == min(expected.propose().global_size, 4 * 96 - sum(seen))
        seen.append(batch.total)
        with task.aside("by hand"):
            stats = by_hand(task, batch)
        due = expected.due(batch.step)
        with task.run.streams.scope("step"):
            result = task.train_step(batch)
        if due:
            expected.observe(stats)
            assert float(result.metrics["batch_size_needed"]) == pytest.approx(expected.required, rel=1e-9)
        assert float(result.metrics["batch_size"]) == batch.total == result.examples == result.progress
    assert sum(seen) == 4 * 96 == task.budget.total
    assert task.budget.unit == "examples"
    assert len(set(seen)) > 1 or test == "inner"


def test_some_of_a_large_batch_are_looked_at_and_the_whole_gradient_is_below(monkeypatch):
    task = built(batch_size=40)
    act = task.acts.by_name["AdaptiveBatch"]
    act._controller.sample_cap = 10
    batch = next(task.train_batches())
    positions = torch.Generator()
    positions.set_state(act._positions.get_state())
    chosen = torch.randperm(40, generator=positions)[:10]
    whole = by_hand(task, batch)
    part = by_hand(task, dataclasses.replace(batch, inputs=batch.inputs[chosen], targets=batch.targets[chosen]))
    expected = dataclasses.replace(part, mean_sq_norm=whole.mean_sq_norm, n=40, sub_mean_sq_norm=part.mean_sq_norm)
    with task.run.streams.scope("step"):
        result = task.train_step(batch)
    assert float(result.metrics["batch_size_needed"]) == pytest.approx(required_batch_size(expected), rel=1e-9)


def test_a_test_changes_no_bit_of_the_steps_before_it_counts():
    tested, untested = built(eta=1e3), built(max_batch_size=8)
    for task in (tested, untested):
        assert {batch.total for batch in steps(task)} == {8}
    assert torch.equal(weights(tested), weights(untested))


def test_the_baseline_in_examples_sees_the_examples_of_one_in_steps_in_their_order():
    in_steps = built(batch_test="none", max_batch_size=None, schedule="constant")
    in_examples = built(max_batch_size=8, schedule="constant")
    assert (in_steps.budget.total, in_steps.budget.unit) == (48, "steps")
    one, other = steps(in_steps, 48), steps(in_examples)
    assert [b.indices.tolist() for b in one] == [b.indices.tolist() for b in other]
    assert torch.equal(weights(in_steps), weights(in_examples))
    adaptive = [i for batch in steps(built()) for i in batch.indices.tolist()]
    assert adaptive == [i for batch in one for i in batch.indices.tolist()]


def test_the_learning_rate_follows_the_examples_and_the_batch():
    task = built(lr=0.4, lr_min=0.1, warmup=0.25, batch_lr="sqrt", eta=0.3)
    seen = 0
    for batch in task.train_batches():
        with task.run.streams.scope("step"):
            rate = float(task.train_step(batch).metrics["lr"])
        seen += batch.total
        peak = 0.4 * (batch.total / 8) ** 0.5
        cosine = (1 + torch.cos(torch.tensor(torch.pi * (seen - 96) / 288).double())) / 2
        assert rate == pytest.approx(float(peak * seen / 96 if seen < 96 else 0.1 + (peak - 0.1) * cosine), rel=1e-6)


def test_pieces_stay_as_large_as_they_were(monkeypatch):
    task = built(accumulate=2, eta=0.3)
    act, found = task.acts.by_name["AdaptiveBatch"], []
    for batch in task.train_batches():
        pieces = batch.pieces(task.sizes.pieces(batch.total))
        found.append(max(len(piece[2]) for piece in pieces))
        with task.run.streams.scope("step"):
            task.train_step(batch)
    assert act._controller.propose().accumulation > 4
    assert set(found) == {4}


def test_the_number_of_pieces_changes_no_test():
    needed = []
    for pieces in (1, 2, 4):
        task = built(accumulate=pieces, batch_size=16, eta=0.01, max_batch_size=64)  # 16, and then 64
        steps(task, 1)
        needed.append(task.acts.by_name["AdaptiveBatch"]._controller.required)
        assert [batch.total for batch in steps(task)] == [64, 64, 64, 64, 64, 48]
    assert needed == pytest.approx([needed[0]] * 3, rel=1e-9)


def test_a_skipped_step_is_no_test():
    task = built()
    batches = task.train_batches()
    batch = next(batches)
    broken = dataclasses.replace(batch, inputs=batch.inputs * float("nan"))
    with task.run.streams.scope("step"):
        assert task.train_step(broken).skipped
    assert task.acts.by_name["AdaptiveBatch"]._controller.required is None
    assert next(batches).total == 8


@pytest.mark.parametrize("recipe", [DIABETES, IMAGES], ids=["in memory", "read ahead"])
def test_broken_off_and_resumed_it_ends_bit_identical(recipe, tmp_path, monkeypatch):
    options = {"batch_test": "norm", "max_batch_size": 40, "batch_size": 4, "rounds": 2}
    options |= {"loader_workers": 2, "first_layer": "tract"} if recipe == IMAGES else {}
    asked = registry.resolve(recipe)(**options)
    always = dataclasses.replace(QUIET, checkpoint_seconds=0.0)
    whole = run(asked, tmp_path / "whole", always, name=recipe)
    assert whole["steps"] < whole["examples"] // 4 - 2  # batches grew
    real = SupervisedTask.train_step
    for stop in (1, 5):
        taken = []

        def breaks(self, batch, stop=stop, taken=taken):
            if len(taken) == stop:
                raise KeyboardInterrupt
            taken.append(batch)
            return real(self, batch)

        out = tmp_path / f"cut-{stop}"
        with monkeypatch.context() as broken, contextlib.suppress(KeyboardInterrupt):
            broken.setattr(SupervisedTask, "train_step", breaks)
            run(asked, out, always, name=recipe)
        assert len(taken) == stop
        cut = run(asked, out, always, name=recipe, resume=True)
        assert (cut["steps"], cut["test"]) == (whole["steps"], whole["test"])
        one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", out))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_and_pieces_take_the_batches_of_one(tmp_path, processes):
    # A small η: every test asks for more than the cap lets it have, and all cuts have batches of 16, 64 and 160.
    exact = {"precision": "float64", "rounds": 3, "batch_size": 16, "max_batch_size": 160, "eta": 0.01}
    asked = [
        {**exact, "batch_test": test, "accumulate": k} for test in ("norm", "augmented", "coordinate") for k in (1, 2)
    ]

    def requests(kind: str) -> str:
        named = enumerate(asked)
        return json.dumps([{"recipe": DIABETES, "options": o, "out": str(tmp_path / f"{kind}{i}")} for i, o in named])

    for count, kind in ((1, "one"), (2, "two")):
        processes(HERE / "program.py", count, requests(kind))
    for index in range(len(asked)):
        one, two = (read_json(tmp_path / f"{kind}{index}" / "result.json") for kind in ("one", "two"))
        assert two["test"] == pytest.approx(one["test"], rel=1e-9)
        assert (two["examples"], two["steps"]) == (one["examples"], one["steps"])
        rows = [
            [json.loads(line) for line in (tmp_path / f"{kind}{index}" / "metrics.jsonl").read_text().splitlines()]
            for kind in ("one", "two")
        ]
        trained = [[row["metrics"] for row in found if row["split"] == "train"] for found in rows]
        assert [row["batch_size"] for row in trained[0]] == [16, 64, *[160] * 5, 20]
        for ours, theirs in zip(*trained, strict=True):
            both = [{k: v for k, v in row.items() if k.startswith("batch")} for row in (ours, theirs)]
            assert both[0] == pytest.approx(both[1], rel=1e-8)
        assert "batch_size_needed" in trained[0][1]


def test_one_command_compares_adaptive_and_constant_batches(tmp_path, capsys):
    common = ["--batch-size", "8", "--rounds", "3", "--trackers", "--batch-test", "norm", "--seeds", "2"]
    variants = ["constant:max_batch_size=8", "adaptive:max_batch_size=200"]
    words = ["compare", DIABETES, *common, *(word for name in variants for word in ("--variant", name))]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    comparison = read_json(tmp_path / "out" / "comparison.json")
    constant, adaptive = (variant["runs"][0] for variant in comparison["variants"])
    assert constant["examples"] == adaptive["examples"]
    assert constant["steps"] > adaptive["steps"]
    assert comparison["unit"] == "examples"
    assert len(comparison["variants"][0]["to_target"]["examples"]) == 2
    words = ["compare", DIABETES, "--seeds", "1", "--variant", "steps", "--variant"]
    mixed = "examples:batch_test=norm,max_batch_size=40"
    assert main([*words, mixed, "--out", str(tmp_path / "mixed")]) == 2
    assert "compare runs of one unit" in capsys.readouterr().err


def test_a_search_for_memory_leaves_room_for_the_batches_that_are_trained_on(monkeypatch):
    """It ends an eighth below the limit, which the first batch need not be."""
    task = built(batch_size=42)
    act = task.acts.by_name["AdaptiveBatch"]
    real = act._losses

    def little_memory(model, examples):
        if len(examples[1]) > 43:
            raise torch.OutOfMemoryError
        return real(model, examples)

    monkeypatch.setattr(act, "_losses", little_memory)
    assert 42 <= act._most_that_fit(task, act._controller) <= 43


def test_a_resumed_run_takes_no_larger_pieces_than_before():
    """Whatever its memory says then: other pieces have other sums."""
    one, other = (built().acts.by_name["AdaptiveBatch"] for _ in range(2))
    one._controller.max_micro, other._controller.max_micro = 16, 32
    other.load_state_dict(one.state_dict())
    for act in (one, other):
        act._controller.set_size(48)
    assert other._controller.propose() == one._controller.propose()
    other._controller.max_micro = 8  # and no more than fit
    other.load_state_dict(one.state_dict())
    assert other._controller.propose().micro == 8


def test_which_examples_are_looked_at_goes_on_where_a_run_was_broken_off():
    def begun():
        task = built(batch_size=20, max_batch_size=96)
        task.acts.by_name["AdaptiveBatch"]._controller.sample_cap = 10
        return task

    def needed(task):
        steps(task, 3)
        return task.acts.by_name["AdaptiveBatch"]._controller.required

    one, other = begun(), begun()
    steps(one, 2)
    saved = copy.deepcopy((one.state_dict(), one.run.streams.state_dict()))
    expected = needed(one)
    other.load_state_dict(saved[0])
    assert needed(begun()) != expected
    other.run.streams.load_state_dict(saved[1])
    assert needed(other) == expected


# --- refusals


@dataclass(frozen=True)
class Normalised(Clouds):
    def network(self, splits):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@dataclass(frozen=True)
class Recurrent(Clouds):
    def network(self, splits):
        return nn.GRU(3, 2)

    def forward(self, model, inputs):
        return model(inputs[:, None])[0][:, 0]


@dataclass(frozen=True)
class Counted(Clouds):
    def losses(self, outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none"), torch.ones(len(targets))


class _Heavy(Act):
    def weights(self, batch):
        return torch.ones(len(batch))


@dataclass(frozen=True)
class Heavy(Part):
    def act(self, run):
        return _Heavy()


@dataclass(frozen=True)
class Weighed(Clouds, Heavy):
    pass


@dataclass(frozen=True)
class Whole(Clouds):
    def objective(self, model, batch, noise):
        return model(batch[0]).square().mean()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"subset": "rs2", "ratio": 0.5}, "batch_test cannot be used with subset rs2, got norm"),
        ({"subset": "static", "ratio": 0.5}, "batch_test cannot be used with subset static, got norm"),
        ({"schedule_length": "compressed", "ratio": 0.5}, "batch_test cannot be used with schedule_length compressed"),
        ({"surrogate": 2}, "batch_test cannot be used with surrogate 2, got norm"),
        ({"stop_at": 5}, "batch_test cannot be used with stop_at 5, got norm"),
        ({"shard": True}, "batch_test cannot be used with shard True, got norm"),
        ({"schedule": "linear"}, "batch_test cannot be used with schedule linear, got norm"),
        ({"schedule": "sasa"}, "batch_test cannot be used with schedule sasa, got norm"),
        ({"temperature": 2.0}, "batch_test cannot be used with temperature 2.0, got norm"),
        ({"warmup": 5.0}, "batch_test cannot be used with a warmup of 5 steps; give a share of the run, below 1"),
        (
            {"optimizer": "spectra-ademamix", "momentum": None},
            "batch_test cannot be used with the warm-up of spectra-ademamix, which is counted in steps, got norm",
        ),
        (
            {"optimizer": "spectra-adamw", "momentum": None, "warmup": 0.1},
            "batch_test cannot be used with the warm-up of spectra-adamw, which is counted in steps, got norm",
        ),
        ({"eta": 0.0}, "eta must be positive and finite, got 0.0"),
        ({"max_batch_size": None}, "max_batch_size must be given with batch_test norm, got None"),
        ({"max_batch_size": 7}, "max_batch_size must be at least batch_size, and that at least 2, got 7 and 8"),
        ({"max_batch_size": 97}, "max_batch_size must be at most 96, the training examples, got 97"),
        ({"accumulate": 3}, "batch_size must be a multiple of accumulate, of 4 examples or more, got 8"),
        (
            {"batch_test": "none", "eta": 0.5, "max_batch_size": None},
            "eta cannot be used with batch_test none, got 0.5",
        ),
        ({"batch_test": "none"}, "max_batch_size cannot be used with batch_test none, got 48"),
        ({"cls": Normalised}, "got batch normalisation in training mode: 1"),
        ({"cls": Recurrent}, "batch_test cannot be used with this network: "),
        ({"cls": Counted}, "batch_test cannot be used with losses that have counts"),
        ({"cls": Weighed}, "batch_test cannot be used with parts that have weights"),
        ({"cls": Whole}, "batch_test cannot be used with an objective, which has no loss for each example, got norm"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, line):
    with pytest.raises(ValueError, match=line):
        built(**options)


def test_spectra_without_a_warm_up_is_tested():
    assert len({batch.total for batch in steps(built(optimizer="spectra-adamw", momentum=None, eta=0.3), 6)}) > 1
