"""A boundary predictor: its rate, its gradient, its precision and what it does in evaluation."""

import copy
import math

import pytest
import torch

from aleator.nn import STS, BernoulliReinforce, BernoulliST, BoundaryPredictor, score_loss
from aleator.random import Streams


def predictor(**options):
    with Streams(0).scope("init"):
        return BoundaryPredictor(8, 16, **options)


def hidden_states(batch=2, length=30, seed=0):
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_share_of_boundaries_is_the_probability_at_every_temperature(temperature):
    bp = predictor(temperature=temperature, init_rate=0.1)
    with torch.no_grad():
        found = bp(torch.zeros(1, 1_000_000, 8), generator=torch.Generator().manual_seed(1))
    p = float(found.soft[0, 0])
    assert set(found.boundaries.unique().tolist()) == {0.0, 1.0}
    # Five standard errors; a false alarm in two million seeds, and the seed is fixed.
    assert abs(float(found.boundaries.mean()) - p) < 5 * math.sqrt(p * (1 - p) / 1e6)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_gradient_is_that_of_the_relaxed_variable(temperature):
    bp = predictor(temperature=temperature).double()
    noise = torch.rand(2, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = bp(hidden_states().double(), noise=noise)
    (slope,) = torch.autograd.grad(found.boundaries.sum(), found.logits)
    s = ((found.logits - noise.logit()) / temperature).sigmoid()
    torch.testing.assert_close(slope, s * (1 - s) / temperature)
    assert torch.equal(found.boundaries, (s > 0.5).double())


def test_rate_starts_at_its_target():
    bp = predictor(init_rate=0.08)
    assert torch.sigmoid(bp.output.bias).item() == pytest.approx(0.08)
    assert predictor().output.bias.item() == 0


def test_boundaries_under_autocast_are_those_of_float32():
    bp = predictor(init_rate=0.2)
    hidden = hidden_states(1, 4096)
    noise = torch.rand(1, 4096, generator=torch.Generator().manual_seed(3))
    plain = bp(hidden, noise=noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = bp(hidden, noise=noise)
    assert plain.boundaries.sum() > 256
    for ours, expected in zip(cast[:3], plain[:3], strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, expected)


def test_noise_comes_from_the_generator_in_evaluation_too():
    bp = predictor(init_rate=0.5).eval()
    first, again, other = (
        bp(hidden_states(), generator=torch.Generator().manual_seed(seed)).boundaries for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_boundary_where_none_is_allowed_and_no_gradient_there():
    bp = predictor(init_rate=0.5)
    allowed = torch.arange(30).expand(2, 30) % 2 == 0
    found = bp(hidden_states(), noise=torch.zeros(2, 30), allowed=allowed)
    assert torch.equal(found.boundaries, allowed.float())
    assert not found.soft[~allowed].any()
    (slope,) = torch.autograd.grad((found.boundaries + found.soft).sum(), found.logits)
    assert not slope[~allowed].any()


def test_threshold_gives_the_probable_boundaries_without_noise():
    bp = predictor(init_rate=0.4, eval_boundaries="threshold").eval()
    found = bp(hidden_states(seed=4))
    assert torch.equal(found.boundaries, (found.soft > 0.5).float())


def test_a_predictor_that_is_right_on_the_average_may_have_no_probable_boundary():
    bp = predictor(init_rate=0.2, eval_boundaries="threshold").eval()
    found = bp(0.1 * hidden_states())
    assert float(found.soft.mean()) == pytest.approx(0.2, rel=0.1)
    assert not found.boundaries.any()


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_calibrated_rate_is_met_exactly_and_survives_saving(rate):
    bp = predictor(init_rate=0.2, eval_boundaries="rate").eval()
    hidden = hidden_states(4, 100)
    bp.calibrate(bp.logits(hidden).flatten(), rate)
    assert float(bp(hidden).boundaries.mean()) == pytest.approx(rate)
    other = predictor(eval_boundaries="rate").eval()
    other.load_state_dict(bp.state_dict())
    assert torch.equal(other(hidden).boundaries, bp(hidden).boundaries)


def test_calibration_counts_positions_without_a_boundary():
    bp = predictor(eval_boundaries="rate").eval()
    hidden = hidden_states(1, 100)
    allowed = torch.arange(100).view(1, 100) < 30
    bp.calibrate(bp.logits(hidden).masked_fill(~allowed, -math.inf).flatten(), 0.2)
    assert float(bp(hidden, allowed=allowed).boundaries.sum()) == 20
    bp.calibrate(bp.logits(hidden).masked_fill(~allowed, -math.inf).flatten(), 0.4)  # more than are allowed
    assert float(bp(hidden, allowed=allowed).boundaries.sum()) == 30


def test_another_estimator_changes_the_gradient_and_not_the_boundaries():
    relaxed, identity = predictor(), predictor(estimator=BernoulliST("identity"))
    noise = torch.rand(2, 30, generator=torch.Generator().manual_seed(5))
    ours, theirs = relaxed(hidden_states(), noise=noise), identity(hidden_states(), noise=noise)
    assert torch.equal(ours.boundaries, theirs.boundaries)
    (slope,) = torch.autograd.grad(theirs.boundaries.sum(), theirs.logits)
    assert torch.equal(slope, torch.ones(2, 30))


def test_scores_carry_the_gradient_where_the_boundaries_do_not():
    bp = predictor(estimator=BernoulliReinforce())
    noise = torch.rand(2, 30, generator=torch.Generator().manual_seed(5))
    allowed = torch.arange(30).expand(2, 30) % 3 > 0
    found = bp(hidden_states(), noise=noise, allowed=allowed)
    assert not found.boundaries.requires_grad
    assert torch.equal(found.boundaries, predictor()(hidden_states(), noise=noise, allowed=allowed).boundaries)
    losses = torch.rand(2, generator=torch.Generator().manual_seed(6))
    (slope,) = torch.autograd.grad(score_loss(losses, found.score), found.logits)
    expected = (found.boundaries - found.logits.sigmoid()) * losses[:, None] / 2 * allowed
    torch.testing.assert_close(slope, expected)
    assert predictor()(hidden_states(), noise=noise).score is None
    assert bp.eval()(hidden_states(), noise=noise).score is None


def test_a_predictor_can_be_copied():
    bp = predictor(init_rate=0.3)
    noise = torch.rand(2, 30, generator=torch.Generator().manual_seed(6))
    assert torch.equal(copy.deepcopy(bp)(hidden_states(), noise=noise)[2], bp(hidden_states(), noise=noise)[2])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_rate": 1.0}, r"init_rate must be in \(0, 1\), got 1\.0"),
        ({"init_rate": 0.0}, r"init_rate must be in \(0, 1\), got 0\.0"),
        ({"temperature": 0.0}, r"temperature must be positive, got 0\.0"),
        ({"eval_boundaries": "mean"}, "eval_boundaries must be .* got 'mean'"),
        ({"estimator": STS()}, "estimator must give gates that are 0 or 1, got STS"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        predictor(**options)


@pytest.mark.plain
def test_a_missing_calibration_and_wrong_shapes_are_refused():
    bp = predictor(eval_boundaries="rate").eval()
    with pytest.raises(RuntimeError, match="needs a call of calibrate first"):
        bp(hidden_states())
    with pytest.raises(ValueError, match="at least one position"):
        bp.calibrate(torch.zeros(0), 0.2)
    with pytest.raises(ValueError, match=r"noise must have shape \(2, 30\), got \(2, 3\)"):
        bp(hidden_states(), noise=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"allowed must have shape \(2, 30\), got \(30, 2\)"):
        bp(hidden_states(), allowed=torch.ones(30, 2, dtype=torch.bool))
