import copy
import io
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer

from aleator.optim import LAMB, CosineToBudget, is_vector, name_matches, without_decay
from aleator.optim.large_batch.trust_ratio import trust_ratio

SHAPES = ((4, 3), (5,), (2, 3, 2), (1,))


def parameters(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes or SHAPES]


def without_draws(make):
    """What ``make`` builds, with initial weights drawn from a generator that is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def gradients(weights, steps, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [[scale * torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights] for _ in range(steps)]


def train(optimizer, weights, grads):
    for of_step in grads:
        for weight, grad in zip(weights, of_step, strict=True):
            weight.grad = None if grad is None else grad.clone()
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


def by_the_paper(w, grads, lrs, betas, eps, weight_decay, corrected=True, averaged=True, adapted=True, phi=lambda z: z):
    """Algorithm 2 for one tensor, in NumPy."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (g, lr) in enumerate(zip(grads, lrs, strict=True), 1):
        m = betas[0] * m + ((1 - betas[0]) if averaged else 1) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = (m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)) if corrected else (m, v)
        u = m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w
        norms = np.sqrt((w * w).sum()), np.sqrt((u * u).sum())
        ratio = phi(norms[0]) / norms[1] if adapted and min(norms) > 0 else 1.0
        w = w - lr * ratio * u
    return w


# --- the formula


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_trajectory_equals_the_papers_algorithm(weight_decay, corrected, averaged, foreach):
    weights = parameters()
    with torch.no_grad():
        weights[1].zero_()  # a tensor that starts at zero
    start, grads = [w.detach().numpy().copy() for w in weights], gradients(weights, 7)
    for of_step in grads:
        of_step[3].zero_()  # a tensor whose gradient is zero
    lrs = [0.1 / (t + 1) for t in range(7)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = LAMB(
            weights,
            weight_decay=weight_decay,
            bias_correction=corrected,
            grad_averaging=averaged,
            adapt=lambda name, w: w.ndim != 3,
            foreach=foreach,
        )
    for lr, of_step in zip(lrs, grads, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        train(optimizer, weights, [of_step])
    for i, weight in enumerate(weights):
        gs = [of_step[i].numpy() for of_step in grads]
        expected = by_the_paper(
            start[i], gs, lrs, (0.9, 0.999), 1e-6, weight_decay, corrected, averaged, adapted=weight.ndim != 3
        )
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-10)


@given(
    lr=st.floats(1e-4, 1),
    scale=st.floats(1e-3, 1e3),
    phi=st.none() | st.tuples(st.floats(0.01, 1), st.floats(1, 10)),
    decay=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_an_adapted_tensor_moves_by_lr_times_phi_of_its_norm(lr, scale, phi, decay):
    weights = parameters()
    for weight in weights:
        weight.data.mul_(scale)
    optimizer = LAMB(weights, lr=lr, weight_decay=decay, phi=phi)
    for of_step in gradients(weights, 3):
        before = [w.detach().clone() for w in weights]
        train(optimizer, weights, [of_step])
        for old, new in zip(before, weights, strict=True):
            norm = float(old.norm())
            bounded = norm if phi is None else min(max(norm, phi[0]), phi[1])
            # A difference of weights of this size is exact to their own rounding.
            assert float((new.detach() - old).norm()) == pytest.approx(lr * bounded, rel=1e-12, abs=1e-14 * norm)


@pytest.mark.parametrize("factor", [1e-6, 1e-2, 1e6])
def test_the_scale_of_gradients_changes_nothing(factor):
    trajectories = []
    for scale in (1.0, factor):
        weights = parameters()
        optimizer = LAMB(weights, lr=0.02, eps=0.0)
        trajectories.append(train(optimizer, weights, gradients(weights, 10, scale=scale)))
    for one, other in zip(*trajectories, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=0)


@pytest.mark.parametrize("foreach", [True, False])
def test_without_trust_ratio_and_decay_it_is_adam(foreach):
    ours, theirs = parameters(), parameters()
    grads = gradients(ours, 20)
    one = LAMB(ours, lr=0.01, eps=1e-8, weight_decay=0.0, adapt="decayed", foreach=foreach)
    train(one, ours, grads)
    train(torch.optim.Adam(theirs, lr=0.01, eps=1e-8), theirs, grads)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("foreach", [True, False])
def test_a_zero_gradient_leaves_weights_alone_or_shrinks_them_by_lr_exactly(foreach):
    for decay, factor in ((0.0, 1.0), (0.25, 1 - 0.125)):
        weights = parameters()
        start = [w.detach().clone() for w in weights]
        zeros = [[torch.zeros_like(w) for w in weights]]
        after = train(LAMB(weights, lr=0.125, weight_decay=decay, foreach=foreach), weights, zeros)
        for old, new in zip(start, after, strict=True):
            torch.testing.assert_close(new, factor * old, rtol=1e-15, atol=0)


def test_trust_ratio_is_one_where_a_norm_is_zero_and_looks_at_the_norm_before_phi():
    weight, update = torch.tensor([0.0, 3.0, 0.0, 40.0, 0.5]), torch.tensor([2.0, 0.0, 0.0, 2.0, 2.0])
    assert trust_ratio(weight, update).tolist() == [1, 1, 1, 20, 0.25]
    assert trust_ratio(weight, update, (1.0, 10.0)).tolist() == [1, 1, 1, 5, 0.5]


def test_relative_change_of_a_first_step_is_lr_in_the_paper_and_less_in_the_variants():
    def change(make):
        w = torch.full((4, 4), 100.0, dtype=torch.float64, requires_grad=True)
        train(make([w]), [w], [[torch.ones_like(w)]])
        return float((100 - w.detach()).norm() / 400)

    assert change(lambda ps: LAMB(ps, lr=0.01)) == pytest.approx(1e-2, rel=1e-9)
    # At weight decay 0 NVIDIA's default is plain Adam: 0.01 per coordinate.
    assert change(lambda ps: LAMB.nvlamb(ps, lr=0.01, weight_decay=0.0)) == pytest.approx(1e-4, rel=1e-5)
    assert change(lambda ps: LAMB.nvlamb(ps, lr=0.01)) == pytest.approx(1e-2, rel=1e-9)
    # ‖w‖ = 400 counts as 10.
    assert change(lambda ps: LAMB.v1_clamped(ps, lr=0.01)) == pytest.approx(2.5e-4, rel=1e-9)


def test_clipping_divides_gradients_of_all_groups_by_one_norm_and_leaves_them_as_they_were():
    ours, theirs = parameters(), parameters()
    grads = gradients(ours, 5)
    clipping = LAMB([{"params": ours[:2]}, {"params": ours[2:]}], weight_decay=0.0, max_grad_norm=1.0, eps=1e-2)
    train(clipping, ours, grads)
    assert all(torch.equal(w.grad, g) for w, g in zip(ours, grads[-1], strict=True))
    clipped = []
    for of_step in grads:
        norm = math.sqrt(sum(float(g.square().sum()) for g in of_step))
        assert norm > 1
        clipped.append([g / norm for g in of_step])
    train(LAMB(theirs, weight_decay=0.0, eps=1e-2), theirs, clipped)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    small = [[g * 1e-3 for g in of_step] for of_step in grads]
    unclipped = [parameters(), parameters()]
    train(LAMB(unclipped[0], max_grad_norm=1.0), unclipped[0], small)
    train(LAMB(unclipped[1]), unclipped[1], small)
    assert all(torch.equal(a, b) for a, b in zip(*unclipped, strict=True))


def scores(optimizer_class, c, steps=100, **options):
    """The function that a bias-free ReLU network computes along its training, with two layers scaled by c and 1/c."""
    w1, w2 = parameters((16, 8), (4, 16), seed=3)
    w1.data.mul_(c)
    w2.data.div_(c)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(32, 8, generator=generator, dtype=torch.float64)
    y = torch.randn(32, 4, generator=generator, dtype=torch.float64)
    optimizer, found = optimizer_class([w1, w2], **options), []
    for _ in range(steps):
        optimizer.zero_grad()
        out = torch.relu(x @ w1.T) @ w2.T
        (out - y).square().mean().backward()
        optimizer.step()
        found.append(out.detach())
    return torch.stack(found)


def test_rescaled_layers_learn_the_same_function_under_lamb_and_not_under_adamw():
    lamb = [scores(LAMB, c, lr=0.01, weight_decay=0.0, eps=1e-30) for c in (1.0, 8.0)]
    torch.testing.assert_close(*lamb, rtol=1e-6, atol=1e-6)
    assert (lamb[0][-1] - lamb[0][0]).abs().max() > 0.1
    adamw = [scores(torch.optim.AdamW, c, lr=0.01, weight_decay=0.0, eps=1e-30) for c in (1.0, 8.0)]
    assert (adamw[0] - adamw[1]).abs().max() > 0.1


# --- the ways to compute it


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_many_at_once_equals_one_by_one(dtype, tolerance):
    shapes = (*SHAPES, (0, 3), (400, 400), (300, 300), (7,))  # several portions, and an empty tensor
    both = [parameters(*shapes, dtype=dtype), parameters(*shapes, dtype=dtype)]
    for weights, foreach in zip(both, (True, False), strict=True):
        groups = [{"params": weights[:2], "phi": (0.1, 1.0)}, {"params": weights[2:], "weight_decay": 0.0}]
        train(LAMB(groups, foreach=foreach, lr=0.01), weights, gradients(weights, 10))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_memory_layout_does_not_matter():
    plain, laid_out = parameters((6, 4)), parameters((6, 4))
    laid_out[0].data = laid_out[0].data.t().contiguous().t()
    grads = gradients(plain, 5)
    assert laid_out[0].stride() != grads[0][0].stride()
    a, b = train(LAMB(plain), plain, grads), train(LAMB(laid_out), laid_out, grads)
    assert torch.equal(a[0], b[0])
    one_for_all, grad = parameters((6, 4)), torch.ones(1, 1, dtype=torch.float64).expand(6, 4)
    one_for_all[0].grad = grad
    LAMB(one_for_all).step()
    again = parameters((6, 4))
    torch.testing.assert_close(one_for_all, train(LAMB(again), again, [[grad.contiguous()]]), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("foreach", [True, False])
def test_half_precision_weights_keep_float32_averages_and_norms(dtype, foreach):
    half = parameters((64, 64), dtype=dtype)
    exact = [half[0].detach().float().requires_grad_()]
    grads = gradients(half, 1)
    optimizer = LAMB(half, lr=0.1, foreach=foreach)
    train(optimizer, half, grads)
    train(LAMB(exact, lr=0.1), exact, [[g.float() for g in of_step] for of_step in grads])
    assert {optimizer.state[half[0]][key].dtype for key in ("exp_avg", "exp_avg_sq")} == {torch.float32}
    torch.testing.assert_close(half[0].float(), exact[0], rtol=0, atol=2 * torch.finfo(dtype).eps)
    saved = optimizer.state_dict()
    resumed = LAMB(half, lr=0.1)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.state[half[0]]["exp_avg"], optimizer.state[half[0]]["exp_avg"])
    assert resumed.state[half[0]]["exp_avg_sq"].dtype == torch.float32


# --- what is adapted


def test_trust_ratios_are_those_of_the_last_step_by_name():
    model = without_draws(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double())
    optimizer = LAMB(without_decay(model.named_parameters()), lr=0.01, adapt="decayed")
    assert optimizer.trust_ratios() == {}
    before = model[0].weight.detach().clone()
    model(torch.ones(2, 3, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    ratios = optimizer.trust_ratios()
    assert set(ratios) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert [float(ratios[name]) for name in ("0.bias", "1.weight", "1.bias")] == [1, 1, 1]
    state = optimizer.state[model[0].weight]
    update = (state["exp_avg"] / 0.1) / ((state["exp_avg_sq"] / 0.001).sqrt() + 1e-6) + 0.01 * before
    assert float(ratios["0.weight"]) == pytest.approx(float(before.norm() / update.norm()), rel=1e-12)


def test_without_names_tensors_are_called_by_group_and_index():
    weights = parameters()
    optimizer = LAMB([{"params": weights[:1]}, {"params": weights[1:]}])
    train(optimizer, weights, gradients(weights, 1))
    assert list(optimizer.trust_ratios()) == ["0.0", "1.0", "1.1", "1.2"]


def test_rules_by_name_and_by_shape_exclude_the_same_as_groups_do():
    def model():
        return without_draws(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double())

    by_shape, by_name, by_rule = model(), model(), model()
    optimizers = [
        LAMB(without_decay(by_shape.named_parameters(), is_vector), lr=0.1, adapt="decayed"),
        LAMB(without_decay(by_name.named_parameters(), name_matches("bias$", r"^1\.")), lr=0.1, adapt="decayed"),
        LAMB(
            without_decay(by_rule.named_parameters()),
            lr=0.1,
            adapt=lambda name, weight: name in ("0.weight", "2.weight"),
        ),
    ]
    x = torch.ones(2, 3, dtype=torch.float64)
    for built, optimizer in zip((by_shape, by_name, by_rule), optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            built(x).exp().sum().backward()
            optimizer.step()
    for a, b, c in zip(*(built.parameters() for built in (by_shape, by_name, by_rule)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_a_zero_tensor_that_is_adapted_is_warned_of_and_one_that_is_not_is_not():
    model = without_draws(lambda: nn.Linear(3, 2))
    nn.init.zeros_(model.bias)
    with pytest.warns(UserWarning, match="parameters that are adapted start at zero, bias: "):
        LAMB(model.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LAMB(without_decay(model.named_parameters()), adapt="decayed")


def test_a_tensor_that_joins_late_counts_its_own_steps():
    early, late = parameters((3, 2), (3, 2))
    optimizer = LAMB([early], lr=0.1)
    grads = gradients([early], 6)
    train(optimizer, [early], grads[:4])
    optimizer.add_param_group({"params": [late]})
    train(optimizer, [early, late], [[g, g] for (g,) in grads[4:]])
    alone = parameters((3, 2), (3, 2))[1]
    train(LAMB([alone], lr=0.1), [alone], grads[4:])
    assert torch.equal(late, alone)
    assert [float(optimizer.state[w]["step"]) for w in (early, late)] == [6, 2]


# --- an optimizer like any other


def test_a_saved_run_continues_bit_equal():
    weights, twins = parameters(), parameters()
    grads = gradients(weights, 9)

    def make(of):
        optimizer = LAMB(of, lr=0.05, adapt=lambda name, w: w.ndim > 1)
        return optimizer, CosineToBudget(optimizer, 9)

    def advance(optimizer, schedule, of, some):
        for of_step in some:
            train(optimizer, of, [of_step])
            schedule.step()

    optimizer, schedule = make(weights)
    advance(optimizer, schedule, weights, grads[:4])
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "weights": weights}, buffer)
    advance(optimizer, schedule, weights, grads[4:])

    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    for twin, value in zip(twins, saved["weights"], strict=True):
        twin.data.copy_(value)
    resumed, again = make(twins)
    resumed.load_state_dict(saved["optimizer"])
    again.load_state_dict(saved["schedule"])
    advance(resumed, again, twins, grads[4:])
    assert all(torch.equal(a, b) for a, b in zip(weights, twins, strict=True))
    assert resumed.trust_ratios() == optimizer.trust_ratios()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_with_the_options_of_the_whole_optimizer(copied):
    weights = parameters()
    grads = gradients(weights, 4)
    optimizer = LAMB(weights, lr=0.05, eps=1e-2, max_grad_norm=0.1, foreach=False)
    train(optimizer, weights, grads[:2])
    twin = copied(optimizer)
    assert (twin.max_grad_norm, twin.foreach) == (0.1, False)
    twins = train(twin, twin.param_groups[0]["params"], grads[2:])
    assert all(torch.equal(a, b) for a, b in zip(train(optimizer, weights, grads[2:]), twins, strict=True))


def test_what_a_saved_state_lacks_stays_as_the_groups_were_made():
    weights = parameters()

    def make():
        groups = [{"params": weights[:3], "phi": (0.0, 2.0)}, {"params": weights[3:]}]
        return LAMB(groups, grad_averaging=False, adapt=lambda _, w: w.ndim > 1)

    optimizer = make()
    train(optimizer, weights, gradients(weights, 1))
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        del group["phi"], group["grad_averaging"], group["adapt"]
    resumed = make()
    resumed.load_state_dict(old)
    for one, other in zip(optimizer.param_groups, resumed.param_groups, strict=True):
        assert {name: one[name] for name in ("phi", "grad_averaging", "adapt")} == {
            name: other[name] for name in ("phi", "grad_averaging", "adapt")
        }
    assert "phi" not in old["param_groups"][0]
    assert resumed.trust_ratios() == optimizer.trust_ratios()


def test_what_is_not_a_number_is_not_hidden():
    for value, foreach in itertools.product((math.nan, math.inf), (True, False)):
        weights = parameters((3, 2), (3,))
        grads = gradients(weights, 1)
        grads[0][0][0, 0] = value
        after = train(LAMB(weights, foreach=foreach), weights, grads)
        assert after[0].isnan().any()
        assert after[1].isfinite().all()


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr must not be negative, got -0.1"),
        ({"lr": math.nan}, "lr must not be negative, got nan"),
        ({"lr": torch.ones(2)}, r"lr must be a number or a tensor of shape \(\), got shape \(2,\)"),
        ({"eps": -1e-6}, "eps must not be negative, got -1e-06"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"betas": (1.0, 0.999)}, r"betas must be 2 numbers in \[0, 1\), got \(1.0, 0.999\)"),
        ({"betas": (0.9, -0.1)}, r"betas must be 2 numbers in \[0, 1\), got \(0.9, -0.1\)"),
        ({"phi": (2.0, 1.0)}, r"phi must be a pair \(low, high\) with 0 <= low <= high, got \(2.0, 1.0\)"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive, got 0.0"),
        ({"adapt": "some"}, "adapt must be 'all', 'decayed' or a function of name and parameter, got 'some'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LAMB(parameters(), **options)


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    optimizer = LAMB(parameters())
    with pytest.raises(ValueError, match="lr must not be negative, got -1"):
        optimizer.add_param_group({"params": parameters((2,)), "lr": -1})
    assert len(optimizer.param_groups) == 1


def test_complex_parameters_are_refused_by_name():
    with pytest.raises(TypeError, match=r"parameters must be real, got torch.complex64 for parameter 0\.1"):
        LAMB([torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.complex64, requires_grad=True)])


def test_sparse_gradients_are_refused_by_name():
    table = without_draws(lambda: nn.Embedding(4, 2, sparse=True))
    optimizer = LAMB(table.named_parameters())
    table(torch.tensor([1])).sum().backward()
    message = "gradients must be dense, got one of layout torch.sparse_coo for parameter weight"
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()


@pytest.mark.plain
@pytest.mark.parametrize("kind", [LAMB, LAMB.nvlamb], ids=["max_grad_norm", "nvlamb"])
def test_a_norm_of_all_gradients_is_refused_where_a_process_has_some_of_them(kind, tmp_path):
    options = {"max_grad_norm": 1.0} if kind is LAMB else {}
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match=r"max_grad_norm must be None inside ZeroRedundancyOptimizer, .*, got 1.0"):
            ZeroRedundancyOptimizer(parameters(), kind, **options)
        weights, plain = parameters(), parameters()
        sharded = ZeroRedundancyOptimizer(weights, LAMB, lr=0.01)
        grads = gradients(weights, 3)
        train(sharded, weights, grads)
    finally:
        torch.distributed.destroy_process_group()
    train(LAMB(plain, lr=0.01), plain, grads)
    assert all(torch.equal(a, b) for a, b in zip(weights, plain, strict=True))
    LAMB(parameters(), max_grad_norm=1.0)


def test_a_rule_without_a_name_cannot_be_pickled_and_is_copied_all_the_same():
    optimizer = LAMB(parameters(), adapt=lambda name, weight: weight.ndim > 1)
    with pytest.raises(pickle.PicklingError, match="adapt must be a function at the top of a module to be pickled"):
        pickle.dumps(optimizer)
    twin = copy.deepcopy(optimizer)
    twin.add_param_group({"params": parameters((2, 2), (2,))})
    assert twin.param_groups[1]["adapt"] == (True, False)
    for rule in (is_vector, name_matches(r"^0\.[13]")):
        twin = pickle.loads(pickle.dumps(LAMB(parameters(), adapt=rule)))
        assert twin.param_groups[0]["adapt"] == (False, True, False, True)


def test_the_rule_of_the_optimizer_that_loads_is_that_of_its_own_names():
    layers = {name: w for name, w in zip("ab", parameters((3, 3), (3, 3)), strict=True)}
    optimizer = LAMB(layers.items(), adapt=name_matches("a"))
    train(optimizer, list(layers.values()), gradients(list(layers.values()), 1))
    saved = optimizer.state_dict()
    other = LAMB(reversed(layers.items()), adapt=name_matches("a"))
    saved["param_groups"][0] = {**saved["param_groups"][0], "param_names": ["b", "a"], "params": [1, 0]}
    other.load_state_dict(saved)  # as a hook makes it that puts names in order and leaves adapt as it was
    assert other.param_groups[0]["adapt"] == (False, True)
    by_default = LAMB(reversed(layers.items()))
    by_default.load_state_dict(optimizer.state_dict())
    assert by_default.param_groups[0]["adapt"] == (False, True)


def test_groups_are_found_by_the_names_that_they_hold():
    weights = dict(zip("abc", parameters((2, 2), (2, 2), (2, 2)), strict=True))

    def make(*groups):
        return LAMB([{"params": [(n, weights[n]) for n in names], "lr": lr} for names, lr in groups])

    optimizer = make(("ab", 0.1), ("c", 0.2))
    train(optimizer, list(weights.values()), gradients(list(weights.values()), 1))
    other = make(("c", 0.3), ("ba", 0.4))
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.2, 0.1]
    for weight in weights.values():
        assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])
    with pytest.raises(ValueError, match="which groups them otherwise"):
        make(("a", 0.1), ("bc", 0.1)).load_state_dict(optimizer.state_dict())
