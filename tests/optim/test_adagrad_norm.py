"""AdaGrad-Norm: one number for all parameters, by hand, as torch's Adagrad where there is one, and not by rows."""

import warnings

import pytest
import torch
from torch import nn

from aleator.optim import AdaGradNorm, AdaGradNormStep


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(*shapes):
    return [nn.Parameter(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]


def step(optimizer, weights, number):
    for i, w in enumerate(weights):
        w.grad = normal(*w.shape, seed=100 * number + i + 50)
    optimizer.step()


@pytest.mark.parametrize(("eps", "decay"), [(1e-10, 0.0), (0.0, 0.0), (0.1, 0.3)])
def test_steps_are_those_of_the_formula(eps, decay):
    weights = parameters((4, 3), (5,))
    optimizer = AdaGradNorm(weights, lr=0.7, initial_accumulator=0.04, eps=eps, weight_decay=decay)
    by_hand, v = [w.detach().clone() for w in weights], 0.04
    for number in range(5):
        step(optimizer, weights, number)
        gradients = [w.grad + decay * x for w, x in zip(weights, by_hand, strict=True)]
        v += float(sum(g.square().sum() for g in gradients))
        by_hand = [x - 0.7 * g / (v**0.5 + eps) for x, g in zip(by_hand, gradients, strict=True)]
        for w, x in zip(weights, by_hand, strict=True):
            torch.testing.assert_close(w.detach(), x, rtol=1e-12, atol=1e-14)
    assert all(float(optimizer.state[w]["sum"]) == pytest.approx(v, rel=1e-12) for w in weights)


def test_of_one_number_it_is_adagrad():
    one, other = parameters((1,)), parameters((1,))
    ours = AdaGradNorm(one, lr=0.3)
    theirs = torch.optim.Adagrad(other, lr=0.3, initial_accumulator_value=1e-2, eps=1e-10)
    for number in range(6):
        step(ours, one, number)
        step(theirs, other, number)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_the_cut_into_tensors_rows_and_groups_changes_nothing():
    whole, rows = parameters((4, 3)), [nn.Parameter(row) for row in normal(4, 3)]
    optimizer, by_rows = AdaGradNorm(whole, lr=0.5), AdaGradNorm([{"params": rows[:1]}, {"params": rows[1:]}], lr=0.5)
    for number in range(4):
        g = normal(4, 3, seed=number + 9) * torch.tensor([1.0, 10, 0.1, 3])[:, None]
        whole[0].grad = g
        for row, part in zip(rows, g, strict=True):
            row.grad = part
        optimizer.step()
        by_rows.step()
    torch.testing.assert_close(torch.stack([row.detach() for row in rows]), whole[0].detach(), rtol=1e-12, atol=1e-14)
    # All rows move in proportion to their gradients: with a sum for each row, as in the authors' program, they do not.
    moved = (whole[0].detach() - normal(4, 3)).norm(dim=1)
    assert float(moved.max() / moved.min()) > 20


def test_a_step_is_no_longer_than_the_rate():
    weights = parameters((4, 3), (5,))
    optimizer = AdaGradNorm(weights, lr=0.2)
    for number in range(4):
        before = torch.cat([w.detach().flatten() for w in weights])
        step(optimizer, weights, number)
        after = torch.cat([w.detach().flatten() for w in weights])
        assert float((after - before).norm()) <= 0.2


def test_what_joins_or_was_left_out_has_the_sum_of_all():
    weights = parameters((4, 3), (5,), (2,))
    optimizer = AdaGradNorm(weights[:2], lr=0.5)
    step(optimizer, weights[:2], 0)
    weights[1].grad = None
    weights[0].grad = normal(4, 3, seed=1)
    optimizer.step()
    optimizer.add_param_group({"params": weights[2:]})
    weights[0].grad = None
    step(optimizer, weights[1:], 2)
    gradients = [
        normal(4, 3, seed=50),
        normal(5, seed=51),
        normal(4, 3, seed=1),
        normal(5, seed=250),
        normal(2, seed=251),
    ]
    total = 1e-2 + float(sum(g.square().sum() for g in gradients))
    assert float(optimizer.state[weights[1]]["sum"]) == pytest.approx(total, rel=1e-12)
    assert float(optimizer.state[weights[2]]["sum"]) == pytest.approx(total, rel=1e-12)


def test_the_old_name_of_the_step_rule_warns_and_is_the_rule():
    for old in (lambda: AdaGradNorm(2.0), lambda: AdaGradNorm(step_size=2.0)):
        with pytest.warns(FutureWarning, match="the step rule of target surrogates is AdaGradNormStep now"):
            rule = old()
        assert isinstance(rule, AdaGradNormStep)
        assert rule.step_size == 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(AdaGradNorm(parameters((2,))), torch.optim.Optimizer)
        AdaGradNormStep(2.0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"lr": -0.1}, "lr must not be negative, got -0.1"),
        ({"initial_accumulator": 0.0}, "initial_accumulator must be positive, got 0.0"),
        ({"eps": -1.0}, "eps must not be negative, got -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay must not be negative, got nan"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, line):
    with pytest.raises(ValueError, match=line):
        AdaGradNorm(parameters((2,)), **options)
    optimizer = AdaGradNorm(parameters((2,)))
    with pytest.raises(ValueError, match=r"initial_accumulator must be the same for all groups, 0.01, got 0.5"):
        optimizer.add_param_group({"params": parameters((3,)), "initial_accumulator": 0.5})
    assert len(optimizer.param_groups) == 1
