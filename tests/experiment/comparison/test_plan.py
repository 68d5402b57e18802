"""The grid is whole, its folders are distinct, and what cannot work is refused before anything runs."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.experiment import RunOptions
from aleator.experiment.comparison.plan import Variant, plan_runs
from aleator.experiment.identity import identity
from aleator.experiment.registry import resolve

GRID = f"{Path(__file__).parent / 'grid_recipe.py'}:Grid"


def grid(**options):
    return resolve(GRID)(**options)


def plan(variants=None, seeds=(0, 1), **more):
    variants = variants or [Variant("base", grid()), Variant("fast", grid(lr=1.0), {"lr": 1.0})]
    return plan_runs(variants, seeds, name=GRID, options=RunOptions(), **more)


@given(
    seeds=st.lists(st.integers(0, 2**70), min_size=1, max_size=4, unique=True),
    sizes=st.none() | st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True),
    steps=st.none() | st.lists(st.integers(1, 100), min_size=1, max_size=3, unique=True),
)
def test_every_combination_is_planned_once(seeds, sizes, steps):
    runs = plan(seeds=seeds, sizes=sizes, tune=("steps", steps) if steps else None)
    found = [(run.variant, run.seed, run.size, run.tuned.get("steps")) for run in runs]
    expected = itertools.product(["base", "fast"], seeds, sizes or [None], steps or [None])
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert len({run.folder for run in runs}) == len({run.identity for run in runs}) == len(runs)


def test_seeds_are_the_outer_loop():
    assert [run.seed for run in plan()] == [0, 0, 1, 1]


def test_size_and_tuned_value_are_in_the_recipe_and_in_the_folder():
    run = plan(seeds=[7], sizes=[32], tune=("steps", [10]))[1]
    assert (run.recipe.train_size, run.recipe.steps, run.recipe.lr) == (32, 10, 1.0)
    assert run.folder == f"fast-seed7-size32-steps=10-{run.identity[:8]}"
    assert run.identity == identity(GRID, run.recipe, RunOptions(seed=7), 32)


def test_a_folders_name_is_safe_whatever_the_variant_is_called():
    run = plan([Variant("RS2: w/o ../../replacement, 10 %", grid())])[0]
    assert run.folder.startswith("RS2-w-o-..-..-replacement-10--seed0-")
    assert Path(run.folder).name == run.folder


@dataclass(frozen=True)
class Bare:
    lr: float = 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, "seeds must hold at least one entry, got none"),
        ({"seeds": [1, 2, 1]}, "seeds must be distinct, got 1 twice"),
        ({"seeds": [-1]}, "seed must be at least 0, got -1"),
        ({"sizes": [0]}, "sizes must be at least 1, got 0"),
        ({"tune": ("stepz", [1])}, "no option 'stepz'; did you mean 'steps'?"),
        ({"tune": ("lr", [0.1])}, "variant 'fast' sets lr, which the comparison sets for every variant"),
        ({"tune": ("steps", [1, 1])}, "the values of steps must be distinct, got 1 twice"),
        ({"variants": [Variant("a", Bare())], "sizes": [3]}, "has no option 'train_size'"),
        ({"variants": [Variant("a", grid()), Variant("a", grid())]}, "variants must be distinct, got 'a' twice"),
        ({"variants": [Variant("a b", grid()), Variant("A-b", grid())]}, "would share a folder; rename one"),
        ({"variants": [Variant(" ", grid())]}, "a variant needs a name"),
        ({"variants": [Variant("a", grid())], "tune": ("lr", [-1.0])}, "variant 'a': lr must be positive, got -1.0"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        plan(**arguments)
