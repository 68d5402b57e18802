import warnings

import numpy as np
import pytest
import torch

from aleator.optim import LARS
from aleator.optim.large_batch.lars import local_rate

SHAPES = ((4, 3), (5,), (2, 3, 2), (1,))
FORMS = ("original", "algorithm1")


def parameters(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes or SHAPES]


def gradients(weights, steps, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [[scale * torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights] for _ in range(steps)]


def train(optimizer, weights, grads):
    for of_step in grads:
        for weight, grad in zip(weights, of_step, strict=True):
            weight.grad = grad.clone()
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


def norm(x):
    return np.sqrt((x * x).sum())


def original(w, grads, lrs, momentum, decay, eta=1e-3, eps=1e-8, nesterov=False, clip=False, adapted=True):
    """The algorithm of 2017 for one tensor, in NumPy."""
    buffer = None
    for g, lr in zip(grads, lrs, strict=True):
        q = 1.0
        if adapted and norm(w) > 0 and norm(g) > 0:
            q = eta * norm(w) / (norm(g) + decay * norm(w) + eps)
            q = min(q / lr, 1) if clip else q
        d = q * (g + decay * w)
        buffer = d if buffer is None else momentum * buffer + d
        w = w - lr * (d + momentum * buffer if nesterov else buffer)
    return w


def algorithm1(w, grads, lrs, momentum, decay, phi=lambda z: z, adapted=True):
    """Algorithm 1 of the LAMB paper for one tensor, in NumPy."""
    m = np.zeros_like(w)
    for g, lr in zip(grads, lrs, strict=True):
        m = momentum * m + (1 - momentum) * (g + decay * w)
        w = w - lr * (phi(norm(w)) / norm(m) if adapted and norm(w) > 0 and norm(m) > 0 else 1.0) * m
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("form", "options", "reference"),
    [
        ("original", {}, {}),
        ("original", {"nesterov": True}, {"nesterov": True}),
        ("original", {"clip": True, "trust_coefficient": 0.05}, {"clip": True, "eta": 0.05}),
        ("original", {"momentum": 0.0, "eps": 0.1}, {"momentum": 0.0, "eps": 0.1}),
        ("algorithm1", {}, {}),
        ("algorithm1", {"phi": (1.5, 2.0)}, {"phi": lambda z: min(max(z, 1.5), 2.0)}),
    ],
)
def test_trajectory_equals_the_algorithm(form, options, reference, decay):
    weights = parameters()
    with torch.no_grad():
        weights[1].zero_()  # a tensor that starts at zero
    start, grads = [w.detach().numpy().copy() for w in weights], gradients(weights, 6)
    for of_step in grads:
        of_step[3].zero_()  # a tensor whose gradient is zero
    lrs = [0.1 / (t + 1) for t in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = LARS(weights, lr=0.1, weight_decay=decay, form=form, adapt=lambda _, w: w.ndim != 3, **options)
    for lr, of_step in zip(lrs, grads, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        train(optimizer, weights, [of_step])
    transcription = {"original": original, "algorithm1": algorithm1}[form]
    for i, weight in enumerate(weights):
        gs = [of_step[i].numpy() for of_step in grads]
        expected = transcription(
            start[i], gs, lrs, **({"momentum": 0.9} | reference), decay=decay, adapted=weight.ndim != 3
        )
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-10, atol=1e-15)


def test_first_step_is_the_trust_coefficient_in_the_original_form_and_lr_in_algorithm_1():
    for form, relative in (("original", 0.5 * 1e-3), ("algorithm1", 0.5)):
        weights = parameters()
        start = [w.detach().clone() for w in weights]
        after = train(LARS(weights, lr=0.5, eps=0.0, form=form), weights, gradients(weights, 1))
        for old, new in zip(start, after, strict=True):
            assert float((new - old).norm() / old.norm()) == pytest.approx(relative, rel=1e-12)


def test_every_step_of_algorithm_1_has_the_length_of_lr_times_the_weights():
    weights = parameters()
    optimizer = LARS(weights, lr=0.02, weight_decay=0.1, form="algorithm1")
    for of_step in gradients(weights, 5):
        before = [w.detach().clone() for w in weights]
        for old, new in zip(before, train(optimizer, weights, [of_step]), strict=True):
            assert float((new - old).norm()) == pytest.approx(0.02 * float(old.norm()), rel=1e-12)


def test_what_is_not_adapted_is_momentum_sgd():
    ours, theirs = parameters(), parameters()
    grads = gradients(ours, 10)
    for nesterov in (False, True):
        train(LARS(ours, lr=0.1, nesterov=nesterov, adapt=lambda *_: False), ours, grads)
        train(torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=nesterov), theirs, grads)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_rate_is_one_where_a_norm_is_zero():
    q = local_rate(
        torch.tensor([0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0]), weight_decay=0.5, trust_coefficient=0.1, eps=0.0
    )
    assert q.tolist() == pytest.approx([1, 1, 0.1 * 2 / 4])


def test_clipping_leaves_the_rate_of_what_is_not_adapted_at_one():
    weights = parameters((3, 2), (3, 2))
    grads = [torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)]
    optimizer = LARS(weights, lr=2.0, trust_coefficient=1.0, eps=0.0, clip=True)
    expected = float(weights[1].detach().norm()) / 6**0.5 / 2
    train(optimizer, weights, [grads])
    assert expected < 1
    assert [float(ratio) for ratio in optimizer.trust_ratios().values()] == [1, pytest.approx(expected)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_scale_of_gradients_changes_nothing(form, factor):
    found = []
    for scale in (1.0, factor):
        weights = parameters()
        found.append(train(LARS(weights, lr=0.1, eps=0.0, form=form), weights, gradients(weights, 10, scale=scale)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_rescaled_layers_learn_the_same_function(form):
    outputs = []
    for c in (1.0, 8.0):
        w1, w2 = parameters((16, 8), (4, 16), seed=3)
        w1.data.mul_(c)
        w2.data.div_(c)
        x, y = (t.detach() for t in parameters((32, 8), (32, 4), seed=4))
        optimizer = LARS([w1, w2], lr=0.01, trust_coefficient=1.0, eps=0.0, form=form)
        found = []
        for _ in range(100):
            optimizer.zero_grad()
            out = torch.relu(x @ w1.T) @ w2.T
            (out - y).square().mean().backward()
            optimizer.step()
            found.append(out.detach())
        outputs.append(torch.stack(found))
    torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)
    assert (outputs[0][-1] - outputs[0][0]).abs().max() > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_weights_keep_float32_momentum(form):
    half = parameters((32, 32), dtype=torch.bfloat16)
    exact = [half[0].detach().float().requires_grad_()]
    grads = gradients(half, 1)
    optimizer = LARS(half, lr=0.1, trust_coefficient=1.0, form=form)
    train(optimizer, half, grads)
    train(LARS(exact, lr=0.1, trust_coefficient=1.0, form=form), exact, [[g.float() for g in grads[0]]])
    assert optimizer.state[half[0]]["momentum_buffer"].dtype == torch.float32
    torch.testing.assert_close(half[0].float(), exact[0], rtol=0, atol=0.02)
    assert (half[0].float() - parameters((32, 32), dtype=torch.bfloat16)[0]).abs().max() > 0.1


def test_trust_ratios_are_the_rates_of_the_last_step():
    weights = parameters((3, 2), (2,))
    optimizer = LARS(weights, lr=0.1, adapt=lambda _, w: w.ndim > 1)
    before = weights[0].detach().clone()
    grads = gradients(weights, 1)
    train(optimizer, weights, grads)
    ratios = {name: float(ratio) for name, ratio in optimizer.trust_ratios().items()}
    assert ratios == {"0.0": pytest.approx(1e-3 * float(before.norm() / grads[0][0].norm()), rel=1e-7), "0.1": 1}


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must not be negative, got -1.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
        ({"trust_coefficient": -1.0}, "trust_coefficient must not be negative, got -1.0"),
        ({"eps": -1.0}, "eps must not be negative, got -1.0"),
        ({"form": "larc"}, "form must be 'original' or 'algorithm1', got 'larc'"),
        ({"phi": (0.0, 1.0)}, r"phi cannot be used with form='original', got \(0.0, 1.0\)"),
        ({"phi": (2.0, 1.0), "form": "algorithm1"}, r"phi must be a pair \(low, high\) .*, got \(2.0, 1.0\)"),
        ({"nesterov": True, "form": "algorithm1"}, "nesterov cannot be used with form='algorithm1', got True"),
        ({"clip": True, "form": "algorithm1"}, "clip cannot be used with form='algorithm1', got True"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LARS(parameters(), **({"lr": 0.1} | options))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e-21, 1e-25, 1e-30])
def test_gradients_whose_squares_vanish_are_adapted_as_others_are(form, scale):
    found = []
    for size in (1.0, scale):
        weights = parameters(dtype=torch.float32)
        optimizer = LARS(weights, lr=0.1, eps=0.0, trust_coefficient=0.1, form=form)
        found.append(train(optimizer, weights, gradients(weights, 3, scale=size)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
