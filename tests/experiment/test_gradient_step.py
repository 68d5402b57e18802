import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aleator.experiment import GradientStep
from aleator.experiment.accelerators import make_accelerator


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 1, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype))
    x, y = (torch.randn(12, width, generator=generator, dtype=dtype) for width in (3, 1))
    return model, x, y


def loss_of(model, x, y):
    return lambda: nn.functional.mse_loss(model(x), y)


def stepper(model, lr=0.1, **kwargs):
    return GradientStep(make_accelerator(), model, torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


@pytest.fixture(autouse=True)
def _no_initial_draw(monkeypatch):
    """Layers are filled by hand here, so that nothing is drawn globally."""
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)


@given(cuts=st.lists(st.integers(1, 11), max_size=4, unique=True))
@settings(max_examples=25)
def test_unequal_pieces_give_the_gradient_of_the_whole_batch(cuts):
    (whole, x, y), (cut, _, _) = problem(), problem()
    sizes = [b - a for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True)]
    report = stepper(whole)([(12, loss_of(whole, x, y))])
    pieces = [(len(a), loss_of(cut, a, b)) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]
    report_cut = stepper(cut)(pieces)
    assert torch.allclose(report.loss, report_cut.loss, rtol=1e-12)
    assert torch.allclose(whole.weight, cut.weight, rtol=1e-12)


def test_step_is_plain_sgd_on_the_mean_loss():
    model, x, y = problem()
    expected = [
        p.detach() - 0.1 * g
        for p, g in zip(
            model.parameters(), torch.autograd.grad(loss_of(model, x, y)(), list(model.parameters())), strict=True
        )
    ]
    stepper(model)([(12, loss_of(model, x, y))])
    assert all(torch.allclose(p, e, rtol=1e-12) for p, e in zip(model.parameters(), expected, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_gradients_that_somebody_left_are_none_of_the_step():
    (clean, x, y), (left, _, _) = problem(), problem()
    for parameter in left.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    for model in (clean, left):
        stepper(model)([(len(x), loss_of(model, x, y))])
    assert torch.equal(clean.weight, left.weight)


def test_clipping_bounds_the_step_and_reports_the_norm_before():
    model, x, y = problem()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    report = stepper(model, lr=1.0, max_grad_norm=0.01)([(12, loss_of(model, x, y))])
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert math.isclose(float(moved.norm()), 0.01, rel_tol=1e-4)  # torch adds 1e-6 to the norm it divides by
    assert float(report.gradient_norm) > 0.01


def test_gradients_of_the_whole_batch_are_replaced_before_they_are_clipped():
    model, x, y = problem()
    (expected,) = torch.autograd.grad(loss_of(model, x, y)(), model.weight)
    before, seen = model.weight.detach().clone(), []

    def turn():
        seen.append(model.weight.grad.clone())
        model.weight.grad.mul_(-1000)

    step = stepper(model, lr=1.0, max_grad_norm=0.01, transform=[turn, lambda: model.bias.grad.zero_()])
    report = step([(6, loss_of(model, x[:6], y[:6])), (6, loss_of(model, x[6:], y[6:]))])
    assert len(seen) == 1
    assert torch.allclose(seen[0], expected, rtol=1e-12)
    assert math.isclose(float(report.gradient_norm), 1000 * float(expected.norm()), rel_tol=1e-9)
    assert torch.allclose(model.weight - before, 0.01 * expected / expected.norm(), rtol=1e-4)
    assert step([(12, lambda: float("nan") * loss_of(model, x, y)())]).skipped
    assert len(seen) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_loss_changes_nothing(value):
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step = GradientStep(make_accelerator(), model, optimizer, schedule=schedule)
    before = [p.detach().clone() for p in model.parameters()]
    report = step([(6, loss_of(model, x[:6], y[:6])), (6, lambda: value * loss_of(model, x[6:], y[6:])())])
    assert report.skipped
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert not optimizer.state
    assert not step([(12, loss_of(model, x, y))]).skipped
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_non_finite_gradient_of_a_finite_loss_is_caught_when_clipping():
    model, x, _ = problem()
    before = model.weight.detach().clone()
    # sqrt has an infinite slope at 0, where its value is finite
    report = stepper(model, max_grad_norm=1.0)([(12, lambda: (model(x) * 0).abs().sum().sqrt())])
    assert report.skipped
    assert torch.equal(model.weight, before)


def test_accumulation_set_by_a_launcher_does_not_shrink_the_step(monkeypatch):
    (plain, x, y), (launched, _, _) = problem(), problem()
    stepper(plain)([(12, loss_of(plain, x, y))])
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    stepper(launched)([(12, loss_of(launched, x, y))])
    assert torch.equal(plain.weight, launched.weight)


def test_step_skipped_under_a_gradient_scaler_leaves_the_scaler_usable():
    model, x, y = problem(torch.float32)
    accelerator = make_accelerator()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = GradientStep(accelerator, model, optimizer, max_grad_norm=1e3)
    before = model.weight.detach().clone()
    assert step([(12, lambda: loss_of(model, x, y)() * float("nan"))]).skipped
    assert torch.equal(model.weight, before)
    expected = before - 0.1 * torch.autograd.grad(loss_of(model, x, y)(), model.weight)[0]
    assert not step([(12, loss_of(model, x, y))]).skipped
    assert torch.allclose(model.weight, expected, rtol=1e-5)


def test_schedule_steps_once_for_each_optimizer_step():
    model, x, y = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step = GradientStep(make_accelerator(), model, optimizer, schedule=schedule)
    for _ in range(3):
        step([(4, loss_of(model, x[i : i + 4], y[i : i + 4])) for i in (0, 4, 8)])
    assert optimizer.param_groups[0]["lr"] == 0.125


@pytest.mark.plain
def test_bad_input_is_named():
    model, x, y = problem()
    with pytest.raises(ValueError, match="max_grad_norm must be positive, got 0"):
        stepper(model, max_grad_norm=0)
    with pytest.raises(ValueError, match=r"at least one example, got \[\]"):
        stepper(model)([])
    with pytest.raises(ValueError, match=r"at least one example, got \[12, 0\]"):
        stepper(model)([(12, loss_of(model, x, y)), (0, loss_of(model, x[:0], y[:0]))])


# --- the step is open


class Counts:
    """A schedule that moves by examples."""

    examples = 0

    def advance(self, examples: int) -> None:
        self.examples += examples


def test_hooks_see_pieces_then_the_raw_gradient_then_may_change_it():
    model, x, y = problem()
    whole = torch.autograd.grad(loss_of(model, x, y)(), model.weight)[0]
    first = torch.autograd.grad(loss_of(model, x[:8], y[:8])(), model.weight)[0]
    seen, counts = [], Counts()
    step = stepper(
        model,
        lr=1.0,
        max_grad_norm=1e9,
        schedule=counts,
        after_piece=[lambda count: seen.append((count, model.weight.grad.clone()))],
        observe=[lambda: seen.append(model.weight.grad.clone())],
        transform=[lambda: model.weight.grad.mul_(2)],
    )
    before = model.weight.detach().clone()
    report = step([(8, loss_of(model, x[:8], y[:8])), (4, loss_of(model, x[8:], y[8:]))])
    (count, of_first), (_, of_both), observed = seen
    assert count == 8
    assert torch.allclose(of_first, first * 8 / 12)
    assert torch.allclose(of_both, whole)
    assert torch.allclose(observed, whole)
    assert torch.allclose(before - model.weight, 2 * whole)
    assert report.stepped
    assert counts.examples == 12


def test_who_observes_sees_unscaled_gradients_and_an_overflow_is_no_step():
    model, x, y = problem(torch.float32)
    accelerator = make_accelerator()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen, counts = [], Counts()
    step = GradientStep(
        accelerator, model, optimizer, schedule=counts, observe=[lambda: seen.append(model.weight.grad.clone())]
    )
    expected = torch.autograd.grad(loss_of(model, x, y)(), model.weight)[0]
    assert step([(12, loss_of(model, x, y))]).stepped
    assert torch.allclose(seen[0], expected, rtol=1e-5)
    before = model.weight.detach().clone()
    # sqrt has an infinite slope at 0, where its value is finite
    report = step([(12, lambda: (model(x) * 0).abs().sum().sqrt())])
    assert (report.skipped, report.stepped) == (False, False)
    assert torch.equal(model.weight, before)
    assert counts.examples == 12
    assert step([(12, loss_of(model, x, y))]).stepped


def test_a_mean_over_parts_is_that_of_all_pieces():
    model, x, y = problem()
    keep = torch.arange(12) % 3 > 0
    whole = torch.autograd.grad(loss_of(model, x[keep], y[keep])(), model.weight)[0]
    before, loss = model.weight.detach().clone(), float(loss_of(model, x[keep], y[keep])())

    def parts(rows):
        kept = keep[rows]
        return lambda: (loss_of(model, x[rows][kept], y[rows][kept])() * kept.sum(), kept.sum())

    report = stepper(model, lr=1.0)([(8, parts(slice(0, 8))), (4, parts(slice(8, 12)))])
    assert torch.allclose(before - model.weight, whole)
    assert float(report.loss) == pytest.approx(loss)
