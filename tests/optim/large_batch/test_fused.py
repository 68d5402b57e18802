import builtins
import copy
import itertools
import math
import sys

import pytest
import torch

from aleator.optim import LAMB, LARS
from aleator.optim.large_batch import fused

kernels = pytest.importorskip("aleator.optim.large_batch.kernels", exc_type=ImportError)
pytestmark = pytest.mark.usefixtures("compiled_steps")

# An empty tensor, one without dimensions, and two of more than a block of a sum.
SHAPES = ((4, 3), (), (0, 3), (2, 3, 4, 5), (70, 31), (1500,))


@pytest.fixture(autouse=True)
def _loops_for_tensors_of_any_size(monkeypatch):
    monkeypatch.setattr(fused, "LEAST_ELEMENTS", 0)


@pytest.fixture
def by_torch(monkeypatch):
    """A function that calls another one as if numba were missing."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(fused, "compiled_loops", lambda: None)
            return function(*arguments)

    return call


@pytest.fixture
def tables(monkeypatch):
    """How many tensors were stepped by the loops."""
    seen = []
    run = fused._run
    monkeypatch.setattr(fused, "_run", lambda loop, rows, *rest: (seen.append(len(rows)), run(loop, rows, *rest)))
    return seen


def normal(shape, seed, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(dtype, shapes=SHAPES):
    weights = [normal(shape, i, dtype) for i, shape in enumerate(shapes)]
    weights[0].zero_()  # a weight whose norm is zero
    for i, weight in enumerate(weights):
        if weight.ndim == 4:
            weights[i] = weight.to(memory_format=torch.channels_last)
    return [weight.requires_grad_() for weight in weights]


def train(optimizer, weights, steps, scale=1.0):
    for step in steps:
        for i, weight in enumerate(weights):
            # Tensor 3 has a gradient of another layout, 4 every other time none, and 5 one that is zero at first.
            grad = scale * normal(weight.shape, 100 * (step + 1) + i, weight.dtype)
            weight.grad = None if i == 4 and step % 2 else grad * (i != 5 or step > 0)
        optimizer.step()
    return [weight.detach().clone() for weight in weights]


def lamb(**options):
    return lambda weights: LAMB(
        [
            {"params": weights[:2], "weight_decay": 0.3, "adapt": "all"},
            {"params": weights[2:], "adapt": lambda name, w: w.ndim != 1},
        ],
        **{"lr": 0.05, **options},
    )


def lars(**options):
    return lambda weights: LARS(
        [
            {"params": weights[:2], "weight_decay": 0.3, "adapt": "all"},
            {"params": weights[2:], "adapt": lambda name, w: w.ndim != 1},
        ],
        **{"lr": 0.05, "momentum": 0.8, **options},
    )


LAMBS = [
    lamb(weight_decay=decay, bias_correction=corrected, grad_averaging=averaged, phi=phi)
    for decay, corrected, averaged, phi in itertools.product(
        (0.0, 0.1), (True, False), (True, False), (None, (0.5, 3.0))
    )
]
MORE_LAMBS = [lamb(max_grad_norm=1.0), lamb(lr=torch.tensor(0.05)), lamb(betas=(0.0, 0.0)), lamb(eps=0.0, lr=0.0)]
LARSES = [
    *[
        lars(weight_decay=decay, nesterov=nesterov, clip=clip, trust_coefficient=0.1)
        for decay, nesterov, clip in itertools.product((0.0, 0.1), (True, False), (True, False))
    ],
    *[
        lars(weight_decay=decay, form="algorithm1", phi=phi, momentum=momentum)
        for decay, phi, momentum in itertools.product((0.0, 0.1), (None, (0.5, 3.0)), (0.0, 0.9))
    ],
    lars(momentum=0.0, eps=0.1),
    lars(lr=torch.tensor(0.05)),
]


@pytest.mark.filterwarnings("ignore:parameters that are adapted start at zero")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("makes", [LAMBS, MORE_LAMBS, LARSES], ids=["LAMB", "LAMB, more", "LARS"])
def test_loops_and_torch_take_the_same_steps_with_every_option(makes, dtype, tolerance, by_torch, tables):
    for make in makes:
        ours, theirs = parameters(dtype), parameters(dtype)
        one, other = make(ours), by_torch(make, theirs)
        found, wanted = train(one, ours, range(4)), by_torch(train, other, theirs, range(4))
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        for of_one, of_other in zip(one.state.values(), other.state.values(), strict=True):
            for name, value in of_one.items():
                torch.testing.assert_close(value, of_other[name], rtol=tolerance, atol=tolerance, equal_nan=True)
                assert value.stride() == of_other[name].stride()
    assert sum(tables) == len(makes) * (4 * len(SHAPES) - 2)  # all but the steps without a gradient


@pytest.mark.parametrize("make", [lamb(), lars(), lars(form="algorithm1")], ids=["LAMB", "original", "algorithm1"])
@pytest.mark.filterwarnings("ignore:parameters that are adapted start at zero")
def test_a_run_is_resumed_from_one_way_to_the_other(make, by_torch):
    ours, theirs = parameters(torch.float64), parameters(torch.float64)
    one = make(ours)
    train(one, ours, range(2))
    for twin, weight in zip(theirs, ours, strict=True):
        twin.data.copy_(weight)
    other = make(theirs)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for a, b in zip(train(one, ours, range(2, 5)), by_torch(train, other, theirs, range(2, 5)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [lamb(), lars(), lars(form="algorithm1")], ids=["LAMB", "original", "algorithm1"])
@pytest.mark.filterwarnings("ignore:parameters that are adapted start at zero")
def test_threads_share_tensors_out_to_the_same_bits(make, monkeypatch):
    monkeypatch.setattr(fused, "_LEAST_TO_SHARE", 0)
    found = []
    for threads in (1, 3):
        weights = parameters(torch.float32)
        torch.set_num_threads(threads)
        try:
            found.append(train(make(weights), weights, range(3)))
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("form", ["original", "algorithm1"])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-25), (torch.float64, 1e-200)], ids=str)
def test_gradients_whose_squares_vanish_are_adapted_as_others_are(form, dtype, scale):
    found = []
    for size in (1.0, scale):
        weights = parameters(dtype)[1:]
        optimizer = LARS(weights, lr=0.1, eps=0.0, trust_coefficient=0.1, form=form)
        found.append(train(optimizer, weights, range(3), size))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_what_the_loops_cannot_walk_through_is_left_to_torch(tables):
    plain, half, turned = (
        normal((5, 4), 0, torch.float32),
        normal((5, 4), 1, torch.bfloat16),
        normal((5, 4), 2, torch.float32),
    )
    weights = [plain.requires_grad_(), half.requires_grad_(), turned.t().requires_grad_()]
    before = [weight.detach().clone() for weight in weights]
    after = train(LAMB(weights, lr=0.1), weights, range(1))
    assert tables == [1]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    train(LAMB(weights[:1], foreach=True), weights[:1], range(1))
    assert tables == [1]


def test_small_steps_do_not_load_the_loops(monkeypatch, tables):
    monkeypatch.setattr(fused, "LEAST_ELEMENTS", 21)
    for size, stepped in ((20, []), (21, [1])):
        weights = [normal((size,), 0, torch.float32).requires_grad_()]
        train(LAMB(weights), weights, range(1))
        assert tables == stepped


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("make", [LAMB, lambda ws: LARS(ws, 0.1), lambda ws: LARS(ws, 0.1, form="algorithm1")])
def test_what_is_not_a_number_spreads_over_its_tensor_and_nowhere_else(make, value):
    weights = [normal((3000,), i, torch.float32).requires_grad_() for i in range(2)]
    for i, weight in enumerate(weights):
        weight.grad = normal((3000,), 9 + i, torch.float32)
    weights[0].grad[7] = value
    make(weights).step()
    assert weights[0].isnan().any()
    assert weights[1].isfinite().all()


def test_a_graph_recorded_before_a_step_is_refused_after_it():
    weight = normal((5,), 0, torch.float32).requires_grad_()
    loss = weight.square().sum()
    weight.grad = torch.ones(5)
    LAMB([weight]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_memory_that_was_taken_away_is_not_walked_through(tables):
    weight = normal((5,), 0, torch.float32).requires_grad_()
    weight.grad = torch.ones(5)
    optimizer = LAMB([weight])
    optimizer.step()
    weight.grad.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError):
        optimizer.step()
    assert tables == [1]


@pytest.mark.parametrize("make", [LAMB, lambda ws: LARS(ws, 0.1), lambda ws: LARS(ws, 0.1, form="algorithm1")])
def test_a_gradient_of_another_size_is_refused_and_not_read_beyond_its_end(make, tables):
    weight = normal((5,), 0, torch.float32).requires_grad_()
    weight.grad = torch.ones(5)
    weight.data = torch.ones(5000)
    with pytest.raises(RuntimeError):
        make([weight]).step()
    assert tables == []


def test_memory_that_stands_for_its_negative_is_left_to_torch(tables):
    weight = torch._neg_view(torch.ones(5)).requires_grad_()
    weight.grad = torch.ones(5)
    with pytest.raises(RuntimeError):
        LAMB([weight]).step()
    assert tables == []


def test_weights_that_share_memory_are_stepped_one_after_the_other(monkeypatch):
    monkeypatch.setattr(fused, "_LEAST_TO_SHARE", 0)
    monkeypatch.setattr(fused, "ThreadPoolExecutor", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    flat = normal((3000,), 0, torch.float32)
    weights = [torch.nn.Parameter(flat[:2000]), torch.nn.Parameter(flat[1999:])]
    train(LAMB(weights, lr=0.1), weights, range(1))
    with pytest.raises(TypeError, match="NoneType"):  # those that share none are shared out
        train(LAMB(weights[:1], lr=0.1), [weights[0], normal((5,), 1, torch.float32).requires_grad_()], range(1))


def test_a_learning_rate_in_half_precision_is_a_number_too(tables):
    found = []
    for lr in (0.125, torch.tensor(0.125, dtype=torch.bfloat16)):
        weights = parameters(torch.float32)[1:]
        found.append(train(LAMB(weights, lr=lr), weights, range(1)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert len(tables) == 2


def test_weights_that_the_loops_cannot_step_do_not_load_them(monkeypatch):
    monkeypatch.setattr(fused, "LEAST_ELEMENTS", 6)
    monkeypatch.setattr(fused, "compiled_loops", None)
    weights = [normal((5,), 0, torch.float32), normal((50,), 0, torch.bfloat16), torch.ones(50, device="meta")]
    train(LAMB([weight.requires_grad_() for weight in weights[:2]]), weights[:2], range(1))
    weights[2].requires_grad_().grad = torch.ones(50, device="meta")
    LAMB(weights[2:]).step()


@pytest.fixture
def _loaded_anew(monkeypatch):
    """The compiled loops are imported as if for the first time."""
    monkeypatch.delitem(sys.modules, "aleator.optim.large_batch.kernels")
    monkeypatch.delattr("aleator.optim.large_batch.kernels")
    fused.compiled_loops.cache_clear()
    yield
    monkeypatch.undo()
    fused.compiled_loops.cache_clear()


@pytest.mark.usefixtures("_loaded_anew")
@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'numba'", name="numba"),
        ImportError("Numba needs NumPy 2.3 or less. Got NumPy 2.4."),
        RuntimeError("cannot cache function '_root': no locator available for file 'kernels.py'"),
    ],
    ids=["missing", "NumPy", "cache"],
)
def test_where_numba_does_not_work_a_step_goes_on_without_it(error, monkeypatch, tables):
    load, tried = builtins.__import__, []

    def fails(name, *arguments, **options):
        if name == "numba":
            tried.append(name)
            raise error
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fails)
    weights = parameters(torch.float32)[1:]
    train(LAMB(weights), weights, range(2))
    assert len(tried) == 1
    assert tables == []


@pytest.mark.usefixtures("_loaded_anew")
def test_without_its_compiler_numba_is_not_used(monkeypatch, tables):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    weights = parameters(torch.float32)[1:]
    train(LAMB(weights), weights, range(1))
    assert tables == []
