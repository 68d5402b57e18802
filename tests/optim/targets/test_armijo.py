import copy
import pickle
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


def trained(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1)
        return nn.Sequential(*layers).double(), torch.randn(20, 5, dtype=torch.float64)


def test_trials_have_the_masks_of_the_first_pass_and_statistics_move_once():
    model, x = trained()
    optimizer, masks = ArmijoGD(model.parameters(), model=model), []
    model[2].register_forward_hook(lambda _, given, output: masks.append(output == 0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        optimizer.step(closure_of(optimizer, lambda: (model(x) - 1).square().mean()))
        after = torch.get_rng_state()
        once, _ = trained()
        torch.manual_seed(1)
        once(x)
        assert torch.equal(torch.get_rng_state(), after)
    assert optimizer.search.trials > 1
    assert 0.3 < float(masks[0].double().mean()) < 0.7
    assert all(torch.equal(mask, masks[0]) for mask in masks[: optimizer.search.trials + 1])
    assert model[1].num_batches_tracked == 1
    assert torch.equal(model[1].running_mean, once[1].running_mean)


def test_under_autocast_every_trial_sees_its_own_weights():
    found = []
    for outer in (True, False):
        w = nn.Parameter(torch.tensor([[1.0, -2.0, 0.5]]))
        x = torch.eye(3)
        optimizer, losses = ArmijoGD([w], first_step=1.0), []

        def loss_of(w=w, x=x, losses=losses, outer=outer):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = 5 * nn.functional.linear(x, w).float().square().sum()
            losses.append(float(loss.detach()))
            return loss

        closure = closure_of(optimizer, loss_of)
        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
                optimizer.step(closure)
        found.append(losses)
    assert found[0] == found[1]
    assert found[0][-1] < 0.1 * found[0][0]


def test_an_interrupt_in_a_trial_leaves_weights_and_statistics_as_they_were():
    model, x = trained()
    model[2].p = 0.0
    optimizer = ArmijoGD(model.parameters(), model=model)
    before = copy.deepcopy(model.state_dict())

    def closure():
        loss = (model(x) - 1).square().mean()
        if not torch.is_grad_enabled():
            raise KeyboardInterrupt
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_has_the_options(copied):
    w = nn.Parameter(torch.ones(3))
    optimizer = ArmijoGD([w], c=0.25, shrink=0.5, expand=3.0, max_tries=7, min_step=1e-3)
    optimizer.step(closure_of(optimizer, lambda: quadratic(w)))
    twin = copied(optimizer)
    names = ("c", "shrink", "expand", "max_tries", "min_step", "search", "model", "process_group")
    assert [getattr(twin, name) for name in names] == [0.25, 0.5, 3.0, 7, 1e-3, optimizer.search, None, None]
