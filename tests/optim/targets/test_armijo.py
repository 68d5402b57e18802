from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aleator.optim import ArmijoGD


def quadratic(w, scale=10.0):
    return 0.5 * scale * w.square().sum()


def closure_of(optimizer, loss_of, calls=None):
    def closure():
        loss = loss_of()
        if calls is not None:
            calls.append(torch.is_grad_enabled())
        if torch.is_grad_enabled():
            optimizer.zero_grad()
            loss.backward()
        return loss

    return closure


def test_the_accepted_step_is_the_first_trial_that_satisfies_the_inequality():
    w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    start = w.detach().clone()
    optimizer = ArmijoGD([w], first_step=1.0, c=0.5, shrink=0.9, expand=1.8)
    optimizer.step(closure_of(optimizer, lambda: quadratic(w)))
    # For ½·10‖w‖² the inequality is 1 − 10 s/2 ≥ c: s ≤ 0.1, and 0.9²² is the first power below it.
    assert optimizer.search.accepted
    assert optimizer.search.step == pytest.approx(0.9**22)
    assert optimizer.search.trials == 23
    torch.testing.assert_close(w.detach(), start * (1 - 10 * 0.9**22))


def test_the_closure_has_gradients_once_and_not_in_the_trials():
    w = nn.Parameter(torch.ones(3))
    optimizer = ArmijoGD([w])
    calls = []
    optimizer.step(closure_of(optimizer, lambda: quadratic(w), calls))
    assert calls == [True] + [False] * optimizer.search.trials


def test_the_next_search_begins_at_the_expanded_step_until_restarted():
    w = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = ArmijoGD([w], first_step=1.0, expand=1.8)
    closure = closure_of(optimizer, lambda: quadratic(w))
    optimizer.step(closure)
    first = optimizer.search
    optimizer.step(closure)
    assert optimizer.search.trials < first.trials
    optimizer.restart()
    optimizer.step(closure)
    assert optimizer.search.trials == first.trials


def test_a_search_that_cannot_decrease_leaves_the_parameters_and_says_so():
    w = nn.Parameter(torch.tensor([1.0]))

    def uphill():  # its gradient points the wrong way
        return w.sum().detach() - (w - w.detach()).sum()

    optimizer = ArmijoGD([w])
    optimizer.step(closure_of(optimizer, uphill))
    assert not optimizer.search.accepted
    assert optimizer.search.step == 0
    assert w.item() == 1.0


def test_a_loss_that_is_nan_is_refused():
    w = nn.Parameter(torch.tensor([1.0]))
    optimizer = ArmijoGD([w], first_step=4.0)  # to −1, which has no root; steps below 2 are downhill
    optimizer.step(closure_of(optimizer, lambda: w.sqrt().sum()))
    assert optimizer.search.accepted
    assert optimizer.search.step == pytest.approx(4 * 0.9**7)
    assert torch.isfinite(w).all()


@pytest.mark.plain  # a group that is none
def test_processes_decide_on_the_mean_of_their_losses(monkeypatch):
    def twice(value, group):
        value *= 2  # what two processes with one loss add up

    found = []
    monkeypatch.setattr(torch.distributed, "all_reduce", twice)
    for group in (None, SimpleNamespace(size=lambda: 2)):
        w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = ArmijoGD([w], process_group=group)
        optimizer.step(closure_of(optimizer, lambda w=w: quadratic(w)))
        found.append(optimizer.search)
    assert found[0] == found[1]


def test_a_restored_search_goes_on_as_the_saved_one():
    def run(optimizer, w, n):
        for _ in range(n):
            optimizer.step(closure_of(optimizer, lambda: quadratic(w) + w.cos().sum()))
        return w.detach().clone()

    w = nn.Parameter(torch.linspace(-1, 2, 5))
    optimizer = ArmijoGD([w])
    run(optimizer, w, 3)
    other = nn.Parameter(w.detach().clone())
    restored = ArmijoGD([other])
    restored.load_state_dict(optimizer.state_dict())
    assert torch.equal(run(optimizer, w, 4), run(restored, other, 4))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": 1.0}, "c must be in (0, 1), got 1.0"),
        ({"shrink": 0}, "shrink must be in (0, 1), got 0"),
        ({"first_step": -1.0}, "first_step must be positive and finite, got -1.0"),
        ({"expand": 0.5}, "expand must be at least 1, got 0.5"),
        ({"max_tries": 0}, "max_tries must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match="must be") as error:
        ArmijoGD([nn.Parameter(torch.ones(1))], **options)
    assert str(error.value) == message


@pytest.mark.plain
def test_a_line_search_needs_a_closure():
    with pytest.raises(ValueError, match="closure must be a function"):
        ArmijoGD([nn.Parameter(torch.ones(1))]).step()
