"""A task of a user's own gets every method of the house from about twenty lines."""

import ast
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from aleator.cli import main
from aleator.experiment import RunOptions, registry, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.registry import resolve
from aleator.random import Streams
from aleator.recipes import Supervised, SupervisedBase
from aleator.recipes.parts import Part
from aleator.recipes.parts.batch import evaluation_batches
from aleator.recipes.parts.losses import per_example
from aleator.recipes.parts.task import SupervisedTask

HERE = Path(__file__).parent
DIABETES, IMAGES = f"{HERE / 'diabetes.py'}:Diabetes", f"{HERE / 'images_on_disk.py'}:Images"
QUIET = RunOptions(trackers=(), log_every=1)


def test_the_recipe_has_at_most_25_lines_of_code():
    source = (HERE / "diabetes.py").read_text()
    lines = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.stmt, ast.expr))}
    assert len(lines) <= 25


def test_one_command_compares_four_methods_on_a_table(tmp_path, capsys):
    variants = ["plain", "lamb:optimizer=lamb", "rs2:subset=rs2,ratio=0.3", "targets:surrogate=3"]
    words = ["compare", DIABETES, "--seeds", "1", "--rounds", "2", "--trackers", "--out", str(tmp_path / "out")]
    assert main([*words, *(word for name in variants for word in ("--variant", name))]) == 0
    comparison = read_json(tmp_path / "out" / "comparison.json")
    assert not comparison["failures"]
    assert "test loss" in capsys.readouterr().out


def test_a_network_with_images_learns_by_tract(tmp_path):
    words = ["run", IMAGES, "--rounds", "2", "--first-layer", "tract", "--trackers", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert read_json(tmp_path / "run" / "result.json")["headline"] == {"name": "accuracy", "direction": "max"}


def test_options_of_a_variant_may_fit_only_together_with_what_is_tuned(monkeypatch, capsys):
    monkeypatch.setattr("aleator.commands.compare._tell", lambda compared, plan, where: len(compared) != 2)
    variants = ["--variant", "rs2:subset=rs2", "--variant", "static:subset=static"]
    words = ["compare", DIABETES, *variants, "--tune", "ratio=0.3,0.5", "--seeds", "1", "--dry-run"]
    assert main(words) == 0, capsys.readouterr().err
    assert main([*words[:2], "--variant", "full", *words[2:]]) == 2
    assert "variant 'full': ratio cannot be used with subset full" in capsys.readouterr().err


# --- what a recipe may say


def built(recipe: Supervised, seed: int = 0) -> SupervisedTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return recipe.task(streams, make_accelerator())


def steps(task: SupervisedTask, count: int) -> list[Any]:
    batches = task.train_batches()
    return [task.train_step(next(batches)) for _ in range(count)]


@dataclass(frozen=True)
class Words(Supervised):
    """Sequences of unequal length: a token's loss counts once, padding never."""

    batch_size: int = 4

    def splits(self, streams):
        lengths = torch.tensor([1, 2, 3, 4] * 4)
        inputs = torch.randn(16, 4, 3, generator=Streams(0).generator("x"))
        mask = torch.arange(4) < lengths[:, None]
        targets = torch.where(mask, torch.randint(0, 5, (16, 4), generator=Streams(0).generator("y")), -1)
        return {"train": (inputs, targets), "validation": (inputs, targets), "test": (inputs[:3], targets[:3])}

    def network(self, splits):
        return nn.Linear(3, 5)

    def losses(self, outputs, targets):
        losses = F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none", ignore_index=-1)
        return losses, (targets >= 0).to(losses.dtype)

    def metrics(self, outputs, targets):
        return {"right": ((outputs.argmax(-1) == targets).double(), targets >= 0)}


@pytest.mark.parametrize("accumulate", [1, 3, 4])
def test_a_mean_over_tokens_does_not_depend_on_the_pieces(accumulate):
    task = built(Words(accumulate=accumulate, precision="float64", lr=1.0, momentum=0.0, weight_decay=0.0))
    batch = next(task.train_batches())
    with Streams(0).scope("init"):
        model = nn.Linear(3, 5).double()
    model.load_state_dict(task.model.state_dict())
    scores, targets = model(batch.inputs.double()), batch.targets
    F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1).backward()
    before = task.model.weight.detach().clone()
    result = task.train_step(batch)
    assert torch.allclose(before - task.model.weight, model.weight.grad, rtol=1e-12)
    expected = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1)
    assert float(result.metrics["loss"]) == pytest.approx(float(expected))


def test_an_evaluation_divides_by_the_tokens_too():
    task = built(Words(precision="float64"))
    inputs, targets = task.held_out["test"].inputs.double(), task.held_out["test"].targets
    expected = F.cross_entropy(task.model(inputs).flatten(0, 1), targets.flatten(), ignore_index=-1)
    found = task.evaluate("test")
    assert found["loss"] == pytest.approx(float(expected))
    right = (task.model(inputs).argmax(-1) == targets)[targets >= 0].double().mean()
    assert found["right"] == pytest.approx(float(right))
    assert found["examples"] == 3


@dataclass(frozen=True)
class Quarters(Supervised):
    """A linear network and four classes."""

    def splits(self, streams):
        data = torch.randn(64, 6, generator=Streams(0).generator("x")), torch.arange(64) % 4
        return {"train": data, "validation": data, "test": data}

    def network(self, splits):
        return nn.Linear(6, 4)


@dataclass(frozen=True)
class Contrasts(Quarters):
    """A loss of a whole batch."""

    def objective(self, model, batch, noise):
        inputs, _ = batch
        views = [model(inputs + 0.1 * torch.randn(inputs.shape, generator=noise)) for _ in range(2)]
        return F.cross_entropy(views[0] @ views[1].T, torch.arange(len(inputs)))


def test_a_loss_of_the_whole_batch_is_learned_and_what_needs_losses_per_example_is_refused():
    task = built(Contrasts(lr=0.1))
    losses = [float(result.metrics["loss"]) for result in steps(task, 12)]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="objective cannot be used with parts that need the loss of every example"):
        built(Contrasts(surrogate=2, target_step_size=1.0))


@dataclass(frozen=True)
class Grouped(Quarters):
    """Two groups, of which one is small."""

    def groups(self, splits):
        return (torch.arange(64) >= 48).long(), ("many", "few")


def test_a_mixture_shows_groups_in_its_proportions():
    task = built(Grouped(temperature=1e6, batch_size=16, rounds=30))
    shown = torch.cat([batch.indices for batch, _ in zip(task.train_batches(), range(100), strict=False)])
    assert float((shown >= 48).double().mean()) == pytest.approx(0.5, abs=0.01)
    plain = built(Grouped(batch_size=16, rounds=30))
    shown = torch.cat([batch.indices for batch, _ in zip(plain.train_batches(), range(100), strict=False)])
    assert float((shown >= 48).double().mean()) == pytest.approx(0.25, abs=0.01)


def test_weights_of_a_mixture_multiply_losses():
    task = built(Grouped(temperature=1e6, weighting="scalarization", batch_size=16, precision="float64"))
    batch = next(task.train_batches())
    found = float(task.train_step(batch).metrics["loss"])
    fresh = built(Grouped(batch_size=16, precision="float64"))
    losses = F.cross_entropy(fresh.model(batch.inputs.double()), batch.targets, reduction="none")
    weights = torch.where(batch.indices >= 48, 0.5 / 0.25, 0.5 / 0.75).double()
    assert found == pytest.approx(float((weights * losses).mean()), rel=1e-5)


def test_a_mixture_by_sampling_weighs_nothing_and_goes_with_surrogates_and_objectives():
    mixed = {"temperature": 1e6, "batch_size": 16}
    assert steps(built(Grouped(**mixed, surrogate=2, lr=0.01)), 1)[0].metrics["inner_steps"] == 2

    @dataclass(frozen=True)
    class Objective(Grouped):
        def objective(self, model, batch, noise):
            return F.cross_entropy(model(batch[0]), batch[1])

    task, plain = built(Objective(**mixed)), built(Grouped(**mixed))
    losses = [[float(step.metrics["loss"]) for step in steps(each, 3)] for each in (task, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    with pytest.raises(ValueError, match="Mixture cannot be used with surrogate, which has no place for weights"):
        built(Grouped(**mixed, surrogate=2, weighting="scalarization"))


@dataclass(frozen=True)
class Scored(Quarters):
    """Metrics of a whole split."""

    def scores(self, outputs, targets):
        return {"classes": float(len(targets.unique())), "rows": float(len(outputs))}


def test_scores_see_a_whole_split():
    found = built(Scored()).evaluate("validation")
    assert (found["classes"], found["rows"]) == (4, 64)


def test_ema_is_what_is_evaluated_and_is_saved(tmp_path):
    recipe = Scored(ema=0.5, rounds=2, lr=0.5)
    task = built(recipe)
    steps(task, 4)
    (mean,) = task.saved_models().values()
    expected = F.cross_entropy(mean(task.held_out["test"].inputs), task.held_out["test"].targets)
    assert task.evaluate("test")["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert not torch.equal(mean.weight, task.model.weight)
    result = run(Quarters(ema=0.5, rounds=2), tmp_path / "run", QUIET, name=f"{__file__}:Quarters")
    with Streams(0).scope("init"):
        network = nn.Linear(6, 4)
    network.load_state_dict(load_file(tmp_path / "run" / "model-ema.safetensors"))
    inputs, targets = task.held_out["test"].inputs, task.held_out["test"].targets
    assert result["test"]["loss"] == pytest.approx(float(F.cross_entropy(network(inputs), targets)), rel=1e-5)


def test_the_mean_of_the_weights_is_saved_beside_them_and_is_what_was_measured(tmp_path):
    words = ["run", DIABETES, "--ema", "0.9", "--rounds", "2", "--trackers", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    mean, last = (load_file(tmp_path / "run" / f"{file}.safetensors") for file in ("model-ema", "model"))
    assert mean.keys() == last.keys()
    assert not any(torch.equal(mean[name], last[name]) for name in mean)
    recipe = registry.resolve(DIABETES)()
    with Streams(0).scope("init"):
        network = recipe.network({})
    network.load_state_dict(mean)
    inputs, targets = recipe.splits(Streams(0))["test"]
    measured = read_json(tmp_path / "run" / "result.json")["test"]["loss"]
    assert measured == pytest.approx(float(F.mse_loss(network(inputs), targets)), rel=1e-5)


# --- what is refused


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "rs2"}, "ratio must be given with subset rs2, got None"),
        ({"ratio": 0.5}, "ratio cannot be used with subset full, unless schedule_length is compressed, got 0.5"),
        ({"stratified": True}, "stratified cannot be used with subset full, got True"),
        ({"schedule_length": "full"}, "schedule_length must be own or compressed with subset full, got full"),
        ({"temperature": 2.0}, "temperature cannot be used with data that have no groups"),
        ({"surrogate": 2, "compile": True}, "compile cannot be used with surrogate"),
        ({"surrogate": 2, "accumulate": 2}, "accumulate cannot be used with surrogate, got 2"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1.0"),
        ({"loader_workers": 2}, "loader_workers cannot be used with examples in memory, got 2"),
        ({"loader_workers": -1}, "loader_workers must not be negative, got -1"),
        ({"lr_min": 0.1, "schedule": "constant"}, "lr_min cannot be used with schedule constant, got 0.1"),
    ],
)
def test_options_without_effect_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        built(Scored(**options))


def test_two_parts_that_answer_the_same_are_named():
    with pytest.raises(ValueError, match="Mixture and Subset cannot be used together: both say which example is next"):
        built(Grouped(temperature=2.0, subset="rs2", ratio=0.5, batch_size=8))


def test_an_option_that_would_hide_a_method_is_refused():
    with pytest.raises(TypeError, match="the option 'metrics' hides the method of SupervisedBase; rename it"):

        @dataclass(frozen=True)
        class Hides(SupervisedBase):
            metrics: int = 3


def test_an_option_of_a_part_that_would_hide_a_method_is_refused():
    @dataclass(frozen=True)
    class Hidden(Part):
        metrics: int = 3

    with pytest.raises(TypeError, match="the option 'metrics' hides the method of SupervisedBase; rename it"):
        type("Hides", (SupervisedBase, Hidden), {})


def test_two_parts_of_one_name_are_refused():
    @dataclass(frozen=True)
    class Tract(Part):
        def act(self, run):
            return None

    @dataclass(frozen=True)
    class Twice(Quarters, Tract):
        pass

    with pytest.raises(ValueError, match="Twice has two parts named Tract; rename one"):
        built(Twice())


DATA = torch.randn(64, 6, generator=Streams(0).generator("x")), torch.arange(64) % 4


def with_splits(**changed: Any) -> Supervised:
    @dataclass(frozen=True)
    class Changed(Quarters):
        def splits(self, streams):
            return {"train": DATA, "validation": DATA, "test": DATA, **changed}

    return Changed()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": (DATA[0], DATA[1][:40])}, r"must have the same first dimension, got \[40, 64\]"),
        ({"train": (DATA[0].numpy(), DATA[1])}, "must be tensors with a row for each example, got ndarray"),
        ({"test": ({"a": DATA[0], "b": None}, DATA[1])}, "must be tensors with a row for each example, got NoneType"),
        ({"validation": (DATA[0][:0], DATA[1][:0])}, "must return at least one example for validation, got none"),
        ({"validation": [{"x": 1, "y": 2}] * 3}, r"collate must return \(inputs, targets\), got dict"),
    ],
)
def test_splits_that_are_no_examples_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        built(with_splits(**changed))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (torch.zeros(20).long(), "groups must have an entry for each of 64 training examples, got 20"),
        (torch.arange(64) % 3, r"groups must be in \[0, 2\), a number for each name, got 0 to 2"),
    ],
)
def test_groups_that_do_not_fit_are_named(groups, message):
    @dataclass(frozen=True)
    class Wrong(Grouped):
        def groups(self, splits):
            return groups, ("many", "few")

    with pytest.raises(ValueError, match=message):
        built(Wrong(temperature=2.0))


@pytest.mark.plain
@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5)])
def test_a_metric_that_is_no_number_for_each_example_is_named(value):
    @dataclass(frozen=True)
    class Wrong(Quarters):
        def metrics(self, outputs, targets):
            return {"share": value}

    with pytest.raises(ValueError, match="share must be a tensor of one number for each example, got"):
        built(Wrong()).evaluate("test")


# --- numbers


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_classes_may_be_integers_of_any_kind(dtype):
    targets = (DATA[1] % 2).to(dtype)
    found = built(with_splits(**dict.fromkeys(("train", "validation", "test"), (DATA[0], targets)))).evaluate("test")
    usual = built(with_splits(**dict.fromkeys(("train", "validation", "test"), (DATA[0], DATA[1] % 2))))
    assert found == usual.evaluate("test")


def test_a_squared_error_of_half_precision_outputs_is_of_single_precision():
    outputs, targets = torch.full((3, 1), 300.0, dtype=torch.float16), torch.tensor([0.0, 1.001, 2.002])
    found = per_example(outputs, targets)
    assert found.dtype == torch.float32
    assert torch.equal(found, (300 - targets).square())


def test_tokens_in_half_precision_are_counted_in_single_precision():
    @dataclass(frozen=True)
    class Half(Words):
        def losses(self, outputs, targets):
            losses, counts = super().losses(outputs, targets)
            return losses.bfloat16(), counts.bfloat16()

    targets = torch.zeros(257, 4, dtype=torch.long)
    targets[0, 1:] = -1
    _, count = built(Half())._loss(torch.zeros(257, 4, 3), targets, None)
    assert count == 256 * 4 + 1


def test_targets_have_the_precision_of_the_network():
    @dataclass(frozen=True)
    class Huber(Quarters):
        precision: str = "float64"

        def splits(self, streams):
            data = DATA[0], DATA[0][:, :4].clone()
            return {"train": data, "validation": data, "test": data}

        def losses(self, outputs, targets):
            return F.huber_loss(outputs, targets, reduction="none").mean(1)

    assert steps(built(Huber()), 1)[0].metrics["loss"].dtype == torch.float64


def test_a_surrogate_of_a_data_set_with_classes_has_the_step_size_of_their_loss():
    def one_step(split) -> torch.Tensor:
        recipe = dataclasses.replace(with_splits(**dict.fromkeys(("train", "validation", "test"), split)), **inner)
        task = built(recipe)
        steps(task, 1)
        return task.model.weight.detach()

    inner = {"surrogate": 2, "lr": 0.01}
    listed = list(zip(*DATA, strict=True))
    assert torch.equal(one_step(listed), one_step(DATA))


def test_an_evaluation_copies_no_examples():
    task = built(Quarters())
    held_out = task.held_out["test"]
    batches = evaluation_batches(held_out, 7, rank=1, processes=2, device=task.run.device, workers=0, key=0)
    found = list(batches)
    assert torch.equal(torch.cat([inputs for inputs, _ in found]), held_out.inputs[1::2])
    assert found[0][0].untyped_storage().data_ptr() == held_out.inputs.untyped_storage().data_ptr()


def test_batches_asked_for_again_begin_behind_the_last_consumed_whatever_was_prefetched():
    listed = list(zip(*DATA, strict=True))
    recipe = dataclasses.replace(with_splits(train=listed), loader_workers=1, batch_size=8)
    task, other = built(recipe), built(recipe)
    expected = [batch.indices for batch, _ in zip(task.train_batches(), range(4), strict=False)]
    found = [next(other.train_batches()).indices for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_two_processes_normalise_alike_whoever_looks_on(tmp_path, processes):
    recipe = f"{HERE / 'normalised.py'}:Normalised"
    asked = [{}, {"looks": True}, {"ema": 0.9}]
    requests = [{"recipe": recipe, "options": o, "out": str(tmp_path / str(i))} for i, o in enumerate(asked)]
    processes(HERE / "program.py", 2, json.dumps(requests))
    results = [read_json(tmp_path / str(index) / "result.json") for index in range(3)]
    assert results[1]["test"] == pytest.approx(results[0]["test"], rel=1e-9)
    task = built(resolve(recipe)(), 0)
    for result, file in ((results[0], "0/model"), (results[2], "2/model-ema")):
        task.model.load_state_dict(load_file(tmp_path / f"{file}.safetensors"))
        assert task.evaluate("test")["loss"] == pytest.approx(result["test"]["loss"], rel=1e-9)
    assert results[0]["validation"]["rows"] == 1


def test_shapes_that_do_not_fit_are_named():
    @dataclass(frozen=True)
    class Wrong(Scored):
        def network(self, splits):
            return nn.Linear(6, 2)

        def splits(self, streams):
            data = torch.randn(64, 6, generator=Streams(0).generator("x")), torch.zeros(64, 3)
            return {"train": data, "validation": data, "test": data}

    task = built(Wrong())
    with pytest.raises(ValueError, match=r"outputs must have the shape of the targets, \(32, 3\), got \(32, 2\)"):
        steps(task, 1)
