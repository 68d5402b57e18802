"""Claims about the options that recipes share, and what is built from them."""

import dataclasses
import inspect
import itertools
import re
import typing

import pytest
import torch
from torch import nn

from aleator.experiment import registry
from aleator.experiment.identity import options_of, recipe_from
from aleator.optim import LAMB, LARS, SpectraAdamW, SpectraAdEMAMix, SpectraMARS, SpectraSignum
from aleator.random import Streams
from aleator.recipes.classify import Classify
from aleator.recipes.gates import Gates
from aleator.recipes.language import Language
from aleator.recipes.parts.descent import TrainingOptions
from aleator.recipes.parts.optimizers import make_optimizer, make_schedule
from aleator.recipes.parts.rows import OPTIMIZERS


def a_model() -> nn.Module:
    with Streams(0).scope("init"):
        return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()


def weights_after(steps: int, optimizer, model: nn.Module, schedule=None) -> torch.Tensor:
    inputs = torch.randn(8, 6, generator=Streams(1).generator("x"), dtype=torch.float64)
    for _ in range(steps):
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        ("lamb", LAMB, {"betas": (0.9, 0.999)}),
        ("lars", LARS, {"momentum": 0.9}),
        ("signum", SpectraSignum, {"momentum": 0.95, "apply_to": "none"}),
        ("spectra-adamw", SpectraAdamW, {"betas": (0.9, 0.999), "clip": 10.0, "apply_to": "all"}),
        ("spectra-signum", SpectraSignum, {"momentum": 0.95, "clip": 10.0, "apply_to": "all"}),
        ("spectra-ademamix", SpectraAdEMAMix, {"betas": (0.9, 0.999, 0.999), "warmup": 50}),
        ("spectra-mars", SpectraMARS, {"betas": (0.95, 0.99), "clip": 10.0}),
    ],
)
def test_every_optimizer_has_lr_and_decay_as_given_and_its_own_defaults(name, kind, own):
    optimizer = make_optimizer(a_model(), TrainingOptions(optimizer=name, lr=0.25, weight_decay=0.125), 50)
    assert isinstance(optimizer, kind)
    group = optimizer.param_groups[0]
    expected = {"lr": 0.25, "weight_decay": 0.125, **own}
    assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("sgd", {"momentum": 0.5}),
        ("signum", {"momentum": 0.5}),
        ("adamw", {"betas": (0.5, 0.75)}),
        ("spectra-adamw", {"betas": (0.5, 0.75), "clip": 2.0, "apply_to": "matrices"}),
        ("spectra-ademamix", {"betas": (0.5, 0.75, 0.875)}),
    ],
)
def test_options_that_an_optimizer_has_reach_it(name, given):
    group = make_optimizer(a_model(), TrainingOptions(optimizer=name, **given), 50).param_groups[0]
    assert {key: group[key] for key in given} == given


def test_signum_steps_by_the_learning_rate_in_every_coordinate():
    model = a_model()
    before = weights_after(0, None, model)
    options = TrainingOptions(optimizer="signum", lr=0.125, weight_decay=0, schedule="constant")
    step = weights_after(1, make_optimizer(model, options, 50), model) - before
    assert all(length in (0, pytest.approx(0.125)) for length in step.abs().tolist())
    assert (step != 0).double().mean() > 0.9


def test_spectra_with_a_threshold_out_of_reach_and_square_matrices_is_adamw():
    ended = []
    for options in (
        TrainingOptions(optimizer="adamw", lr=0.01, warmup=0.1),
        TrainingOptions(optimizer="spectra-adamw", lr=0.01, warmup=0.1, clip=1e9),
    ):
        with Streams(0).scope("init"):
            model = nn.Linear(6, 6).double()
        optimizer = make_optimizer(model, options, 20)
        ended.append(weights_after(20, optimizer, model, make_schedule(optimizer, options, 20)))
    assert torch.allclose(*ended, rtol=1e-9)


def test_in_the_warmup_of_spectra_a_matrix_moves_as_far_as_after_it():
    # With a tiny threshold a step's spectral norm is clip·lr: while lr grows, the threshold falls.
    options = TrainingOptions(optimizer="spectra-signum", lr=0.5, clip=1e-3, weight_decay=0, warmup=4)
    with Streams(0).scope("init"):
        model = nn.Linear(6, 6, bias=False).double()
    optimizer = make_optimizer(model, options, 40)
    schedule = make_schedule(optimizer, options, 40)
    distances = []
    for _ in range(5):
        before = model.weight.detach().clone()
        weights_after(1, optimizer, model, schedule)
        distances.append(float(torch.linalg.matrix_norm(model.weight.detach() - before, 2)))
    assert distances == pytest.approx([5e-4] * 5, rel=1e-3)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (7, 7), (0.1, 30), (1, 1), (0.125, 38)])
def test_warmup_is_a_number_of_steps_or_a_share_of_them(warmup, steps):
    assert TrainingOptions(warmup=warmup).warmup_steps(300) == steps


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamw", "momentum": 0.9}, "momentum cannot be used with optimizer adamw, got 0.9"),
        ({"optimizer": "sgd", "betas": (0.9, 0.95)}, "betas cannot be used with optimizer sgd, got 0.9 0.95"),
        ({"optimizer": "signum", "clip": 1.0}, "clip cannot be used with optimizer signum, got 1.0"),
        ({"apply_to": "all"}, "apply_to cannot be used with optimizer sgd, got all"),
        (
            {"optimizer": "spectra-ademamix", "betas": (0.9, 0.99)},
            r"betas must be 3 numbers in \[0, 1\) with spectra-ademamix, got \(0.9, 0.99\)",
        ),
        (
            {"optimizer": "adamw", "betas": (0.9, 1.0)},
            r"betas must be 2 numbers in \[0, 1\) with adamw, got \(0.9, 1.0\)",
        ),
        ({"optimizer": "spectra-mars", "clip": 0.0}, "clip must be positive and finite, got 0.0"),
        ({"warmup": 10.5}, "warmup must be a whole number of steps, or a share below 1, got 10.5"),
        ({"warmup": -1}, "warmup must be finite and not negative, got -1"),
        (
            {"warmup": 0.1, "schedule": "constant"},
            "warmup cannot be used with schedule constant, got 0.1",
        ),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


def help_of(recipe, option: str) -> str:
    """Return the help of an option, where it is part of the option's type."""
    annotated = typing.get_type_hints(recipe, include_extras=True)[option]
    return next((mark.help for mark in getattr(annotated, "__metadata__", ()) if getattr(mark, "help", None)), "")


@pytest.mark.parametrize("recipe", [Classify, Gates, Language])
def test_every_optimizer_has_a_learning_rate_of_its_own_and_the_help_says_which(recipe):
    said = set(map(float, re.findall(r"[\d.]+(?:e-\d+)?(?= for)", help_of(recipe, "lr"))))
    rates = {name: recipe.own_lr.get(name, row.lr) for name, row in OPTIMIZERS.items()}
    assert said == set(rates.values())
    for name, rate in rates.items():
        needed = {"prox": "l1", "prox_lam": 0.1} if "prox" in OPTIMIZERS[name].paced else {}
        counted = "n_data" in OPTIMIZERS[name].paced
        if (needed and not hasattr(recipe, "prox")) or (counted and not recipe.counts_examples):
            continue
        needed |= {"max_grad_norm": None} if counted else {}
        supplied = {"n_data": 100, "generator": torch.Generator()}
        optimizer = make_optimizer(a_model(), recipe(optimizer=name, **needed), 50, supplied=supplied)
        assert {group["lr"] for group in optimizer.param_groups} == {rate}
        given = make_optimizer(a_model(), recipe(optimizer=name, lr=0.25, **needed), 50, supplied=supplied)
        assert given.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("lr", [1e-4, 5e-5, 10.0])
def test_a_cosine_falls_however_small_the_learning_rate(lr):
    options = TrainingOptions(optimizer="adamw", lr=lr)
    model = a_model()
    optimizer = make_optimizer(model, options, 10)
    schedule = make_schedule(optimizer, options, 10)
    weights_after(10, optimizer, model, schedule)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(lr / 500)


def rates(options, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.peak_lr)
    schedule, found = make_schedule(optimizer, options, total), []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_two_warmups_are_what_the_help_says():
    cosine = rates(TrainingOptions(lr=1.0, lr_min=0.0, warmup=4), 20)
    assert cosine[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert cosine[4 + 8] == pytest.approx(0.5)  # halfway through the 16 steps after the warmup
    linear = rates(TrainingOptions(lr=1.0, schedule="linear", warmup=4), 20)
    assert linear == pytest.approx([0.25, 0.5, 0.75, 1.0, *(1 - k / 20 for k in range(4, 20))])


def test_a_constant_rate_has_no_warmup_even_where_the_recipe_has_one():
    options = Language(schedule="constant", lr=0.125)
    assert rates(options, 5) == [0.125] * 5
    assert options.warmup_steps(300) == 0
    assert Language().warmup_steps(300) == 30


def test_options_survive_the_way_through_a_config_file():
    options = {"optimizer": "spectra-adamw", "betas": (0.9, 0.95), "clip": 1.0, "warmup": 0.1}
    recipe = registry.resolve("classify")(**options)
    assert recipe_from("classify", options_of(recipe)) == recipe


@pytest.mark.parametrize("name", registry.names())
def test_every_option_of_every_recipe_says_what_it_does(name):
    recipe = registry.resolve(name)
    helped = set()
    for base in recipe.__mro__[:-1]:
        lines = inspect.getsource(base).splitlines()
        for line, below in itertools.pairwise(lines):
            if below.startswith('    """'):
                helped.add(line.partition(":")[0].strip())
    fields = {field.name for field in dataclasses.fields(recipe)}
    assert {name for name in fields if not help_of(recipe, name)} <= helped
