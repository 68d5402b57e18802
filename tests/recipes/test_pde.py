"""The recipe pde: figures beside the trivial predictor's, what a step keeps, blocks, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file

from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.random import Streams
from aleator.recipes.pde import Pde

SMALL = {"dimensions": 6, "points": 16, "width": 16, "test_points": 200, "steps": 4}


def task(**options):
    recipe, streams = Pde(**{**SMALL, **options}), Streams(0)
    with streams.scope("init"):
        return recipe.task(streams, make_accelerator(recipe.precision))


def stepped(**options) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the weights after one step, and its loss."""
    made = task(**options)
    result = made.train_step(next(made.train_batches()))
    return [p.detach().clone() for p in made.derived.parameters()], result.metrics["loss"]


def test_a_run_reports_the_error_beside_the_trivial_one_and_shows_slices(tmp_path):
    found = run(Pde(**{**SMALL, "steps": 20}), tmp_path, RunOptions(trackers=()), name="pde")["test"]
    assert found["factor"] == pytest.approx(found["trivial_error"] / found["error"])
    assert found["points"] == 200
    assert 0 < found["kept_mib"] < 1
    shown = read_json(tmp_path / "exhibits.json")["exhibits"]
    assert [one["heading"] for one in shown] == [
        "Slices of the solution",
        "Error against steps",
        "Error against seconds of training",
    ]
    assert len(shown[0]["plot"]["data"]) == 6
    assert len(shown[1]["plot"]["data"][0]["x"]) == 10  # evaluations


def test_a_mean_of_the_weights_is_evaluated_and_saved(tmp_path):
    run(Pde(**SMALL, ema=0.5), tmp_path, RunOptions(trackers=()), name="pde")
    last, mean = (load_file(tmp_path / f"{name}.safetensors") for name in ("model", "model-ema"))
    assert last.keys() == mean.keys()
    assert any(not torch.equal(last[name], mean[name]) for name in last)


def test_the_trivial_predictor_is_a_model(tmp_path):
    found = run(Pde(**SMALL, model="trivial"), tmp_path, RunOptions(trackers=()), name="pde")["test"]
    assert found["error"] == found["trivial_error"]
    assert found["factor"] == 1


@pytest.mark.parametrize("problem", ["two-body", "hjb-log", "black-scholes"])
def test_blocks_of_dimensions_take_the_step_of_all_of_them_with_less_memory(problem):
    options = {"problem": problem, "estimator": "exact", "precision": "float64", "test_points": 200}
    whole, loss = stepped(**options)
    for blocks in (1, 4):
        cut, same = stepped(**options, blocks=blocks)
        torch.testing.assert_close(same, loss, rtol=1e-10, atol=0)
        for a, b in zip(whole, cut, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
    kept = [task(**options, blocks=blocks)._kept() for blocks in (1, 6)]
    assert kept[1] < 0.6 * kept[0]


def test_what_a_step_keeps_does_not_grow_with_the_dimensions_but_by_the_points_themselves():
    few, many = (task(dimensions=d, sampled_dimensions=4, algorithm=3)._kept() for d in (10, 1000))
    own = 16 * 990 * 4  # x
    permutation = 990 * 8  # of the dimensions, of which four are used
    assert many - few <= own + permutation


def test_every_sample_of_dimensions_has_its_share_of_the_points():
    shares = next(task(dimension_sets=4).train_batches())
    assert [len(share.x) for share in shares] == [4] * 4
    drawn = [tuple(share.drawn[0].tolist()) for share in shares]
    assert len(set(drawn)) > 1


def test_a_step_is_a_function_of_the_seed_and_its_number():
    made = task()
    batches = made.train_batches()
    first, second = next(batches), next(batches)
    assert not torch.equal(first[0].x, second[0].x)
    again = task()
    again.step = 1
    assert torch.equal(next(again.train_batches())[0].x, second[0].x)


@pytest.mark.plain
def test_bad_options_are_one_line_each():
    refused = {
        "sampled_dimensions must be at most the 6 dimensions, got 7": {"sampled_dimensions": 7},
        "precision must be float32 or float64, since .* got bfloat16": {"precision": "bfloat16"},
        "operator cannot be used with problem hjb-log, got poisson": {"problem": "hjb-log", "operator": "poisson"},
        "operator must be one of allen-cahn, poisson, sine-gordon with problem two-body, got heat": {
            "operator": "heat"
        },
        "coefficients cannot be used with problem wave, got 1": {"problem": "wave", "coefficients": 1},
        "algorithm cannot be used with estimator exact, got 3": {"estimator": "exact", "algorithm": 3},
        "blocks cannot be used with estimator sdgd, got 2": {"blocks": 2},
        "blocks must be at most the 6 dimensions, got 7": {"estimator": "exact", "blocks": 7},
        "algorithm must be 2 or 3 with estimator hutchinson, got 1": {"estimator": "hutchinson", "algorithm": 1},
        "points must be a multiple of dimension_sets, 3, got 16": {"dimension_sets": 3},
        "accumulate must be at most 8, the points of a sample, got 9": {"dimension_sets": 2, "accumulate": 9},
        "layers must be at least 2, got 1": {"layers": 1},
        "d must be one of 10, 100, 1000, 10000 for a reference, got 6": {"problem": "semilinear", "test_points": None},
        "test_points cannot be used with problem semilinear": {"problem": "semilinear", "dimensions": 10},
        "ema cannot be used with model trivial, got 0.9": {"model": "trivial", "ema": 0.9},
    }
    for line, options in refused.items():
        with pytest.raises(ValueError, match=line):
            task(**options)
