"""A part that answers every seam: what is called when, how often, and with what."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes import SupervisedBase
from aleator.recipes.parts import Act, Part
from aleator.recipes.parts.acts import Acts
from aleator.recipes.parts.ema import WeightEMA
from aleator.recipes.parts.run import Run
from aleator.recipes.parts.subset import Subset
from aleator.recipes.parts.tract import Tract

QUIET = RunOptions(trackers=(), log_every=1)
CALLS: list[str] = []


class Recorder(Act):
    """Says nothing, and remembers that it was asked."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run, self.steps = name, run, 0

    def _called(self, seam: str) -> None:
        CALLS.append(f"{self.name}.{seam}")

    def kept(self, train):
        self._called("kept")

    def ordered(self, train):
        self._called("ordered")

    def sized(self, order):
        self._called("sized")

    def wrapped(self, network):
        self._called("wrapped")
        torch.rand(3)  # from a stream of its own: no other part may notice
        return network

    def lr_ratio(self, name):
        return 1.0

    def optimized(self, optimizer):
        self._called("optimized")
        return optimizer

    def scheduled(self, optimizer):
        self._called("scheduled")

    def descent(self, task):
        self._called("descent")

    def called(self, forward):
        self._called("called")
        return forward

    def started(self, task):
        self._called("started")
        self.task = task

    def before_step(self, batch):
        self._called("before_step")

    def weights(self, batch):
        self._called("weights")

    def penalty(self, losses):
        self._called(f"penalty of {len(losses)}")

    def after_piece(self, count):
        self._called(f"after_piece of {count}")

    def observe(self):
        self._called("observe")

    def transform(self):
        self._called("transform")

    def after_step(self, report):
        self.steps += report.stepped
        self._called("after_step" if report.stepped else "after_step without a step")

    @contextlib.contextmanager
    def aside(self):
        self._called("aside")
        yield

    def evaluated(self, model):
        self._called("evaluated")
        return model

    def before_evaluation(self, split):
        self._called(f"before_evaluation of {split}")

    def measured(self, split, found):
        self._called("measured")
        return {f"{self.name} steps": float(self.steps)}

    def logged(self):
        return {f"{self.name} steps": torch.tensor(float(self.steps))}

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


@dataclass(frozen=True)
class Apple(Part):
    """A part whose name comes first."""

    def act(self, run):
        return Recorder("apple", run)


@dataclass(frozen=True)
class Pear(Part):
    """A part whose name comes last."""

    def act(self, run):
        return Recorder("pear", run)


class _Task(SupervisedBase):
    broken: ClassVar[float] = 0.0

    def splits(self, streams):
        inputs = torch.randn(96, 5, generator=Streams(0).generator("x"))
        data = inputs, (inputs[:, 0] > 0).long()
        return {"train": data, "validation": data, "test": data}

    def network(self, splits):
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def prepared(self, inputs):
        return inputs / (0.0 if self.broken else 1.0)


@dataclass(frozen=True)
class Fruit(_Task, Apple, Pear):
    """With the parts in the order of the alphabet."""


@dataclass(frozen=True)
class Turned(Pear, Apple, _Task):
    """With the parts the other way round."""


@dataclass(frozen=True)
class Without(_Task):
    """Without parts."""


@dataclass(frozen=True)
class Broken(Fruit):
    """Whose inputs are not finite."""

    broken: ClassVar[float] = 1.0


def built(kind, **options):
    CALLS.clear()
    streams = Streams(0)
    with streams.scope("init"):
        return kind(rounds=2, **options).task(streams, make_accelerator())


def stepped(task):
    with Streams(0).scope("step"):
        return task.train_step(next(iter(task.train_batches())))


def of(name: str) -> list[str]:
    return [call.partition(".")[2] for call in CALLS if call.startswith(f"{name}.")]


def test_everything_is_asked_once_and_in_the_order_of_the_documents():
    built(Fruit)
    expected = ["kept", "ordered", "sized", "wrapped", "called", "optimized", "scheduled", "descent", "started"]
    assert of("apple") == of("pear") == expected


def test_a_step_goes_through_its_phases_in_order_and_each_once_a_batch_but_for_pieces():
    task = built(Fruit, accumulate=3)
    CALLS.clear()
    stepped(task)
    pieces = [call for count in (11, 11, 10) for call in (f"penalty of {count}", f"after_piece of {count}")]
    assert of("apple") == ["before_step", "weights", *pieces, "observe", "transform", "after_step"]


def test_inside_a_phase_parts_come_by_name_whatever_the_order_of_the_bases():
    found = []
    for kind in (Fruit, Turned):
        task = built(kind)
        stepped(task)
        found.append(list(CALLS))
    assert found[0] == found[1]
    assert found[0].index("apple.observe") < found[0].index("pear.observe") < found[0].index("apple.transform")


def test_parts_that_say_nothing_change_no_bit(tmp_path):
    weights = []
    for kind in (Without, Fruit, Turned):
        task = built(kind, max_grad_norm=0.5)
        with Streams(0).scope("step"):
            batches = task.train_batches()
            for _ in range(4):
                task.train_step(next(batches))
        weights.append(torch.cat([p.detach().flatten() for p in task.model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])


def test_a_skipped_step_is_seen_as_one_and_the_statistics_stand_still():
    task = built(Broken)
    CALLS.clear()
    assert stepped(task).skipped
    assert of("apple")[-1] == "after_step without a step"
    assert task.model[1].num_batches_tracked == 0


def test_an_evaluation_is_prepared_measured_and_of_the_model_that_parts_choose():
    task = built(Fruit)
    CALLS.clear()
    found = task.evaluate("validation")
    assert of("pear") == ["before_evaluation of validation", "evaluated", "measured"]
    assert found["pear steps"] == 0


def test_what_parts_remember_is_saved_under_their_names():
    task = built(Fruit)
    stepped(task)
    state = task.state_dict()
    assert state["parts"] == {"Apple": {"steps": 1}, "Pear": {"steps": 1}}
    again = built(Turned)
    again.load_state_dict(state)
    assert again.evaluate("test")["apple steps"] == 1
    with pytest.raises(ValueError, match="the saved state comes from the parts Apple, Pear, this run has none"):
        built(Without).load_state_dict(state)


class Late(Act):
    """Remembers nothing before its first step."""

    def __init__(self) -> None:
        self.memory: dict[str, int] = {}

    def after_step(self, report):
        self.memory = {"steps": 1}

    def state_dict(self):
        return self.memory

    def load_state_dict(self, state):
        self.memory = state


@dataclass(frozen=True)
class Lately(Part):
    def act(self, run):
        return Late()


@dataclass(frozen=True)
class Remembering(_Task, Lately):
    """With a part that begins to remember."""


def test_a_part_may_begin_to_remember_in_its_first_step():
    task, again = built(Remembering), built(Remembering)
    stepped(task)
    again.load_state_dict(task.state_dict())
    assert again.state_dict()["parts"] == {"Lately": {"steps": 1}}


class Twice(Act):
    def wrapped(self, network):
        return nn.Sequential(network, nn.Linear(2, 2))


@dataclass(frozen=True)
class Yard(Part):
    """Its name comes after the name of the mean of the weights."""

    def act(self, run):
        return Twice()


@dataclass(frozen=True)
class Fenced(_Task, Yard, WeightEMA):
    """With a mean of the weights, and a part that wraps the network after it."""


def test_the_mean_of_the_weights_is_of_the_network_with_all_that_parts_put_around_it():
    task = built(Fenced, ema=0.0)
    stepped(task)
    mean = task.acts.through("evaluated", task.model)
    assert mean.state_dict().keys() == task.model.state_dict().keys()


def test_a_run_that_parts_take_part_in_counts_every_batch(tmp_path):
    CALLS.clear()
    result = run(Fruit(rounds=3), tmp_path / "run", QUIET, name=f"{__file__}:Fruit")
    assert of("apple").count("after_step") == result["steps"] == 9


def test_what_one_part_draws_to_wrap_the_network_no_other_part_and_no_weight_notices():
    weights = [built(kind).model[0].weight for kind in (Without, Fruit)]
    assert torch.equal(*weights)
    assert torch.equal(built(Fruit).augmentation.get_state(), built(Without).augmentation.get_state())


def test_parts_of_the_house_draw_nothing_from_the_global_generator_in_a_step():
    states = []
    for options in ({}, {"first_layer": "tract", "ema": 0.9, "subset": "rs2", "ratio": 0.5}):
        task = built(Probing, **options)
        with Streams(0).scope("step"):
            task.train_step(next(task.train_batches()))
            states.append(torch.random.get_rng_state())
    assert torch.equal(*states)


def test_a_part_with_a_subclass_among_the_bases_is_left_out():
    @dataclass(frozen=True)
    class Better(Apple):
        def act(self, run):
            return Recorder("better", run)

    @dataclass(frozen=True)
    class Both(_Task, Apple):
        pass

    @dataclass(frozen=True)
    class Replaced(_Task, Better):
        pass

    assert list(Acts(Run(Both(), Streams(0), make_accelerator())).by_name) == ["Apple"]
    assert list(Acts(Run(Replaced(), Streams(0), make_accelerator())).by_name) == ["Better"]


@dataclass(frozen=True)
class Probing(_Task, Tract, WeightEMA, Subset):
    """A task whose parts have memories."""


@pytest.mark.parametrize("first_layer", ["plain", "tract"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_passes_aside_leave_no_trace(first_layer, accumulate):
    options = {"first_layer": first_layer, "accumulate": accumulate, "ema": 0.9, "precision": "float64"}
    weights = []
    for probes in (False, True):
        task = built(Probing, **options)
        batches = task.train_batches()
        for _ in range(3):
            batch = next(batches)
            if probes:
                with task.aside("probe") as model:
                    model.train()
                    loss = nn.functional.cross_entropy(model(batch.inputs.double()), batch.targets)
                    loss.backward()
                    found = model[0].weight.grad.clone()
                    model.zero_grad()
                    expected = nn.functional.cross_entropy(model(batch.inputs.double()), batch.targets)
                    assert torch.isfinite(expected)
                    assert found.abs().sum() > 0
            with task.run.streams.scope("step"):
                task.train_step(batch)
        weights.append(torch.cat([t.double().flatten() for t in task.model.state_dict().values()]))
    assert torch.equal(*weights)


def test_a_gradient_aside_is_the_ordinary_one():
    gradients = []
    for first_layer in ("plain", "tract"):
        task = built(Probing, first_layer=first_layer, precision="float64")
        batch = next(task.train_batches())
        with task.aside("probe") as model:
            model.eval()
            nn.functional.cross_entropy(model(batch.inputs.double()), batch.targets).backward()
            gradients.append(model[0].weight.grad.clone())
        assert model[0].weight.grad is None
        assert model.training
    assert torch.allclose(*gradients, rtol=1e-12)
