"""The layer: what it computes is untouched, and so is everything else but the weight's gradient."""

import copy
import io
import itertools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from aleator.nn import TrAct, apply_tract, first_layer_group, remove_tract, tract_weight_grad
from aleator.nn.layer_rows import rows
from aleator.random import Streams
from tests.nn.test_layer_rows import LAYERS, layer_and_input


def filled(model, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model


def linear(*sizes, **kwargs):
    return nn.utils.skip_init(nn.Linear, *sizes, **kwargs)


def conv(*sizes, **kwargs):
    return nn.utils.skip_init(nn.Conv2d, *sizes, **kwargs)


def attention():
    with torch.random.fork_rng():
        return nn.MultiheadAttention(4, 2)


def network(dtype=torch.float32):
    return filled(
        nn.Sequential(
            conv(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Flatten(), linear(8 * 16, 5)
        ),
        dtype,
    )


def images(count=6, dtype=torch.float32, seed=1):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def loss_of(model, x):
    return model(x).square().mean()


def grads(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# --- the gradient


@pytest.mark.parametrize("solver", ["primal", "dual", "auto"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_linear_one_on_its_rows(name, solver):
    layer, x = layer_and_input(name)
    generator = torch.Generator().manual_seed(2)
    wrapped = TrAct(layer, lam=0.1, solver=solver)
    output = wrapped(x)
    d = torch.randn(output.shape, generator=generator, dtype=torch.float64) / len(x)
    output.backward(d)
    channels_last = d if isinstance(layer, nn.Linear) else d.movedim(1, -1)
    groups = getattr(layer, "groups", 1)
    parts = channels_last.reshape(-1, layer.weight.shape[0]).chunk(groups, dim=1)
    expected = torch.cat(
        [tract_weight_grad(r, d, 0.1) for r, d in zip(rows(layer, x, torch.float64), parts, strict=True)]
    )
    assert torch.allclose(layer.weight.grad.flatten(1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_output_bias_gradient_and_input_gradient_are_the_layers_own(name):
    layer, x = layer_and_input(name)
    x.requires_grad_()
    plain = layer(x)
    expected = torch.autograd.grad(plain.tanh().sum(), [x, layer.bias])
    wrapped = TrAct(layer)
    output = wrapped(x)
    assert torch.equal(output, plain)
    found = torch.autograd.grad(output.tanh().sum(), [x, layer.bias])
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(found, expected, strict=True))
    with torch.no_grad():
        assert torch.equal(wrapped(x), plain)


def test_gradcheck_of_inputs_and_bias():
    layer, x = layer_and_input("groups")
    wrapped = TrAct(layer)
    small = x[:1, :, :4, :4].clone().requires_grad_()
    bias = layer.bias

    def of(x, bias):
        return torch.func.functional_call(wrapped, {"bias": bias}, (x,))

    assert torch.autograd.gradcheck(of, (small, bias.detach().clone().requires_grad_()))


def test_other_layers_and_a_scaled_loss_get_ordinary_gradients():
    plain, tract = network(torch.float64), apply_tract(network(torch.float64))
    x = images(dtype=torch.float64)
    loss_of(plain, x).backward()
    (8 * loss_of(tract, x)).backward()
    found, expected = grads(tract), grads(plain)
    for name in ("0.bias", "4.weight", "4.bias"):
        assert torch.allclose(found[name], 8 * expected[name], rtol=1e-12)
    (x1,) = rows(plain[0], x, torch.float64)
    solved = expected["0.weight"].flatten(1) @ torch.linalg.inv(
        x1.mT @ x1 / len(x1) + 0.1 * torch.eye(27, dtype=torch.float64)
    )
    assert torch.allclose(found["0.weight"].flatten(1), 8 * solved, rtol=1e-9, atol=1e-12)


def test_a_frozen_weight_stays_frozen_and_inputs_without_gradient_mode_cost_nothing():
    model = apply_tract(network())
    model[0].weight.requires_grad_(False)
    loss_of(model, images()).backward()
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


def test_a_layer_that_is_called_twice_solves_each_call_by_itself():
    layer, x = layer_and_input("linear")
    wrapped = TrAct(layer)
    parts = []
    for half in x:
        wrapped(half).square().mean().backward()
        parts.append(layer.weight.grad)
        layer.weight.grad = None
    sum(wrapped(half).square().mean() for half in x).backward()
    assert torch.allclose(layer.weight.grad, sum(parts), rtol=1e-12)


def test_a_weight_that_is_computed_from_others_passes_the_gradient_on():
    layer, x = layer_and_input("linear")
    parametrizations.weight_norm(layer)
    keys = list(layer.state_dict())
    weight = layer.weight
    (gradient,) = torch.autograd.grad(nn.functional.linear(x, weight, layer.bias).square().mean(), weight)
    flat = x.reshape(-1, 5)
    solved = gradient @ torch.linalg.inv(flat.mT @ flat / 6 + 0.1 * torch.eye(5, dtype=torch.float64))
    expected = torch.autograd.grad(layer.weight, list(layer.parametrizations.parameters()), solved)
    wrapped = TrAct(layer)
    wrapped(x).square().mean().backward()
    assert list(wrapped.state_dict()) == keys
    found = [parameter.grad for parameter in layer.parametrizations.parameters()]
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(found, expected, strict=True))


def test_torch_func_sees_the_same_gradient():
    model, x = apply_tract(network()), images()
    loss_of(model, x).backward()
    parameters = dict(model.named_parameters())
    found = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).square().mean())(parameters)
    assert all(torch.equal(found[name], gradient) for name, gradient in grads(model).items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(dtype):
    exact, half = apply_tract(network()), apply_tract(network().to(dtype))
    for model in (exact, half):
        loss_of(model, images(dtype=model[0].weight.dtype)).backward()
    assert half[0].weight.grad.dtype == dtype
    error = (half[0].weight.grad.float() - exact[0].weight.grad).norm() / exact[0].weight.grad.norm()
    assert error < 0.03  # bfloat16 has 8 bits


@pytest.mark.parametrize(("rows_", "n"), [(64, 27), (4, 40)])
def test_compute_dtype_is_that_of_the_equations(rows_, n):
    generator = torch.Generator().manual_seed(0)
    # One direction far above the others, as with real images.
    x = torch.randn(rows_, n, generator=generator) + 8 * torch.randn(rows_, 1, generator=generator)
    d = torch.randn(rows_, 3, generator=generator)
    exact = tract_weight_grad(x.double(), d.double(), 0.1)
    errors = []
    for dtype in (torch.float32, torch.float64):
        layer = filled(linear(n, 3))
        wrapped = TrAct(layer, compute_dtype=dtype)
        wrapped._seen_input = True
        wrapped(x).backward(d)
        errors.append(float((layer.weight.grad - exact).norm() / exact.norm()))
    assert errors[1] < errors[0] < 1e-3


def unscaled_images():
    """Return images of few directions with a white margin, between 0 and 255."""
    generator = torch.Generator().manual_seed(0)
    grey = (torch.rand(64, 6, generator=generator) @ torch.rand(6, 200, generator=generator) / 3).clamp(0, 1)
    return (grey * 255).round() * (torch.rand(200, generator=generator) > 0.4)


@pytest.mark.filterwarnings("ignore:.*should have mean 0:UserWarning")
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_where_float32_loses_the_gradient_it_is_refused_and_float64_gives_it(solver):
    x, d = unscaled_images(), torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    exact = tract_weight_grad(x.double(), d.double(), 0.1)
    with pytest.raises(RuntimeError, match=r"Linear: float32 is too coarse .*(compute_dtype=torch.float64)"):
        TrAct(filled(linear(200, 3)), solver=solver)(x).backward(d)
    layer = filled(linear(200, 3))
    TrAct(layer, solver=solver, compute_dtype=torch.float64)(x).backward(d)
    assert (layer.weight.grad - exact).norm() < 1e-3 * exact.norm()


def test_the_dual_form_is_as_exact_as_the_numbers_where_it_would_be_a_difference():
    # Few rows, and λ far below xᵀx/N.
    generator = torch.Generator().manual_seed(0)
    x, d = torch.randn(8, 200, generator=generator), torch.randn(8, 3, generator=generator)
    exact = tract_weight_grad(x.double(), d.double(), 0.01)
    layer = filled(linear(200, 3))
    TrAct(layer, lam=0.01)(x).backward(d)
    assert (layer.weight.grad - exact).norm() < 2e-6 * exact.norm()


def test_d_is_let_go_and_kept_again_when_a_graph_is_walked_twice():
    generator = torch.Generator().manual_seed(0)
    layer, x = filled(linear(40, 3), torch.float64), torch.randn(4, 40, generator=generator, dtype=torch.float64)
    loss = loss_of(TrAct(layer), x)
    once = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(4 * loss, layer.weight)[0], 4 * once)


# --- mixed precision and compilation


def test_under_bfloat16_autocast_the_gradient_is_solved_in_float32_and_the_loss_falls():
    plain, mixed = network(), apply_tract(network())
    x = images(32)
    for model in (plain, mixed):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            before = loss_of(model, x)
        before.backward()
    # The ordinary gradient is off by 1.5 % here. What TrAct adds to it is solved in float32.
    (x1,) = rows(plain[0], x, torch.float64)
    matrix = x1.mT @ x1 / len(x1) + 0.1 * torch.eye(27, dtype=torch.float64)
    expected = plain[0].weight.grad.double().flatten(1) @ torch.linalg.inv(matrix)
    assert torch.allclose(mixed[0].weight.grad.double().flatten(1), expected, rtol=1e-4, atol=1e-5)
    optimizer = torch.optim.SGD(mixed.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.step()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            after = loss_of(mixed, x)
        after.backward()
    assert after < 0.5 * before


@pytest.mark.plain
@pytest.mark.parametrize("reduce", ["local", "global"])
def test_a_compiled_model_has_the_same_gradients(reduce):
    models = [network() for _ in range(2)]
    for model in models:
        apply_tract(model, reduce=reduce)[0].awaits_preconditioner = False
    compiled = torch.compile(models[1], backend="aot_eager")
    loss_of(models[0], images()).backward()
    loss_of(compiled, images()).backward()
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(*(grads(m).values() for m in models), strict=True))
    if reduce == "global":
        assert torch.equal(models[0][0].gram_sum, models[1][0].gram_sum)


# --- the layer keeps what it has


def test_names_keys_and_parameters_are_those_of_the_layer():
    model = network()
    parameters, keys = dict(model.named_parameters()), list(model.state_dict())
    layer = model[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert apply_tract(model) is model
    assert isinstance(model[0], TrAct)
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in parameters.items()}
    assert list(model.state_dict()) == keys
    assert (model[0].kernel_size, model[0].out_channels) == ((3, 3), 8)
    before = layer.weight.detach().clone()
    loss_of(model, images()).backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
    assert remove_tract(model) is model
    assert model[0] is layer
    assert list(model.state_dict()) == keys


def test_state_goes_from_a_plain_model_to_one_with_tract_and_back():
    plain = network()
    tract = apply_tract(filled(network(), seed=5))
    tract.load_state_dict(plain.state_dict())
    assert torch.equal(tract(images()), plain(images()))
    loss_of(tract, images()).backward()
    torch.optim.SGD(tract.parameters(), lr=0.1).step()
    expected = tract(images())
    plain.load_state_dict(tract.state_dict())
    assert torch.equal(plain(images()), expected)
    assert torch.equal(remove_tract(tract)(images()), expected)


def test_conversions_copies_and_pickles_keep_layer_and_wrapper_together():
    model = apply_tract(network())
    model.double()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (model, copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert other[0].module.weight is other[0].weight
        assert other[0].weight.dtype == torch.float64
        loss_of(other, images(dtype=torch.float64)).backward()
        assert torch.allclose(other[0].weight.grad, model[0].weight.grad)
        assert other is model or other[0].weight is not model[0].weight


def test_hooks_of_the_layer_run_once_and_outlive_the_wrapper():
    model, calls = network(), []
    model[0].register_forward_hook(lambda module, args, output: calls.append("forward"))
    model[0].register_full_backward_hook(lambda module, *grads: calls.append("backward"))
    apply_tract(model)
    model[0].register_forward_pre_hook(lambda module, args: calls.append("before"))
    for _ in range(2):
        calls.clear()
        model.zero_grad()
        loss_of(nn.Sequential(*list(model)[:1]), images()).backward()
        assert calls == ["before", "forward", "backward"]
        remove_tract(model)
    assert not model.eval()[0].training
    apply_tract(model).train()
    assert remove_tract(model)[0].training


def test_a_layer_under_two_names_is_replaced_under_both():
    model = nn.ModuleDict({"first": filled(linear(4, 3))})
    model["again"] = model["first"]
    apply_tract(model, "again")
    assert isinstance(model["first"], TrAct)
    assert model["first"] is model["again"]
    remove_tract(model)
    assert isinstance(model["first"], nn.Linear)
    assert model["first"] is model["again"]


def test_a_layer_alone_is_wrapped_and_given_back():
    layer = filled(linear(4, 3))
    wrapped = apply_tract(layer, lam=0.2)
    assert isinstance(wrapped, TrAct)
    assert remove_tract(wrapped) is layer
    assert "lam=0.2" in repr(wrapped)
    assert "in_features=4" in repr(wrapped)


def test_auto_takes_the_first_layer_that_learns():
    model = nn.Sequential(nn.Flatten(), filled(linear(4, 3)), filled(linear(3, 3)))
    model[1].weight.requires_grad_(False)
    assert isinstance(apply_tract(model)[2], TrAct)
    assert isinstance(apply_tract(remove_tract(model), "1")[1], TrAct)


def test_parameter_groups():
    model = apply_tract(network())
    first, rest = first_layer_group(model, lr=0.5, weight_decay=0.0)
    assert first == {"params": [model[0].weight, model[0].bias], "lr": 0.5, "weight_decay": 0.0}
    assert rest == {"params": [model[4].weight, model[4].bias]}
    optimizer = torch.optim.SGD([first, rest], lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]


def test_parameter_groups_without_tract_are_those_with_it():
    plain = network()
    groups = first_layer_group(plain, lr=0.5)
    assert groups == first_layer_group(apply_tract(plain), lr=0.5)


# --- errors and warnings


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 0}, "lam must be positive and finite, got 0"),
        ({"lam": math.nan}, "lam must be positive and finite, got nan"),
        ({"solver": "fast"}, "solver must be auto, primal or dual, got 'fast'"),
        ({"reduce": "sum"}, "reduce must be local or global, got 'sum'"),
        ({"compute_dtype": torch.float16}, "compute_dtype must be float32, float64 or None, got torch.float16"),
        ({"reduce": "global", "solver": "dual"}, "solver must be auto or primal with reduce global, got 'dual'"),
        ({"first_layer": "stem"}, "first_layer must be auto or the name of a module, got 'stem'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        apply_tract(network(), **options)


class OwnForward(nn.Conv2d):
    def forward(self, x):
        return super().forward(2 * x)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: nn.ReLU(), "module must be a Linear, Conv1d, Conv2d or Conv3d, got ReLU"),
        (lambda: nn.utils.skip_init(nn.ConvTranspose2d, 3, 4, 3), "module must be a Linear, .*, got ConvTranspose2d"),
        (lambda: nn.utils.skip_init(OwnForward, 3, 4, 3), "with torch's own forward pass, got OwnForward"),
        (lambda: attention().out_proj, "called for its output, got the projection of an attention"),
        (lambda: nn.LazyConv2d(4, 3), "module must have its weights, got a LazyConv2d: call it once on an input first"),
    ],
)
def test_modules_that_cannot_be_treated_are_refused(module, message):
    with pytest.raises(TypeError, match=message):
        TrAct(module())


@pytest.mark.plain
def test_an_attention_that_comes_first_is_not_taken_for_a_layer():
    with pytest.raises(TypeError, match="got the projection of an attention"):
        apply_tract(nn.Sequential(attention(), filled(linear(4, 2))))


def test_a_setting_that_is_changed_later_is_the_layers():
    x = images(dtype=torch.float64)
    plain, model = network(torch.float64)[0], apply_tract(network(torch.float64))[0]
    for layer in (plain, model):
        layer.padding, layer.dilation = (2, 2), (2, 2)
    assert torch.equal(model(x), plain(x))
    model(x).square().mean().backward()
    plain.weight.grad = None
    loss_of(TrAct(plain), x).backward()
    assert torch.equal(model.weight.grad, plain.weight.grad)
    assert remove_tract(model).padding == (2, 2)


def test_no_images_have_a_gradient_of_zero():
    for solver in ("primal", "dual"):
        model = apply_tract(network(), solver=solver)
        model[0](images()[:0]).sum().backward()
        assert model[0].weight.grad is not None
        assert not model[0].weight.grad.any()


@pytest.mark.plain
def test_a_parametrization_that_came_later_has_to_go_first():
    model = apply_tract(network())
    parametrizations.weight_norm(model[0])
    with pytest.raises(RuntimeError, match="0: parametrizations that were registered after TrAct must be removed"):
        remove_tract(model)
    parametrize.remove_parametrizations(model[0], "weight")
    assert type(remove_tract(model)[0]) is nn.Conv2d
    assert torch.allclose(model(images()), network()(images()), atol=1e-6)


@pytest.mark.plain
def test_a_lazy_layer_that_was_called_is_an_ordinary_one():
    layer = nn.LazyConv2d(4, 3)
    with Streams(0).scope("init"):
        layer(images())
    assert TrAct(layer)(images()).shape == (6, 4, 6, 6)


@pytest.mark.plain
def test_what_has_tract_already_or_no_layer_for_it_is_refused():
    model = apply_tract(network())
    with pytest.raises(ValueError, match="model must not have TrAct already, got it in '0'"):
        apply_tract(model)
    with pytest.raises(ValueError, match="module must not have TrAct already"):
        TrAct(model[0])
    with pytest.raises(ValueError, match=r"model must have a Linear, .* with a trainable weight, got none"):
        apply_tract(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match=r"model must have a Linear, .* with a trainable weight, got none"):
        first_layer_group(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="reduce must be local for a weight that is computed by a parametrization"):
        TrAct(parametrizations.weight_norm(filled(linear(3, 2))), reduce="global")


@pytest.mark.plain
def test_inputs_of_the_wrong_kind_are_named():
    model = apply_tract(network())
    with pytest.raises(TypeError, match=r"inputs must be of floating point, got torch\.uint8"):
        model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"0: inputs must have 3 channels in dimension -3, got \(2, 1, 8, 8\)"):
        model(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"Linear: inputs must have 4 channels in dimension -1, got \(2, 3\)"):
        TrAct(filled(linear(4, 2)))(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match=r"^0: .* must be finite, got a norm of nan"):
        loss_of(model, images() * math.nan).backward()


@pytest.mark.plain
def test_there_is_no_second_derivative():
    model = apply_tract(network())
    (gradient,) = torch.autograd.grad(loss_of(model, images()), model[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_layer_that_is_not_the_first_is_warned_of_once():
    model = nn.Sequential(filled(linear(4, 4)), filled(linear(4, 2)))
    apply_tract(model, "1")
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 3
    with pytest.warns(UserWarning, match="1 must be the first layer with trainable weights"):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    apply_tract(remove_tract(model), "1")
    with warnings.catch_warnings():  # behind frozen layers it is the first
        warnings.simplefilter("error")
        model(x)


@pytest.mark.parametrize(("factor", "shift"), [(1, 2.0), (100, 0), (0.1, 0)])
def test_inputs_that_are_not_standardised_are_warned_of_once(factor, shift):
    model = apply_tract(network())
    x = factor * images() + shift
    with pytest.warns(UserWarning, match="0: inputs should have mean 0 and standard deviation 1"):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)


def test_standardised_inputs_are_looked_at_once_and_in_training_only(monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(TrAct, "_look_at", lambda self, x: next(looks))
    model = apply_tract(network())
    with torch.no_grad():
        model(images())
    assert next(looks) == 0
    for _ in range(3):
        model(images())
    assert next(looks) == 2
