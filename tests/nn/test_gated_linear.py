import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.nn import gated_linear


def problem(batch=12, inputs=5, blocks=4, block=16, share=0.3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, inputs, generator=g, dtype=dtype, requires_grad=True)
    weight = torch.randn(blocks * block, inputs, generator=g, dtype=dtype, requires_grad=True)
    bias = torch.randn(blocks * block, generator=g, dtype=dtype, requires_grad=True)
    gates = torch.rand(batch, blocks, generator=g, dtype=dtype)
    gates = ((torch.rand(batch, blocks, generator=g) < share) * gates).requires_grad_()
    return x, weight, bias, gates


def outputs_and_gradients(tensors, **options):
    y = gated_linear(*tensors, **options)
    wanted = [t for t in tensors if t is not None]
    return y, torch.autograd.grad((y * torch.arange(y.numel()).view_as(y).cos()).sum(), wanted)


def reference(x, weight, bias, gates):
    """Row by row, unit by unit."""
    y = torch.zeros(len(x), len(weight), dtype=x.dtype)
    block = len(weight) // gates.shape[1]
    for n in range(len(x)):
        for j in range(len(weight)):
            y[n, j] = gates[n, j // block] * ((x[n] * weight[j]).sum() + bias[j])
    return y


@pytest.mark.parametrize("skip", [True, False])
def test_outputs_are_those_of_the_formula(skip):
    tensors = problem()
    torch.testing.assert_close(gated_linear(*tensors, skip=skip), reference(*tensors))


@given(
    batch=st.integers(1, 20),
    blocks=st.integers(1, 5),
    block=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_skipping_changes_no_output_and_no_gradient(batch, blocks, block, share, seed):
    tensors = problem(batch, 5, blocks, block, share, seed)
    (skipped, gradients), (dense, expected) = (outputs_and_gradients(tensors, skip=skip) for skip in (True, False))
    torch.testing.assert_close(skipped, dense)
    torch.testing.assert_close(gradients, expected)


def test_gates_that_pass_no_gradient_when_shut_get_none():
    tensors = problem()
    _, gradients = outputs_and_gradients(tensors, skip=True, gradient_when_off=False)
    _, expected = outputs_and_gradients(tensors, skip=False)
    torch.testing.assert_close(gradients[:3], expected[:3])
    shut = tensors[3] == 0
    assert torch.any(expected[3][shut] != 0)
    torch.testing.assert_close(gradients[3], expected[3] * ~shut)


def test_skipping_works_without_bias_and_without_gradients_of_the_input():
    x, weight, _, gates = problem()
    torch.testing.assert_close(*(gated_linear(x, weight, None, gates, skip=skip) for skip in (True, False)))
    with torch.no_grad():
        assert torch.equal(gated_linear(x, weight, None, torch.zeros_like(gates)), torch.zeros(12, 64).double())
    y = gated_linear(x.detach(), weight, None, gates.detach(), skip=True)
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    dense = gated_linear(x.detach(), weight, None, gates.detach(), skip=False)
    torch.testing.assert_close(gradient, torch.autograd.grad(dense.sum(), weight)[0])


def products(monkeypatch, **options):
    """How many multiplications of the large products a pass forwards and backwards makes."""
    made = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **rest: (made.append(a.numel() * b.shape[1]), real(a, b, **rest))[1])
    outputs_and_gradients(problem(64, 32, 8, 16, **options), gradient_when_off=False)
    return sum(made)


def test_blocks_that_nobody_needs_are_not_computed(monkeypatch):
    everything = 64 * 32 * 8 * 16
    made = products(monkeypatch, share=0.1)
    # The products forwards and for the weights; those for the inputs are made with the operator.
    assert 0 < made < 2 * 0.15 * everything
    # Most gates open: it is left to one dense product.
    assert products(monkeypatch, share=0.9) == 0


def test_thin_blocks_are_multiplied(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "mm", lambda *tensors, **rest: made.append(tensors))
    outputs_and_gradients(problem(block=8, share=0.1))
    assert not made


@pytest.mark.parametrize("skip", [True, False])
def test_autocast_computes_in_half_precision_and_keeps_gradients_whole(skip):
    x, weight, bias, gates = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = gated_linear(x, weight, bias, gates, skip=skip)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), gated_linear(x, weight, bias, gates), rtol=0.05, atol=0.05)
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(y.float().sum(), [x, weight, bias, gates]))


@pytest.mark.plain
def test_gates_that_do_not_divide_the_outputs_are_refused():
    x, weight, bias, _ = problem()
    for blocks in (0, 3):
        with pytest.raises(ValueError, match=f"gates must be as many as a divisor of the 64 outputs, got {blocks}"):
            gated_linear(x, weight, bias, torch.ones(12, blocks))
