"""The battery of every optimizer: it must do what torch's own can. A new optimizer is a line of `OPTIMIZERS`."""

import copy
import functools
import io
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from aleator.optim import (
    LAMB,
    LARS,
    AdaGradNorm,
    ArmijoGD,
    ClipSchedule,
    Spectra,
    SpectraAdamW,
    SpectraAdEMAMix,
    SpectraMARS,
    SpectraSignum,
    is_vector,
    name_matches,
)
from aleator.optim.large_batch import fused


@dataclass(frozen=True)
class Case:
    """An optimizer and what it has.

    Attributes:
        name: of the test.
        make: from parameters and options.
        searches: whether it tries steps, so that it needs a closure, has no learning rate and reads the loss.
        betas: how many, if it has some.
        separate: whether a tensor's step has nothing to do with the other tensors.
        half: whether it trains weights in half precision.
        scalar: whether what it remembers of a tensor is one number.
        wraps: whether it holds another optimizer, whose step cannot be compiled with its own.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    searches: bool = False
    betas: int | None = None
    separate: bool = True
    half: bool = True
    scalar: bool = False
    wraps: bool = False


def around(base: Callable[..., torch.optim.Optimizer], **of_base: Any) -> Callable[..., Spectra]:
    """Return what makes `Spectra` around an optimizer, with a clip of 0.5; other options are the base's."""
    return lambda params, **options: Spectra(base(params, **of_base, **options), 0.5)


SCHEDULE = ClipSchedule(warmup_steps=3, total_steps=9, decay_fraction=0.5, final=0.1)

OPTIMIZERS = [
    Case("LAMB", LAMB, betas=2),
    Case("LAMB-one-by-one", functools.partial(LAMB, foreach=False, phi=(0.1, 2.0)), betas=2),
    Case("LAMB-by-rule", functools.partial(LAMB, adapt=is_vector), betas=2),
    Case("nvlamb", LAMB.nvlamb, betas=2, separate=False),
    Case("LARS", functools.partial(LARS, trust_coefficient=0.1, nesterov=True)),
    Case("LARS-algorithm1", functools.partial(LARS, form="algorithm1", weight_decay=0.01)),
    Case("SpectraAdamW", functools.partial(SpectraAdamW, clip=0.5, clip_schedule=SCHEDULE), betas=2),
    Case("SpectraSignum", functools.partial(SpectraSignum, clip=0.5)),
    Case("SpectraAdEMAMix", functools.partial(SpectraAdEMAMix, clip=0.5, warmup=5), betas=3),
    Case("SpectraMARS", functools.partial(SpectraMARS, clip=0.5), betas=2),
    Case("SpectraAdamW-svd", functools.partial(SpectraAdamW, clip=0.5, method="svd"), betas=2),
    Case("Spectra(AdamW)", around(torch.optim.AdamW), half=False, wraps=True),
    Case("Spectra(SGD)", around(torch.optim.SGD, momentum=0.9), half=False, wraps=True),
    Case("Spectra(LARS)", around(LARS, trust_coefficient=0.1), half=False, wraps=True),
    Case("AdaGradNorm", functools.partial(AdaGradNorm, weight_decay=1e-3), separate=False, scalar=True),
    Case("ArmijoGD", ArmijoGD, searches=True, separate=False),
]
STEPPING = [case for case in OPTIMIZERS if not case.searches]
OURS = [case for case in STEPPING if not case.wraps]


def each(cases: list[Case]) -> Any:
    """Run a test for every case."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


SHAPES = ((4, 3), (5,), (2, 3, 2), ())


def normal(shape, seed, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(shapes=SHAPES, dtype=torch.float64):
    return [nn.Parameter(normal(shape, i, dtype)) for i, shape in enumerate(shapes)]


def made(case, params, **options):
    return case.make(params, **({} if case.searches else {"lr": 0.02}) | options)


def loss_of(weights, number):
    """A loss of every tensor by itself, another one in each step."""
    targets = (normal(w.shape, 100 * (number + 1) + i, w.dtype) for i, w in enumerate(weights))
    return sum((w - target).square().sum() for w, target in zip(weights, targets, strict=True))


def advance(optimizer, weights, numbers):
    """Take a step for each number, on its loss."""
    for number in numbers:

        def closure(number=number):
            loss = loss_of(weights, number)
            if torch.is_grad_enabled():
                optimizer.zero_grad()
                loss.backward()
            return loss

        optimizer.step(closure)
    return [w.detach().clone() for w in weights]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def own(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


# --- a step


@each(OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_lowers_a_loss_in_every_precision_and_keeps_it(case, dtype):
    if dtype == torch.bfloat16 and not case.half:
        pytest.skip("the update cannot be recovered from weights in half precision")
    weights = parameters(dtype=dtype)
    optimizer = made(case, weights)
    before = loss_of(weights, 0).item()
    advance(optimizer, weights, [0] * 30)
    assert loss_of(weights, 0).item() < (0.97 if case.name != "ArmijoGD" else 0.1) * before
    assert {w.dtype for w in weights} == {dtype}
    finer = torch.float32 if dtype == torch.bfloat16 else dtype
    for state in optimizer.state.values():
        assert all(v.dtype == (torch.float32 if k == "step" else finer) for k, v in state.items())


@each([case for case in OPTIMIZERS if case.separate])
def test_a_tensor_takes_the_step_that_it_would_take_alone(case):
    together = advance(made(case, weights := parameters()), weights, range(4))
    for i in range(len(SHAPES)):
        weights = parameters()
        optimizer = made(case, [weights[i]])
        advance(optimizer, weights, range(4))
        torch.testing.assert_close(weights[i].detach(), together[i], rtol=1e-12, atol=1e-14)


@each(OPTIMIZERS)
def test_memory_layout_does_not_matter(case):
    plain = parameters(((4, 3), (3, 2, 4)))
    laid_out = parameters(((4, 3), (3, 2, 4)))
    for w in laid_out:
        w.data = w.data.transpose(0, -1).contiguous().transpose(0, -1)
    for a, b in zip(
        advance(made(case, plain), plain, range(3)), advance(made(case, laid_out), laid_out, range(3)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@each(OPTIMIZERS)
def test_a_closure_is_called_with_gradients_on_and_its_loss_returned(case):
    weights = parameters()
    optimizer, enabled = made(case, weights), []

    def closure():
        enabled.append(torch.is_grad_enabled())
        loss = loss_of(weights, 0)
        if torch.is_grad_enabled():
            optimizer.zero_grad()
            loss.backward()
        return loss

    with torch.no_grad():
        assert float(optimizer.step(closure).detach()) == loss_of(parameters(), 0).item()
    assert enabled == [True] + [False] * (optimizer.search.trials if case.searches else 0)


@each(OPTIMIZERS)
def test_what_has_no_gradient_is_left_alone_and_has_no_state(case):
    weights = parameters()
    optimizer = made(case, weights)
    advance(optimizer, weights[:2], range(2))
    assert equal(weights[2:], parameters()[2:])
    assert not any(w in optimizer.state for w in weights[2:])
    assert not torch.equal(weights[0], parameters()[0])
    if not case.searches:
        optimizer.zero_grad()
        before = [w.detach().clone() for w in weights]
        assert optimizer.step() is None
        assert equal(weights, before)


@each(OPTIMIZERS)
def test_tensors_without_entries_are_no_obstacle(case):
    weights = parameters(((0, 3), (4, 3), (0,)))
    after = advance(made(case, weights), weights, range(2))
    assert [tuple(w.shape) for w in after] == [(0, 3), (4, 3), (0,)]
    assert not torch.equal(after[1], parameters(((0, 3), (4, 3)))[1])


@each(OPTIMIZERS)
def test_a_zero_gradient_shortens_weights_at_most(case):
    weights = parameters()
    optimizer = made(case, weights)

    def closure():
        loss = sum(0.0 * w.sum() for w in weights)
        if torch.is_grad_enabled():
            optimizer.zero_grad()
            loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    for w, start in zip(weights, parameters(), strict=True):
        ratio = (w / start).detach()
        assert ratio.isfinite().all()
        torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio), rtol=1e-9, atol=0)
        assert 0.9 < float(ratio.flatten()[0]) <= 1


@each(OPTIMIZERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_in_a_gradient_is_seen_in_its_tensor_and_nowhere_else(case, value):
    weights = parameters()
    optimizer = made(case, weights)

    def closure():
        loss = loss_of(weights, 0)
        if torch.is_grad_enabled():
            optimizer.zero_grad()
            loss.backward()
            weights[0].grad[1, 1] = value
        return loss

    optimizer.step(closure)
    if case.searches:
        assert not optimizer.search.accepted
        assert optimizer.search.trials == 0
        assert equal(weights, parameters())
        return
    assert not weights[0].isfinite()[1, 1]
    if case.separate:
        assert all(w.isfinite().all() for w in weights[1:])


class Reads(TorchDispatchMode):
    """Counts the numbers that are read back from the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@each([case for case in STEPPING if case.name not in ("Spectra(AdamW)", "Spectra(SGD)")])  # these bases read numbers
@pytest.mark.parametrize("lr", [0.01, torch.tensor(0.01)], ids=["number", "tensor"])
def test_a_step_reads_nothing_back_from_the_device(case, lr):
    weights = parameters(dtype=torch.float32)
    optimizer = made(case, weights, lr=lr)
    loss_of(weights, 0).backward()
    optimizer.step()
    with Reads() as reads:
        for _ in range(3):
            optimizer.step()
    assert reads.count == 0
    with reads:
        weights[1].detach().sum().item()
    assert reads.count == 1  # the counter counts


@pytest.mark.plain
@each(OURS)
def test_a_compiled_step_equals_a_plain_one(case):
    torch.compiler.reset()  # after eight compilations of a step torch would not compile it again, and not say so
    # Compiling takes its time for every step of Newton–Schulz.
    few = {"ns_steps": 2} if "ns_steps" in made(case, parameters()).param_groups[0] else {}
    shapes = SHAPES[:2] if few and case.name != "SpectraAdamW" else SHAPES  # one of them has matrices in a tensor of 3
    both = [parameters(shapes), parameters(shapes)]
    for weights, compiled in zip(both, (True, False), strict=True):
        optimizer = made(case, weights, lr=torch.tensor(0.01, dtype=torch.float64), **few)
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        for number in range(3):
            optimizer.zero_grad()
            loss_of(weights, number).backward()
            step()
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


# --- groups and rates


@each(OPTIMIZERS)
def test_a_group_that_joins_has_options_of_its_own(case):
    weights = parameters()
    optimizer = made(case, weights[:2])
    advance(optimizer, weights, range(2))
    start = [w.detach().clone() for w in weights]
    optimizer.add_param_group({"params": weights[2:], **({} if case.searches else {"lr": 0.0})})
    advance(optimizer, weights, [2])
    moved = [not torch.equal(a, b) for a, b in zip(weights, start, strict=True)]
    assert moved == ([True] * 4 if case.searches else [True, True, False, False])
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": weights[:1]})
    assert len(optimizer.param_groups) == 2


@each(STEPPING)
def test_a_tensor_rate_gives_the_steps_of_a_number_and_has_no_dimension(case):
    rate = torch.tensor(0.01, dtype=torch.float64)
    one, other = parameters(), parameters()
    steps = advance(made(case, one, lr=0.01), one, range(4)), advance(made(case, other, lr=rate), other, range(4))
    for a, b in zip(*steps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)
    with pytest.raises(ValueError, match=r"lr must be a number or a tensor of shape \(\), got shape \(1,\)"):
        made(case, parameters(), lr=torch.tensor([0.01]))


def has_momentum(optimizer):
    return not optimizer.defaults.keys().isdisjoint(("momentum", "betas"))


SCHEDULERS = {
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5),
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 1 / (k + 1)),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=6, cycle_momentum=has_momentum(o)),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(
        o, 0.01, 0.1, step_size_up=2, cycle_momentum=has_momentum(o)
    ),
    "PolynomialLR": lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 5),
    "from defaults": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 1 - k * o.defaults["lr"]),
}


@each(STEPPING)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_set_the_rate_that_steps_are_taken_at(case, name):
    followed, set_by_hand = parameters(), parameters()
    optimizer, twin = made(case, followed), made(case, set_by_hand)
    schedule = SCHEDULERS[name](optimizer)
    for number in range(4):
        for key, value in optimizer.param_groups[0].items():
            if key in ("lr", "momentum", "betas", "initial_lr", "max_lr"):
                twin.param_groups[0][key] = value
        advance(optimizer, followed, [number])
        advance(twin, set_by_hand, [number])
        schedule.step()
    assert equal(followed, set_by_hand)
    assert optimizer.param_groups[0]["lr"] != 0.02


# --- saving, loading, copying


@each(OPTIMIZERS)
def test_a_saved_run_continues_bit_equal(case):
    weights, twins = parameters(), parameters()
    optimizer = made(case, weights)
    advance(optimizer, weights, range(3))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weights": weights}, file)
    advance(optimizer, weights, range(3, 6))
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    for twin, value in zip(twins, saved["weights"], strict=True):
        twin.data.copy_(value)
    resumed = made(case, twins)
    resumed.load_state_dict(saved["optimizer"])
    assert equal(advance(resumed, twins, range(3, 6)), weights)
    assert resumed.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@each(OPTIMIZERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_by_itself_as_the_original_does(case, copied):
    weights = parameters()
    optimizer = made(case, weights)
    advance(optimizer, weights, range(2))
    twin = copied(optimizer)
    start = [w.detach().clone() for w in weights]
    after = advance(twin, own(twin), range(2, 5))
    assert equal(weights, start)
    assert equal(advance(optimizer, weights, range(2, 5)), after)


def named(order, case, dtype=torch.float64, **options):
    """Layers of one shape in some order, and an optimizer that knows their names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.ModuleDict({name: nn.Linear(3, 3, bias=False) for name in order}).to(dtype)
    return layers, made(case, layers.named_parameters(), **options)


def states(layers, optimizer):
    return {name: optimizer.state[layer.weight] for name, layer in layers.items()}


@each(OURS)
def test_a_reordered_model_takes_the_state_of_its_names(case):
    options = {"adapt": name_matches("^a")} if "LAMB" in case.name or "LARS" in case.name else {}
    layers, optimizer = named("abc", case, **options)
    advance(optimizer, own(optimizer), range(2))
    again, other = named("cab", case, **options)
    other.load_state_dict(optimizer.state_dict())
    found, wanted = states(again, other), states(layers, optimizer)
    for name in "abc":
        assert found[name].keys() == wanted[name].keys()
        assert all(torch.equal(found[name][key], wanted[name][key]) for key in wanted[name])
    group = other.param_groups[0]
    assert group["param_names"] == ["c.weight", "a.weight", "b.weight"]
    if options:
        assert group["adapt"] == (False, True, False)
    layers, other = named("abd", case)
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"param_names of group 0 must match a group .*, which has no d\.weight"):
        other.load_state_dict(optimizer.state_dict())
    assert other.state_dict() == before


@each([case for case in OURS if not case.scalar])
def test_a_running_mean_of_another_shape_is_refused(case):
    optimizer = made(case, weights := parameters(((4, 3),)))
    advance(optimizer, weights, [0])
    other = made(case, parameters(((3, 4),)))
    with pytest.raises(ValueError, match=r"of parameter 0\.0 must have its shape \(3, 4\), got \(4, 3\)"):
        other.load_state_dict(optimizer.state_dict())


@each(OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hooks_of_loading_may_rename_drop_and_add_and_have_the_last_word(case, dtype):
    layers, optimizer = named("ab", case, dtype)
    advance(optimizer, own(optimizer), range(2))
    again, other = named("xac", case, dtype)  # a as it was, b now called x, c new
    seen = []

    def rename(optimizer, state):
        names = [{"b.weight": "x.weight"}.get(n, n) for n in state["param_groups"][0]["param_names"]] + ["c.weight"]
        group = {**state["param_groups"][0], "param_names": names, "params": [0, 1, 2]}
        return {"state": state["state"], "param_groups": [group]}

    def last_word(optimizer):
        seen.append({name: len(state) for name, state in states(again, optimizer).items()})
        for state in optimizer.state.values():
            for value in state.values():
                value.fill_(0.125)

    other.register_load_state_dict_pre_hook(rename)
    other.register_load_state_dict_post_hook(last_word)
    other.load_state_dict(optimizer.state_dict())
    kept = len(optimizer.state[layers["a"].weight])
    assert seen == [{"x": kept, "a": kept, "c": 0}]
    of_a = states(again, other)["a"]
    assert all(float(value.flatten()[0]) == 0.125 for value in of_a.values())
    assert all(value.dtype == torch.float32 for value in of_a.values())
    advance(other, own(other), [2])


@each(OPTIMIZERS)
def test_hooks_of_a_step_and_of_saving_are_called_once(case):
    weights, seen = parameters(), []
    optimizer = made(case, weights)
    optimizer.register_step_pre_hook(lambda *_: seen.append("own before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("own after"))
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append("saved"))
    handles = [
        torch_optimizer.register_optimizer_step_pre_hook(lambda *_: seen.append("before")),
        torch_optimizer.register_optimizer_step_post_hook(lambda *_: seen.append("after")),
    ]
    try:
        advance(optimizer, weights, [0])
    finally:
        for handle in handles:
            handle.remove()
    optimizer.state_dict()
    assert seen == ["before", "own before", "own after", "after", "saved"]


@each(STEPPING)
def test_a_gradient_scaler_unscales_and_leaves_overflows_out(case):
    scaled, plain = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizer, other = made(case, scaled), made(case, plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, factor in enumerate((1.0, math.inf, 1.0)):
        optimizer.zero_grad()
        scaler.scale(factor * loss_of(scaled, number)).backward()
        scaler.step(optimizer)
        scaler.update()
    advance(other, plain, [0, 2])
    for a, b in zip(scaled, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# --- refusals


@each(OPTIMIZERS)
def test_complex_parameters_are_refused_and_leave_no_trace(case):
    base = "Spectra(" in case.name
    with pytest.raises(TypeError, match=r"parameters must be real, got torch.complex64"):
        made(case, [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    optimizer = made(case, parameters())
    with pytest.raises(TypeError, match=r"parameters must be real, got torch.complex64"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.complex64))]})
    assert len((optimizer.base if base else optimizer).param_groups) == len(optimizer.param_groups) == 1


@each(OPTIMIZERS)
def test_sparse_gradients_are_refused(case):
    table = nn.Embedding.from_pretrained(normal((4, 2), 0), freeze=False, sparse=True)
    optimizer = made(case, table.parameters())

    def closure():
        loss = table(torch.tensor([1])).sum()
        if torch.is_grad_enabled():
            loss.backward()
        return loss

    with pytest.raises(RuntimeError, match=r"gradients must be dense, got one of layout torch.sparse_coo"):
        optimizer.step(closure)
    assert torch.equal(table.weight, normal((4, 2), 0))


@pytest.mark.plain
@each([case for case in OPTIMIZERS if case.betas])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_number_of_betas_is_checked(case, number):
    betas = (0.9, 0.99, 0.999, 0.999)[:number]
    if number == case.betas:
        made(case, parameters(), betas=betas)
        return
    with pytest.raises(ValueError, match=rf"betas must be {case.betas} numbers in \[0, 1\), got \(0.9,"):
        made(case, parameters(), betas=betas)


@pytest.fixture(autouse=True)
def _loops_for_tensors_of_any_size(monkeypatch, compiled_steps):
    monkeypatch.setattr(fused, "LEAST_ELEMENTS", 0)


@pytest.fixture(autouse=True)
def _expected_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parameters that are adapted start at zero")
        yield
