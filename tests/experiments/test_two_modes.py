import pytest
import torch

from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from experiments.recipes.two_modes import TwoModes, TwoModesTask, two_modes

TINY = {"steps": 30, "batch": 64, "width": 8, "solver_steps": 10}


def task(seed: int = 0, **options) -> TwoModesTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return TwoModes(**TINY | options).task(streams, make_accelerator("float32"))


def trained(built: TwoModesTask) -> TwoModesTask:
    for batch in built.train_batches():
        built.train_step(batch)
    return built


def test_the_data_are_two_modes_with_their_correlation_within():
    x, y = two_modes(20_000, torch.Generator().manual_seed(0))
    residual = torch.cat((x, y), 1) - 0.5 * torch.sign(x)
    torch.testing.assert_close(
        residual.T.cov(), torch.tensor([[0.01, 0.009], [0.009, 0.01]]), rtol=0, atol=4 * 0.01 * (2 / 20_000) ** 0.5
    )
    assert float((x > 0).float().mean()) == pytest.approx(0.5, abs=0.015)
    assert (x * y > 0).all()


@pytest.mark.parametrize("scores", ["joint", "independent", "sequential"])
@pytest.mark.parametrize("solver", ["euler", "pc", "s4"])
def test_every_kind_of_score_goes_with_every_solver(scores, solver):
    found = trained(task(scores=scores, solver=solver)).evaluate("test")
    assert 0 <= found["off_diagonal"] <= 1
    assert -1 <= found["correlation"] <= 1


def test_kinds_share_their_first_weights_and_differ_in_what_is_learned():
    kinds = {scores: task(scores=scores) for scores in ("joint", "independent", "sequential")}
    weights = [torch.cat([p.flatten() for p in t.networks.parameters()]) for t in kinds.values()]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert len({trained(t).evaluate("test")["off_diagonal"] for t in kinds.values()}) == 3


def test_independent_samples_are_independent_whatever_was_learned():
    x, y = task(scores="independent").sample(torch.Generator().manual_seed(0))
    assert abs(float(torch.corrcoef(torch.cat((x, y), 1).T)[0, 1])) < 0.04  # four standard errors


def test_a_task_goes_on_from_its_state():
    whole = trained(task())
    half = task()
    batches = half.train_batches()
    for _ in range(11):
        half.train_step(next(batches))
    rest = task()
    rest.streams.load_state_dict(half.streams.state_dict())
    rest.load_state_dict(half.state_dict())
    assert trained(rest).evaluate("test") == whole.evaluate("test")


@pytest.mark.plain
def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"solver_steps must be at least 2 and beta_max = 10\.0, got 9"):
        TwoModes(solver_steps=9)
    with pytest.raises(ValueError, match="lr must be positive and finite, got -1"):
        TwoModes(lr=-1)
