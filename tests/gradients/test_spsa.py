"""Slopes along directions and steps along them: by hand, by their moments, in shards, among machines."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from aleator.gradients import (
    NonFiniteLoss,
    apply_scalars,
    apply_scalars_,
    direction,
    log8_decode,
    log8_encode,
    scalar_coefficients,
    spsa,
    subtract_directions_,
)
from aleator.gradients.shards import shard_region
from aleator.random import Streams, subtract_directions

KINDS = ("rademacher", "popcount", "gaussian")
KEYS = [(9, 0, machine, sample) for machine in range(3) for sample in range(2)]


def matrix(d, seed=0):
    a = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / d


def normal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("eps", [1e-4, 0.1, 10.0])
def test_on_a_quadratic_the_slope_is_the_derivative_at_every_eps(eps):
    a, theta, z = matrix(8), normal(8), normal(8, seed=2)
    g = spsa(lambda t: 0.5 * t @ a @ t, theta, z, eps)
    assert float(g) == pytest.approx(float((a @ theta) @ z), rel=1e-8)
    assert g.dtype == torch.float64
    assert g.shape == ()


@pytest.mark.parametrize("loss", [lambda t: t.pow(4).sum(), lambda t: F.softplus(t).sum()], ids=["quartic", "logistic"])
def test_the_error_of_the_slope_is_of_second_order_in_eps(loss):
    theta, z = normal(6).requires_grad_(), normal(6, seed=2)
    (gradient,) = torch.autograd.grad(loss(theta), theta)
    errors = [abs(float(spsa(loss, theta.detach(), z, eps) - gradient @ z)) for eps in (0.04, 0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("norm", ["sqrt", "mean"])
def test_the_step_by_hand(norm):
    theta, z = (
        {"b": normal(3), "w": normal(2, 3)},
        [{"b": normal(3, seed=s), "w": normal(2, 3, seed=s)} for s in (4, 5, 6)],
    )
    new = apply_scalars(theta, [0.5, torch.tensor(-2.0), 1.0], z, 0.1, norm, weight_decay=0.3)
    over = math.sqrt(3) if norm == "sqrt" else 3
    for name, decay in (("b", 0.0), ("w", 0.1 * 0.3)):
        wanted = theta[name] * (1 - decay) - 0.1 / over * (0.5 * z[0][name] - 2 * z[1][name] + z[2][name])
        torch.testing.assert_close(new[name], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_by_keys_is_the_step_along_their_directions(dtype):
    theta = {name: normal(*shape, dtype=dtype) for name, shape in (("b", (5,)), ("w", (40, 3)))}
    gradients = [0.3, -1.0, 2.0, 0.0, 5.0, -0.01]
    z = [{n: direction(k, theta[n].shape, tensor=i, dtype=dtype) for i, n in enumerate(("b", "w"))} for k in KEYS]
    wanted = apply_scalars(theta, gradients, z, 0.01, weight_decay=0.1)
    found = apply_scalars(theta, gradients, None, 0.01, keys=KEYS, weight_decay=0.1)
    for name in theta:
        assert torch.equal(found[name], wanted[name])


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_by_key_is_the_slope_along_its_direction(kind):
    a, theta, key = matrix(50), normal(50), KEYS[3]
    loss = lambda t: 0.5 * t @ a @ t  # noqa: E731
    by_key = spsa(loss, theta, None, 0.01, key=key, kind=kind)
    assert float(by_key) == pytest.approx(
        float(spsa(loss, theta, direction(key, (50,), kind, dtype=theta.dtype), 0.01))
    )


def test_what_is_given_stays_as_it_is():
    theta = {"w": normal(4, 3, dtype=torch.float32), "b": normal(3, dtype=torch.float32)}
    before = {name: tensor.clone() for name, tensor in theta.items()}
    for sample in range(50):
        spsa(lambda t: t["w"].square().sum() + t["b"].sum(), theta, None, 1e-3, key=(0, 0, 0, sample))
    apply_scalars(theta, [1.0], None, 0.1, keys=[KEYS[0]])
    for name, tensor in theta.items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(("kind", "excess"), [("rademacher", 0.0), ("popcount", 1.9375), ("gaussian", 2.0)])
def test_moments_of_the_estimate(kind, excess):
    # Linear loss, whose slope g·z is exact: 2·10⁵ directions of 6 elements, each with its own key's bits.
    gradient, n, d = normal(6), 200_000, 6
    z = direction((8, 0, 0, 0), (n, d), kind, dtype=torch.float64)
    estimates = (z @ gradient)[:, None] * z
    deviation = estimates.std(0) / math.sqrt(n)
    assert bool(((estimates.mean(0) - gradient).abs() < 5 * deviation).all())  # false alarm below 1e-5
    second = float(estimates.square().sum(1).mean() / gradient.square().sum())
    assert second == pytest.approx(d + excess if kind != "rademacher" else d, rel=0.02)


def test_directions_of_two_tensors_and_of_two_keys_are_unrelated():
    z = [direction((1, 0, 0, s), (20_000,), tensor=t) for s, t in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((z[one] * z[other]).mean())) < 5 / math.sqrt(20_000)


def test_the_names_order_in_a_dict_and_a_common_prefix_change_nothing():
    theta = {"b": torch.zeros(4), "a": torch.zeros(3)}
    found = apply_scalars(theta, [1.0], None, 1.0, keys=[KEYS[0]])
    for renamed in ({"a": theta["a"], "b": theta["b"]}, {"module.b": theta["b"], "module.a": theta["a"]}):
        other = apply_scalars(renamed, [1.0], None, 1.0, keys=[KEYS[0]])
        assert {name.removeprefix("module."): t.tolist() for name, t in other.items()} == {
            name: t.tolist() for name, t in found.items()
        }


def test_machines_with_one_sample_are_one_machine_with_as_many_samples():
    # The same keys and batches, whoever computes: M machines × 1 sample, 1 machine × M samples, 50 rounds.
    x, y = normal(64, 5, dtype=torch.float32), normal(64, 3, seed=2, dtype=torch.float32)

    def trained(owners):
        theta = {"w": torch.zeros(5, 3), "b": torch.zeros(3)}
        for k in range(50):
            sent = {}
            for owner in owners:  # each with a copy of its own
                mine = {name: tensor.clone() for name, tensor in theta.items()}
                for j in owner:
                    batch = slice(16 * j, 16 * j + 16)
                    loss = lambda t, b=batch: F.mse_loss(x[b] @ t["w"] + t["b"], y[b])  # noqa: E731
                    sent[j] = log8_encode(float(spsa(loss, mine, None, 1e-3, key=(5, k, j, 0))))
            keys = [(5, k, j, 0) for j in range(4)]
            apply_scalars_(theta, [log8_decode(sent[j]) for j in range(4)], None, 0.01, keys=keys, weight_decay=0.01)
        return theta, float(F.mse_loss(x @ theta["w"] + theta["b"], y))

    many, loss = trained([[0], [1], [2], [3]])
    one, _ = trained([[3, 1, 0, 2]])
    assert all(torch.equal(many[name], one[name]) for name in many)
    assert loss < float(y.square().mean())


def test_many_rounds_replayed_at_once_are_the_bits_of_round_after_round():
    theta, rounds = {"w": normal(30, 20, dtype=torch.float32), "b": normal(20, dtype=torch.float32)}, []
    for k in range(7):
        keys = [(5, k, machine, 0) for machine in range(1 + k % 3)]
        rounds.append((keys, [(-1.0) ** k * (m + 1) for m in range(len(keys))], 0.01 / (k + 1)))
    live = {name: tensor.clone() for name, tensor in theta.items()}
    for keys, gradients, lr in rounds:
        apply_scalars_(live, gradients, None, lr, keys=keys, weight_decay=0.2)
    c = np.concatenate([scalar_coefficients(gradients, lr) for _, gradients, lr in rounds])
    decays = np.concatenate([[lr * 0.2] + [0.0] * (len(keys) - 1) for keys, _, lr in rounds])
    subtract_directions_(theta, c, [key for keys, _, _ in rounds for key in keys], decays=decays)
    assert all(torch.equal(theta[name], live[name]) for name in theta)


def test_micro_batches_under_one_direction_are_the_whole_batch():
    x, theta = normal(10, 4), normal(4)
    loss = lambda rows: lambda t: (rows @ t).square().mean()  # noqa: E731
    whole = spsa(loss(x), theta, None, 0.1, key=KEYS[0])
    pieces = spsa([(7, loss(x[:7])), (3, loss(x[7:]))], theta, None, 0.1, key=KEYS[0])
    assert float(pieces) == pytest.approx(float(whole), rel=1e-10)


def test_losses_are_averaged_and_subtracted_in_float64():
    # Pieces near 1000 whose float32 sum would lose the slope.
    pieces = [(1, lambda t: 1000 + t.sum())] * 64
    assert float(spsa(pieces, torch.zeros(2), torch.ones(2), 2.0**-6)) == pytest.approx(2.0, rel=1e-12)


def test_both_sides_see_one_dropout_mask_and_the_generator_moves_once():
    with Streams(0).scope("init"):
        network = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    parameters = {name: p.detach().clone() for name, p in network.named_parameters()}
    x = normal(8, 6, dtype=torch.float32)
    masks = []

    def loss(theta):
        masks.append(torch.get_rng_state())
        return functional_call(network, theta, (x,)).mean()

    def slope():
        with Streams(0).scope("step"):
            found = float(spsa(loss, parameters, None, 1e-2, key=KEYS[0]))
            return found, torch.get_rng_state()

    found, after = slope()
    with Streams(0).scope("step"):
        network(x)
        assert torch.equal(after, torch.get_rng_state())  # as after one pass
    assert torch.equal(masks[0], masks[1])
    assert slope()[0] == found


def test_under_autocast_every_side_sees_weights_of_its_own():
    with Streams(0).scope("init"):
        network = nn.Linear(16, 1)
    parameters = dict(network.named_parameters())  # leaves that require a gradient: what autocast remembers
    with torch.no_grad():
        for p in parameters.values():
            p.copy_(normal(*p.shape, dtype=torch.float32))
    x = normal(8, 16, dtype=torch.float32)
    loss = lambda t: functional_call(network, t, (x,)).float().square().mean()  # noqa: E731
    with torch.autocast("cpu", torch.bfloat16):
        loss(parameters)
        warm = spsa(loss, parameters, None, 0.5, key=KEYS[0])
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        assert float(spsa(loss, parameters, None, 0.5, key=KEYS[0])) == float(warm) != 0


@pytest.mark.parametrize("shape", [(10, 3), (7,), (3, 8, 2), (1, 5)])
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_shards_of_a_tensor_put_together_are_the_whole_step(shape, parts):
    whole = {"w": torch.zeros(shape)}
    subtract_directions_(whole, [1.0, 0.5], KEYS[:2])
    for dim in range(len(shape)):
        pieces = list(torch.zeros(shape).chunk(parts, dim))
        pieces += [pieces[0].narrow(dim, 0, 0)] * (parts - len(pieces))  # as DTensor: the last ones are empty
        for part, piece in enumerate(pieces):
            pieces[part] = piece.contiguous()
            region = shard_region(shape, dim, parts, part, pieces[part])
            subtract_directions(pieces[part], [1.0, 0.5], KEYS[:2], region=region)
        assert torch.equal(torch.cat(pieces, dim), whole["w"])


def quadratic(theta):
    return theta.square().sum()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: spsa(quadratic, t, None, 0.0, key=KEYS[0]), "eps must be positive and finite, got 0.0"),
        (lambda t: spsa(quadratic, t, None, -1e-3, key=KEYS[0]), "eps must be positive and finite, got -0.001"),
        (lambda t: spsa(quadratic, t, None, math.nan, key=KEYS[0]), "eps must be positive and finite, got nan"),
        (lambda t: spsa(quadratic, t, None, 0.1), "either z or key must be given, got neither"),
        (lambda t: spsa(quadratic, t, t, 0.1, key=KEYS[0]), "either z or key must be given, got both"),
        (lambda t: spsa(lambda u: u, t, None, 0.1, key=KEYS[0]), r"loss must be a scalar tensor, got \(3,\)"),
        (lambda t: spsa(lambda u: 1.0, t, None, 0.1, key=KEYS[0]), "loss must be a scalar tensor, got float"),
        (lambda t: spsa([], t, None, 0.1, key=KEYS[0]), "loss must have pieces with positive counts"),
        (
            lambda t: spsa(quadratic, t.half(), None, 0.1, key=KEYS[0]),
            r"a master copy, which the loss casts\), got torch.fl",
        ),
        (
            lambda t: spsa(quadratic, t.long(), None, 0.1, key=KEYS[0]),
            "theta must be float32 or float64 .*, got torch.int64",
        ),
        (lambda t: spsa(quadratic, t, t.long(), 0.1), "^z must be float32 or float64, got torch.int64"),
        (lambda t: spsa(quadratic, t, t[:2], 0.1), r"z must have the shape of theta, got \(2,\) and \(3,\)"),
        (lambda t: spsa(quadratic, {"a": t, "b": t}, None, 0.1, key=KEYS[0]), "hold a tensor once, got a and b"),
        (lambda t: spsa(quadratic, {}, None, 0.1, key=KEYS[0]), "theta must have a tensor, got none"),
        (lambda t: apply_scalars(t, [1.0], None, 0.1, keys=KEYS), "must have one length, got 1, 6 and 1"),
        (lambda t: apply_scalars(t, [1.0], [t, t], 0.1), "gradients and z must have one length, got 1 and 2"),
        (lambda t: apply_scalars(t, [math.nan], None, 0.1, keys=KEYS[:1]), "gradients must be finite, got nan at 0"),
        (lambda t: apply_scalars(t, [1.0], None, math.inf, keys=KEYS[:1]), "lr must be finite, got inf"),
        (lambda t: apply_scalars(t, [1.0], None, 0.1, "n", keys=KEYS[:1]), "norm must be sqrt or mean, got 'n'"),
        (
            lambda t: apply_scalars(t, [1.0], None, 0.1, keys=KEYS[:1], weight_decay=-1.0),
            "weight_decay must not be neg",
        ),
        (lambda t: apply_scalars({"a": t}, [1.0], [{"b": t}], 0.1), "z must have the names of theta"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3))


@pytest.mark.plain
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_on_one_side_is_named_with_both(side, value):
    calls = iter([value, 1.0] if side == 0 else [1.0, value])
    with pytest.raises(
        NonFiniteLoss, match=f"loss must be finite on both sides, got {'1' if side else value} at theta"
    ):
        spsa(lambda t: torch.tensor(next(calls)), torch.ones(3), None, 0.1, key=KEYS[0])
