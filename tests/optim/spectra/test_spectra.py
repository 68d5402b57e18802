import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from aleator.optim import (
    LAMB,
    LARS,
    ArmijoGD,
    ClipSchedule,
    Spectra,
    SpectraAdamW,
    SpectraAdEMAMix,
    SpectraMARS,
    SpectraSignum,
    soft_norm_clip,
    soft_spectral_clip,
)

NATIVE = [SpectraAdamW, SpectraSignum, SpectraAdEMAMix, SpectraMARS]
SHAPES = [(4, 6), (6, 4), (4, 6), (5,), (2, 3, 4), ()]
UNCLIPPED = {"clip": 1e12, "scale": None}


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parameters(shapes=SHAPES, dtype=torch.float64):
    return [torch.nn.Parameter(gaussian(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(shapes)]


def give_gradients(params, step, size=1.0):
    for i, p in enumerate(params):
        p.grad = size * gaussian(*p.shape, seed=1000 * step + i).to(p.dtype)


def train(optimizer, params, steps, begin=0):
    for step in range(begin, begin + steps):
        give_gradients(params, step)
        optimizer.step()
    return [p.detach().clone() for p in params]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- The base optimizers -------------------------------------------------------------------------------------------


def signum(params, lr, momentum=0.95, nesterov=True, weight_decay=0.1):
    """The sheet's rule, tensor by tensor."""
    buffers = [torch.zeros_like(p) for p in params]

    def step():
        for p, buffer in zip(params, buffers, strict=True):
            buffer.copy_(momentum * buffer + p.grad)
            update = (p.grad + momentum * buffer).sign() if nesterov else buffer.sign()
            p.data = (1 - lr * weight_decay) * p.data - lr * update

    return step


def ademamix(params, lr, betas=(0.9, 0.999, 0.999), alpha=8.0, warmup=None, eps=1e-8, weight_decay=0.1):
    """The sheet's rule, tensor by tensor."""
    b1, b2, b3 = betas
    means = [[torch.zeros_like(p) for _ in range(3)] for p in params]
    t = 0

    def half_life(beta):
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    def step():
        nonlocal t
        t += 1
        a, b = alpha, b3
        if warmup is not None:
            a = alpha * min(1, t / warmup)
            if t < warmup:
                r = t / warmup
                b = 0.5 ** (1 / (1 + (1 - r) * half_life(b1) + r * half_life(b3)))
        for p, (m, v, n) in zip(params, means, strict=True):
            m.copy_(b1 * m + (1 - b1) * p.grad)
            v.copy_(b2 * v + (1 - b2) * p.grad**2)
            n.copy_(b * n + (1 - b) * p.grad)
            update = (m / (1 - b1**t) + a * n) / ((v / (1 - b2**t)).sqrt() + eps)
            p.data = (1 - lr * weight_decay) * p.data - lr * update

    return step


def mars(params, lr, betas=(0.95, 0.99), gamma=0.025, eps=1e-8, weight_decay=0.1):
    """The sheet's rule: AdamW on a corrected gradient for matrices, on the plain one for the rest."""
    stand_ins = [torch.nn.Parameter(p.detach().clone()) for p in params]
    adamw = torch.optim.AdamW(stand_ins, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    previous = [None] * len(params)

    def step():
        for i, (p, stand_in) in enumerate(zip(params, stand_ins, strict=True)):
            g = p.grad
            if p.ndim >= 2:
                before = g if previous[i] is None else previous[i]
                g = g + gamma * betas[0] / (1 - betas[0]) * (g - before)
                g = g / max(1.0, float(g.norm()))
                previous[i] = p.grad.clone()
            stand_in.grad = g
        adamw.step()
        for p, stand_in in zip(params, stand_ins, strict=True):
            p.data = stand_in.detach().clone()

    return step


def adamw(params, lr, **options):
    return torch.optim.AdamW(params, lr=lr, weight_decay=0.1, **options).step


CASES = [
    (SpectraAdamW, adamw, {}),
    (SpectraAdamW, adamw, {"betas": (0.0, 0.99), "eps": 1e-3}),
    (SpectraSignum, signum, {}),
    (SpectraSignum, signum, {"nesterov": False, "momentum": 0.5}),
    (SpectraAdEMAMix, ademamix, {}),
    (SpectraAdEMAMix, ademamix, {"warmup": 12, "alpha": 3.0}),
    (SpectraAdEMAMix, ademamix, {"warmup": 100, "betas": (0.8, 0.99, 0.9999)}),
    (SpectraMARS, mars, {}),
    (SpectraMARS, mars, {"gamma": 0.2}),
]


@pytest.mark.parametrize(("kind", "base", "options"), CASES)
def test_without_clipping_the_trajectory_is_the_base_optimizers(kind, base, options):
    ours, theirs = parameters(), parameters()
    optimizer = kind(ours, lr=0.01, **UNCLIPPED, **options)
    step = base(theirs, 0.01, **options)
    for k in range(20):
        give_gradients(ours, k)
        give_gradients(theirs, k)
        optimizer.step()
        step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1 - 1e-8, math.nextafter(1, 0)])
def test_ademamix_takes_every_rate_of_the_slow_mean_that_is_below_one(beta):
    p = parameters(dtype=torch.float32)
    optimizer = SpectraAdEMAMix(p, betas=(0.9, 0.999, beta), warmup=2)
    assert all(q.isfinite().all() for q in train(optimizer, p, 4))
    if beta == 0:
        torch.testing.assert_close(optimizer.state[p[0]]["slow_exp_avg"], p[0].grad)


def test_without_clipping_float32_follows_adamw_to_single_precision():
    ours, theirs = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    got = train(SpectraAdamW(ours, lr=0.01, **UNCLIPPED), ours, 20)
    expected = train(torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1), theirs, 20)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


# --- The step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("higher_dims", ["stack", "flatten"])
def test_a_step_is_decay_minus_the_clipped_update_of_the_base(kind, higher_dims):
    lr, decay, c = 0.01, 0.1, 0.5
    clipped, plain = parameters(), parameters()
    give_gradients(clipped, 1)
    give_gradients(plain, 1)
    kind(clipped, lr=lr, clip=c, higher_dims=higher_dims, ns_steps=25).step()
    kind(plain, lr=lr, **UNCLIPPED).step()
    for before, got, other in zip(parameters(), clipped, plain, strict=True):
        update = ((1 - lr * decay) * before - other) / lr
        if before.ndim < 2:
            expected = soft_norm_clip(update.reshape(-1), c).reshape(before.shape)
        else:
            matrix = update.flatten(1) if higher_dims == "flatten" else update
            alpha = math.sqrt(max(1, matrix.shape[-2] / matrix.shape[-1]))
            expected = alpha * soft_spectral_clip(matrix, c, method="svd").reshape(before.shape)
        torch.testing.assert_close(got.detach(), (1 - lr * decay) * before - lr * expected, rtol=0, atol=1e-9)


def test_what_is_left_out_takes_the_base_optimizers_own_step():
    plain = train(torch.optim.AdamW(p := parameters(), lr=0.01, weight_decay=0.1), p, 3)
    for apply_to in ("none", "matrices", "all"):
        got = train(SpectraAdamW(p := parameters(), lr=0.01, clip=0.1, apply_to=apply_to), p, 3)
        for one, other in zip(got, plain, strict=True):
            clipped = apply_to == "all" or (apply_to == "matrices" and one.ndim >= 2)
            assert torch.allclose(one, other, rtol=0, atol=1e-12) != clipped


def test_the_official_form_leaves_short_vectors_alone():
    results = {}
    for form in ("smooth", "official"):
        p = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        p.grad = torch.ones_like(p)
        SpectraAdamW([p], lr=1.0, clip=2.5, vectors=form).step()  # the update's length is 2
        results[form] = -float(p[0].detach())
    assert results["official"] == pytest.approx(1, abs=1e-7)
    assert results["smooth"] == pytest.approx(1 / math.sqrt(1 + (2 / 2.5) ** 2), abs=1e-7)


def test_weights_stay_in_the_spectral_ball_under_an_adversary():
    lr, decay, c = 0.05, 0.5, 2.0
    p = torch.nn.Parameter(3 * gaussian(6, 4))
    optimizer = SpectraSignum([p], lr=lr, weight_decay=decay, clip=c, momentum=0.0)
    alpha = math.sqrt(6 / 4)
    shrunk, first = 1.0, float(torch.linalg.matrix_norm(p.detach(), 2))
    for _ in range(200):
        # Pushes along the top singular pair: sign() makes a ±1 matrix of spectral norm √24 of it.
        u, _, vh = torch.linalg.svd(p.detach(), full_matrices=False)
        p.grad = -1e3 * torch.outer(u[:, 0].sign(), vh[0].sign())
        optimizer.step()
        shrunk *= 1 - lr * decay
        bound = shrunk * first + alpha * c / decay * (1 - shrunk)
        assert torch.linalg.matrix_norm(p.detach(), 2) <= bound + 1e-9
    assert torch.linalg.matrix_norm(p.detach(), 2) > 0.5 * bound  # the adversary did push


def test_half_precision_weights_have_a_state_in_float32_that_survives_a_checkpoint():
    p = parameters([(4, 6)], torch.bfloat16)
    optimizer = SpectraAdamW(p, lr=0.01)
    train(optimizer, p, 3)
    assert optimizer.state[p[0]]["exp_avg"].dtype == torch.float32
    again = SpectraAdamW(q := [torch.nn.Parameter(p[0].detach().clone())], lr=0.01)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state[q[0]]["exp_avg"], optimizer.state[p[0]]["exp_avg"])
    assert same(train(optimizer, p, 3, begin=3), train(again, q, 3, begin=3))


@pytest.mark.parametrize("higher_dims", ["stack", "flatten"])
@pytest.mark.parametrize("kind", [*NATIVE, lambda p, **options: Spectra(torch.optim.AdamW(p), **options)])
def test_empty_parameters_stay_as_they_are(kind, higher_dims):
    shapes = [(0, 3), (3, 0), (2, 0, 3), (0,), (4, 6)]
    p = parameters(shapes)
    got = train(kind(p, higher_dims=higher_dims), p, 2)
    assert [tuple(q.shape) for q in got] == shapes
    assert not torch.equal(got[-1], parameters(shapes)[-1])


# --- Thresholds -----------------------------------------------------------------------------------------------------


def test_the_schedule_is_the_table():
    warm = ClipSchedule(warmup_steps=4)
    assert [warm(10.0, k, 1e-3 * (k + 1) / 5, 1e-3) for k in range(6)] == pytest.approx([50, 25, 50 / 3, 12.5, 10, 10])
    assert warm(10.0, 0, 0.0, 1e-3) == pytest.approx(1e8)
    for decay, values in {
        "linear": [1, 0.8, 0.6, 0.4],
        "sqrt": [1 - 0.8 * math.sqrt(p) for p in (0, 0.25, 0.5, 0.75)],
        "cosine": [0.2 + 0.4 * (1 + math.cos(math.pi * p)) for p in (0, 0.25, 0.5, 0.75)],
        "square": [1, 0.95, 0.8, 0.55],
        "exp": [0.2**p for p in (0, 0.25, 0.5, 0.75)],
    }.items():
        schedule = ClipSchedule(total_steps=10, decay_fraction=0.4, decay=decay, final=0.2)
        assert [schedule(1.0, k, 1.0, 1.0) for k in range(10)] == pytest.approx([1] * 6 + values)
        assert schedule(1.0, 1000, 1.0, 1.0) == pytest.approx(values[-1])


@given(total=st.integers(1, 50), fraction=st.floats(0, 1), step=st.integers(0, 100))
def test_no_schedule_reaches_zero(total, fraction, step):
    for decay in ("linear", "sqrt", "cosine", "square"):
        schedule = ClipSchedule(total_steps=total, decay_fraction=fraction, decay=decay)
        assert 0 < schedule(10.0, step, 1e-3, 1e-3) <= 10


def test_clip_times_lr_is_constant_while_the_rate_warms_up():
    clip, base = 0.5, 0.2
    p = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))
    optimizer = SpectraSignum([p], lr=base, clip=clip, weight_decay=0.0, momentum=0.0, clip_schedule=ClipSchedule(5))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / 6)
    moved = []
    for k in range(5):
        optimizer.param_groups[0]["lr"] = base * (k + 1) / 6
        before = p.detach().clone()
        p.grad = -torch.ones_like(p)
        optimizer.step()
        moved.append(float(torch.linalg.matrix_norm(p.detach() - before, 2)))
    # σ(U) = 8, c_k = c·base/lr; the move lr·σ/√(1 + σ²/c_k²) tends to base·clip as c_k falls below σ.
    expected = [base * (k + 1) / 6 * 8 / math.sqrt(1 + (8 * (k + 1) / 6 / clip) ** 2) for k in range(5)]
    assert moved == pytest.approx(expected, rel=1e-6)


# --- A torch optimizer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NATIVE)
def test_a_run_resumed_in_the_warmup_is_bit_identical(kind):
    def make():
        p = parameters()
        optimizer = kind(p, lr=0.02, clip=0.5, clip_schedule=ClipSchedule(8, total_steps=12, decay_fraction=0.3))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=8)
        return p, optimizer, schedule

    def run(p, optimizer, schedule, steps):
        for k in steps:
            give_gradients(p, k)
            optimizer.step()
            schedule.step()
        return p

    whole = run(*make(), range(12))
    p, optimizer, schedule = make()
    run(p, optimizer, schedule, range(5))
    buffer = io.BytesIO()
    torch.save({"p": p, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    q, again, schedule = make()
    for to, value in zip(q, saved["p"], strict=True):
        to.data.copy_(value.data)
    again.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    assert same(run(q, again, schedule, range(5, 12)), whole)


def test_a_state_that_lacks_an_option_takes_the_optimizers_own():
    for make in (lambda p: SpectraAdamW(p, clip=0.5), lambda p: Spectra(torch.optim.AdamW(p), 0.5)):
        saved = copy.deepcopy(make(parameters()).state_dict())
        group = saved["param_groups"][0]
        for name in ("vectors", "clip", "clip_step", "base_lr"):
            del group.get("spectra", group)[name]
        optimizer = make(p := parameters())
        optimizer.load_state_dict(saved)
        train(optimizer, p, 1)
        group = optimizer.param_groups[0].get("spectra", optimizer.param_groups[0])
        assert [group[name] for name in ("vectors", "clip", "clip_step", "base_lr")] == ["smooth", 0.5, 1, 1e-3]


def test_the_wrapper_reads_states_that_held_its_options_among_those_of_the_base():
    optimizer = Spectra(torch.optim.AdamW(p := parameters()), 0.5)
    train(optimizer, p, 3)
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        group |= {**group.pop("spectra"), "clip": 0.25}
    again = Spectra(torch.optim.AdamW(parameters()), 0.5)
    again.load_state_dict(old)
    assert again.param_groups[0].keys() == optimizer.param_groups[0].keys()
    assert (again.param_groups[0]["spectra"]["clip"], again.param_groups[0]["spectra"]["clip_step"]) == (0.25, 3)


def test_a_copied_optimizer_keeps_its_schedule():
    p = parameters()
    optimizer = SpectraAdamW(p, lr=0.01, clip=0.1, clip_schedule=ClipSchedule(total_steps=9, decay_fraction=1.0))
    train(optimizer, p, 2)
    twin = copy.deepcopy(optimizer)
    assert same(train(optimizer, p, 2, begin=2), train(twin, twin.param_groups[0]["params"], 2, begin=2))


def test_groups_have_their_own_options():
    p = parameters()
    groups = [{"params": p[:2], "lr": 0.1, "weight_decay": 0.0, "clip": 0.3}, {"params": p[2:], "apply_to": "none"}]
    got = train(SpectraAdamW(groups, lr=0.01), p, 3)
    first = train(SpectraAdamW(q := parameters()[:2], lr=0.1, weight_decay=0.0, clip=0.3), q, 3)
    assert same(got[:2], first)
    plain = train(torch.optim.AdamW(q := parameters(), lr=0.01, weight_decay=0.1), q, 3)
    for one, other in zip(got[2:], plain[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_method_of_clipping_can_differ_between_groups():
    steps = {"method": "newton_schulz", "ns_steps": 2}
    p = parameters([(4, 6), (4, 6)])
    give_gradients(p, 0)
    optimizer = SpectraSignum([{"params": p[:1], "method": "svd"}, {"params": p[1:]}], lr=1.0, clip=0.5, **steps)
    optimizer.step()
    for old, new, options in zip(parameters([(4, 6), (4, 6)]), p, ({"method": "svd"}, steps), strict=True):
        expected = 0.9 * old - soft_spectral_clip(new.grad.sign(), 0.5, **options)
        torch.testing.assert_close(new.detach(), expected.detach(), rtol=0, atol=1e-12)


def test_a_group_that_joins_shares_the_step_count_and_not_the_bias_correction():
    p = parameters([(4, 6), (4, 6)])
    optimizer = SpectraAdamW(p[:1], lr=0.01, clip_schedule=ClipSchedule(10))
    train(optimizer, p[:1], 3)
    optimizer.add_param_group({"params": p[1:], "lr": 0.02})
    train(optimizer, p, 1, begin=3)
    assert [group["clip_step"] for group in optimizer.param_groups] == [4, 4]
    assert [group["base_lr"] for group in optimizer.param_groups] == [0.01, 0.02]
    assert [int(optimizer.state[q]["step"]) for q in p] == [4, 1]


@pytest.mark.parametrize("kind", [*NATIVE, lambda p, lr, **options: Spectra(torch.optim.AdamW(p, lr=lr), **options)])
def test_a_step_that_the_scaler_skips_changes_nothing(kind):
    p = parameters(dtype=torch.float32)
    optimizer = kind(p, lr=0.1, clip=0.5, clip_schedule=ClipSchedule(5))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(number, infinite):
        give_gradients(p, number, scaler.get_scale())
        if infinite:
            p[-2].grad[0, 0, 0] = math.inf
        scaler.scale(torch.ones(()))
        scaler.step(optimizer)
        scaler.update()
        return copy.deepcopy({"weights": [q.detach() for q in p], "optimizer": optimizer.state_dict()})

    for number in range(2):
        before = step(number, infinite=False)
    after = step(2, infinite=True)
    assert same(before["weights"], after["weights"])
    assert before["optimizer"]["param_groups"] == after["optimizer"]["param_groups"]
    for index, state in before["optimizer"]["state"].items():
        assert same(state.values(), after["optimizer"]["state"][index].values())
    later = step(3, infinite=False)
    group = later["optimizer"]["param_groups"][0]
    assert group.get("spectra", group)["clip_step"] == 3
    assert not any(torch.equal(a, b) for a, b in zip(after["weights"], later["weights"], strict=True))


class Synchronisations(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket is torch.ops.aten._local_scalar_dense:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_a_step_never_waits_for_the_device(kind, tensor_lr):
    p = parameters(dtype=torch.float32)
    lr = torch.tensor(0.01) if tensor_lr else 0.01
    optimizer = kind(p, lr=lr, clip_schedule=ClipSchedule(3, total_steps=5, decay_fraction=0.2))
    train(optimizer, p, 1)
    for step in range(1, 5):
        give_gradients(p, step)
        with Synchronisations() as mode:
            optimizer.step()
        assert mode.count == 0
    with Synchronisations() as mode:
        p[0].sum().item()
    assert mode.count == 1


@pytest.mark.plain
@pytest.mark.slow
def test_a_step_compiled_to_machine_code_gives_the_same_numbers():
    one, other = (parameters([(4, 6), (5,)], torch.float32) for _ in range(2))
    # One step of Newton–Schulz, because compiling takes its time for every one.
    eager, lazy = (SpectraAdamW(p, lr=torch.tensor(0.01), clip=0.5, ns_steps=1) for p in (one, other))
    step = torch.compile(lazy.step, backend="inductor")
    for k in range(3):
        give_gradients(one, k)
        give_gradients(other, k)
        eager.step()
        step()
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.plain
@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr must not be negative, got -0.1"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
        ({"clip": 0.0}, "clip must be positive, got 0.0"),
        ({"clip": -2.0}, "clip must be positive, got -2.0"),
        ({"clip": math.nan}, "clip must be positive, got nan"),
        ({"ns_steps": 0}, "ns_steps must be at least 1, got 0"),
        ({"method": "qr"}, "method must be one of 'scaled_newton_schulz', 'newton_schulz', 'svd', got 'qr'"),
        ({"apply_to": "2d"}, "apply_to must be one of 'all', 'matrices', 'none', got '2d'"),
        ({"scale": "mup"}, "scale must be one of 'muon', None, got 'mup'"),
        ({"vectors": "hard"}, "vectors must be one of .*, got 'hard'"),
        ({"higher_dims": "conv"}, "higher_dims must be one of .*, got 'conv'"),
        ({"compute_dtype": torch.int8}, "compute_dtype must be one of .*, got torch.int8"),
    ],
)
def test_bad_options_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(parameters(), **options)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SpectraAdamW, {"betas": (0.9, 1.0)}, r"betas must be 2 numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (SpectraAdamW, {"eps": -1.0}, "eps must not be negative, got -1.0"),
        (SpectraSignum, {"momentum": 1.5}, r"momentum must be in \[0, 1\), got 1.5"),
        (SpectraAdEMAMix, {"alpha": -1.0}, "alpha must not be negative, got -1.0"),
        (SpectraAdEMAMix, {"warmup": 0}, "warmup must be at least 1 or None, got 0"),
        (SpectraMARS, {"gamma": -0.1}, "gamma must not be negative, got -0.1"),
    ],
)
def test_bad_options_of_a_base_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(parameters(), **options)


@pytest.mark.plain
@pytest.mark.parametrize("make", [SpectraAdamW, lambda p, **options: Spectra(torch.optim.AdamW(p), **options)])
def test_an_option_that_does_not_exist_is_refused(make):
    with pytest.raises(TypeError, match=r"options must be among apply_to, .*, got 'appply_to'"):
        make(parameters(), appply_to="all")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1}, "warmup_steps must be between 0 .*, got -1"),
        ({"warmup_steps": 11, "total_steps": 10}, "between 0 and total_steps, which is 10, got 11"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"decay_fraction": 1.5, "total_steps": 10}, r"decay_fraction must be in \[0, 1\], got 1.5"),
        ({"decay_fraction": 0.5}, "decay_fraction cannot be used without total_steps, got 0.5"),
        ({"decay": "step"}, "decay must be one of linear, sqrt, cosine, square, exp, got 'step'"),
        ({"decay": "exp"}, "final must not be negative, and positive with decay='exp', got 0.0"),
    ],
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClipSchedule(**options)


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(TypeError, match=r"parameters must be real, got torch.complex64 for parameter 0\.1"):
        SpectraAdamW([torch.zeros(2), torch.zeros(2, 2, dtype=torch.complex64)])
    flat = torch.nn.Parameter(torch.zeros(4))
    flat._is_flat_param = True
    with pytest.raises(RuntimeError, match=r"Shard with torch\.distributed\.fsdp\.fully_shard"):
        SpectraAdamW([flat])
    p = torch.nn.Parameter(torch.zeros(3, 2))
    p.grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match=r"gradients must be dense, got one of layout torch.sparse_coo .*\(3, 2\)"):
        SpectraAdamW([p]).step()


# --- The wrapper ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.3, 5.0])
def test_the_wrapper_takes_the_native_steps(clip):
    ours, theirs = parameters(), parameters()
    schedule = ClipSchedule(4)
    native = SpectraAdamW(ours, lr=0.01, clip=clip, clip_schedule=schedule)
    wrapper = Spectra(torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1), clip, clip_schedule=schedule)
    for one, other in zip(train(native, ours, 8), train(wrapper, theirs, 8), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    ],
    ids=["AdamW", "NAdam", "SGD"],
)
def test_without_clipping_the_wrapper_is_its_base(make, dtype, accuracy):
    ours, theirs = parameters(dtype=dtype), parameters(dtype=dtype)
    got = train(Spectra(make(ours), 1e12, scale=None), ours, 20)
    for one, other in zip(got, train(make(theirs), theirs, 20), strict=True):
        torch.testing.assert_close(one, other, rtol=accuracy, atol=accuracy)


def test_what_the_wrapper_leaves_out_takes_the_bases_step():
    p, q = parameters(), parameters()
    got = train(Spectra(torch.optim.SGD(p, lr=0.1), 0.1, apply_to="matrices"), p, 3)
    plain = train(torch.optim.SGD(q, lr=0.1), q, 3)
    for one, other in zip(got, plain, strict=True):
        assert torch.equal(one, other) == (one.ndim < 2)


def test_the_wrapper_resumes_bit_identically():
    def make():
        p = parameters()
        optimizer = Spectra(torch.optim.AdamW(p, lr=0.02), 0.5, clip_schedule=ClipSchedule(8))
        return p, optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=8)

    def run(p, optimizer, schedule, steps):
        for k in steps:
            give_gradients(p, k)
            optimizer.step()
            schedule.step()
        return p

    whole = run(*make(), range(9))
    p, optimizer, schedule = make()
    run(p, optimizer, schedule, range(4))
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    q, again, later = make()
    for to, value in zip(q, p, strict=True):
        to.data.copy_(value.data)
    again.load_state_dict(saved["optimizer"])
    later.load_state_dict(saved["schedule"])
    assert all(one is other for one, other in zip(again.base.param_groups, again.param_groups, strict=True))
    assert same(run(q, again, later, range(4, 9)), whole)


@pytest.mark.filterwarnings("ignore:.* have half precision")
@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda p: LAMB(p, lr=0.01, weight_decay=0.0), torch.float32),
        (lambda p: torch.optim.AdamW(p, lr=0.01), torch.bfloat16),
    ],
    ids=["LAMB", "AdamW"],
)
def test_a_loaded_state_of_half_precision_weights_has_the_precision_that_the_base_gave_it(make, dtype):
    p = parameters([(4, 6)], torch.bfloat16)
    optimizer = Spectra(make(p), 0.5)
    train(optimizer, p, 2)
    again = Spectra(make(q := [torch.nn.Parameter(p[0].detach().clone())]), 0.5)
    again.load_state_dict(optimizer.state_dict())
    assert again.state[q[0]]["exp_avg"].dtype == dtype
    assert same(train(optimizer, p, 2, begin=2), train(again, q, 2, begin=2))


def test_a_copied_wrapper_goes_on_by_itself():
    p = parameters()
    optimizer = Spectra(torch.optim.AdamW(p, lr=0.02), 0.5, clip_schedule=ClipSchedule(total_steps=9, decay_fraction=1))
    train(optimizer, p, 2)
    twin = copy.deepcopy(optimizer)
    q = twin.param_groups[0]["params"]
    assert twin.base.param_groups[0]["params"][0] is q[0]
    assert same(train(optimizer, p, 2, begin=2), train(twin, q, 2, begin=2))


def test_a_closure_with_cleared_gradients_is_clipped_too():
    p = parameters([(4, 6)])
    optimizer = Spectra(torch.optim.SGD(p, lr=1.0), 0.1)

    def closure():
        optimizer.zero_grad()
        (100 * p[0].square().sum()).backward()
        return torch.tensor(7.0)

    assert optimizer.step(closure) == 7
    assert torch.linalg.matrix_norm(p[0].detach() - parameters([(4, 6)])[0].detach(), 2) < 0.1


def test_a_group_that_joins_the_wrapper_joins_the_base():
    p = parameters([(4, 6), (3, 3)])
    optimizer = Spectra(torch.optim.AdamW(p[:1], lr=0.1), 0.2)
    optimizer.add_param_group({"params": p[1:], "clip": 1e12, "scale": None})
    assert [len(group["params"]) for group in optimizer.base.param_groups] == [1, 1]
    train(optimizer, p, 1)
    before = parameters([(4, 6), (3, 3)])
    moved = [torch.linalg.matrix_norm(a.detach() - b.detach(), 2) for a, b in zip(p, before, strict=True)]
    assert moved[0] < 0.1 * 0.2 + 0.1 * 0.01 * torch.linalg.matrix_norm(before[0].detach(), 2)
    assert moved[1] > 0.1
    with pytest.raises(ValueError, match="clip must be positive, got -1"):
        optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)], "clip": -1.0})
    assert len(optimizer.base.param_groups) == len(optimizer.param_groups) == 2


def test_a_group_can_join_the_wrapper_after_a_state_was_loaded():
    p = parameters([(4, 6), (3, 3)])
    optimizer = Spectra(torch.optim.AdamW(p[:1], lr=0.1), 0.2)
    train(optimizer, p[:1], 1)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.add_param_group({"params": p[1:]})
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]
    assert all(one is other for one, other in zip(optimizer.base.param_groups, optimizer.param_groups, strict=True))
    before = p[1].detach().clone()
    train(optimizer, p, 1, begin=1)
    assert not torch.equal(p[1], before)


def test_a_rate_of_zero_moves_nothing():
    for lr in (0.0, torch.tensor(0.0)):
        p = parameters(dtype=torch.float32)
        train(Spectra(torch.optim.AdamW(p, lr=lr), 0.1), p, 2)
        assert same([q.detach() for q in p], [q.detach() for q in parameters(dtype=torch.float32)])


@pytest.mark.parametrize(
    ("make", "reads"),
    [
        (lambda p: torch.optim.Muon([q for q in p if q.ndim == 2], lr=0.01), 0),
        (lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), 0),
        (lambda p: torch.optim.AdamW(p, fused=True), 0),
        (lambda p: torch.optim.AdamW(p), len(SHAPES)),
    ],
    ids=["Muon", "SGD", "fused AdamW", "AdamW"],
)
def test_the_wrapper_adds_no_wait_to_its_base(make, reads):
    for wrapped in (make, lambda p: Spectra(make(p), 0.5)):
        p = parameters(dtype=torch.float32)
        optimizer = wrapped(p)
        train(optimizer, p, 1)
        with Synchronisations() as mode:
            train(optimizer, p, 1)
        assert mode.count == reads


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5), "got SGD with weight_decay=0.5"),
        (lambda p: torch.optim.Adam(p, weight_decay=0.25), "got Adam with weight_decay=0.25"),
        (lambda p: torch.optim.NAdam([{"params": p, "weight_decay": 0.5}]), "got NAdam with weight_decay=0.5"),
    ],
)
def test_a_base_with_coupled_decay_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        Spectra(make(parameters()))


@pytest.mark.plain
def test_the_wrapper_names_bad_options_and_takes_a_word_for_decay():
    with pytest.raises(ValueError, match="clip must be positive, got 0"):
        Spectra(torch.optim.AdamW(parameters()), 0.0)
    with pytest.raises(ValueError, match=r"apply_to must be one of .*, got '2d'"):
        Spectra(torch.optim.AdamW(parameters()), apply_to="2d")
    with pytest.warns(UserWarning, match="6 parameters have half precision"):
        Spectra(torch.optim.AdamW(parameters(dtype=torch.bfloat16)))
    with pytest.raises(ValueError, match="base must not clip spectra itself, got SpectraSignum"):
        Spectra(SpectraSignum(parameters()))
    Spectra(torch.optim.SGD(parameters(), weight_decay=0.1), decay_is_decoupled=True)


def test_options_of_spectra_and_of_its_base_may_have_one_name():
    for clip in (True, False):
        p, q = parameters(), parameters()
        optimizer = Spectra(LARS(p, lr=2.0, trust_coefficient=1.0, clip=clip, adapt=lambda *_: True), 1e12, scale=None)
        got = train(optimizer, p, 3)
        expected = train(LARS(q, lr=2.0, trust_coefficient=1.0, clip=clip, adapt=lambda *_: True), q, 3)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert (optimizer.param_groups[0]["clip"], optimizer.param_groups[0]["spectra"]["clip"]) == (clip, 1e12)


@pytest.mark.plain
def test_a_base_that_evaluates_the_loss_itself_or_has_no_rate_is_refused():
    with pytest.raises(ValueError, match="base must make its step without a closure, got LBFGS"):
        Spectra(torch.optim.LBFGS(parameters()))
    base = ArmijoGD(parameters())
    with pytest.raises(ValueError, match="base must have a learning rate in every group, got ArmijoGD without"):
        Spectra(base)


def test_hooks_of_the_base_are_called_once_too_and_its_scheduler_does_not_complain(recwarn):
    base = torch.optim.AdamW(p := parameters(), lr=0.1)
    schedule, seen = torch.optim.lr_scheduler.StepLR(base, 1, 0.5), []
    base.register_step_pre_hook(lambda *_: seen.append("before"))
    base.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer = Spectra(base)
    train(optimizer, p, 1)
    schedule.step()
    assert seen == ["before", "after"]
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert not [w for w in recwarn if "lr_scheduler.step()" in str(w.message)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_warmup_of_the_clip_leads_to_the_rate_that_the_scheduler_leads_to(wrapped, late):
    def scheduled(optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)

    p, clip_schedule = parameters(), ClipSchedule(5)
    base = torch.optim.AdamW(p, lr=0.2, weight_decay=0.1) if wrapped else None
    if wrapped and not late:
        scheduled(base)
    optimizer = Spectra(base, 0.5, clip_schedule=clip_schedule) if wrapped else SpectraAdamW(p, 0.2, clip=0.5)
    optimizer.clip_schedule = clip_schedule
    if late or not wrapped:
        scheduled(optimizer)
    q = parameters()
    expected = SpectraAdamW(q, 0.2, clip=5.0)  # 0.5 · 0.2/0.02
    expected.param_groups[0]["lr"] = 0.02
    for one, other in zip(train(optimizer, p, 1), train(expected, q, 1), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_one_cycle_leads_the_clip_to_its_highest_rate():
    optimizer = SpectraAdamW(p := parameters(), 0.2, clip=0.5, clip_schedule=ClipSchedule(5))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9, cycle_momentum=False)
    q = parameters()
    expected = SpectraAdamW(q, 0.004, clip=12.5)  # 0.1/25, and 0.5 · 25
    for one, other in zip(train(optimizer, p, 1), train(expected, q, 1), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", [0.0, torch.tensor(0.0)])
def test_a_group_whose_rate_is_zero_needs_no_threshold(rate):
    p = parameters(dtype=torch.float32)
    groups = [{"params": p[:3], "lr": rate}, {"params": p[3:]}]
    got = train(SpectraAdamW(groups, lr=0.1, clip_schedule=ClipSchedule(5)), p, 3)
    assert same(got[:3], [q.detach() for q in parameters(dtype=torch.float32)[:3]])
    assert all(q.isfinite().all() for q in got)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("apply_to", ["all", "none"])
def test_a_gradient_that_is_no_number_has_no_sign(apply_to, value, nesterov):
    p = parameters([(4, 6), (5,)])
    optimizer = SpectraSignum(p, nesterov=nesterov, apply_to=apply_to)
    give_gradients(p, 0)
    p[0].grad[1, 2] = value
    optimizer.step()
    lost = p[0].isnan()
    assert lost.all() if apply_to == "all" else lost[1, 2]
    assert p[1].isfinite().all()


@pytest.mark.parametrize(("fraction", "total", "steps"), [(0.29, 100, 29), (0.57, 100, 57), (1 / 49, 49, 1)])
def test_a_decay_has_the_steps_of_the_fraction_that_was_meant(fraction, total, steps):
    schedule = ClipSchedule(total_steps=total, decay_fraction=fraction, decay="square", final=0.5)
    values = [schedule(1.0, k, 1.0, 1.0) for k in range(total)]
    assert sum(value != 1.0 for value in values) == steps - 1  # the first of them is c itself
