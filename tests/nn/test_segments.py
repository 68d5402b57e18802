"""Pooling and upsampling against the dense double-precision formulas, closed forms and edge cases."""

import pytest
import torch

from aleator.nn import segment_broadcast, segment_mean, within_capacity
from aleator.nn.segments import most_segments
from benchmarks.dense_pooling import dense_pool, dense_upsample


def case(seed, batch=3, length=17, channels=5, rate=0.3):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, length, channels, generator=generator, dtype=torch.float64)
    boundaries = (torch.rand(batch, length, generator=generator) < rate).double()
    boundaries[:, 0] = torch.tensor([1.0, 0.0, 0.0])[:batch]
    return hidden.requires_grad_(), boundaries.requires_grad_(), generator


def read_slots(boundaries, slots):
    """Where slots belong to closed segments: only those are ever read."""
    return (torch.arange(slots) < boundaries.detach().sum(1, keepdim=True)).unsqueeze(-1)


@pytest.mark.parametrize("seed", range(8))
def test_means_and_their_gradients_equal_the_dense_formulas(seed):
    hidden, boundaries, generator = case(seed, rate=(0.1, 0.3, 0.8, 1.0)[seed % 4])
    dense = dense_pool(hidden, boundaries)
    weight = torch.randn(dense.shape, generator=generator, dtype=torch.float64) * read_slots(boundaries, dense.shape[1])
    expected = torch.autograd.grad((dense * weight).sum(), (hidden, boundaries))
    ours = segment_mean(hidden, boundaries, num_segments=dense.shape[1])
    found = torch.autograd.grad((ours * weight).sum(), (hidden, boundaries))
    assert ((ours - dense) * read_slots(boundaries, dense.shape[1])).abs().max() < 1e-10
    assert not (ours * ~read_slots(boundaries, dense.shape[1])).any()
    assert (found[0] - expected[0]).abs().max() < 1e-10
    assert (found[1] - expected[1]).abs().max() < 1e-10


@pytest.mark.parametrize("seed", range(4))
def test_upsampling_equals_the_dense_formula_but_for_a_boundary_gradient_of_1e_9(seed):
    _, boundaries, generator = case(seed)
    slots = 1 + int(boundaries.sum(1).max())
    shortened = torch.randn(3, slots, 5, generator=generator, dtype=torch.float64).requires_grad_()
    dense, ours = dense_upsample(shortened, boundaries), segment_broadcast(shortened, boundaries)
    weight = torch.randn(dense.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad((dense * weight).sum(), (shortened, boundaries))
    (found,) = torch.autograd.grad((ours * weight).sum(), shortened)
    # The dense form divides by 1 + 1e-9.
    assert (ours * (1 / (1 + 1e-9)) - dense).abs().max() < 1e-10
    assert (found * (1 / (1 + 1e-9)) - expected[0]).abs().max() < 1e-10
    assert 0 < expected[1].abs().max() < 1e-6


def test_gradient_of_hidden_states_is_that_of_finite_differences():
    hidden, boundaries, generator = case(1, batch=2, length=7, channels=3)
    null = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    fixed = boundaries.detach()
    assert torch.autograd.gradcheck(lambda h, n: segment_mean(h, fixed, n), (hidden, null))
    shortened = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: segment_broadcast(s, fixed), (shortened,))


def test_gradient_of_a_boundary_is_the_sum_of_what_follows_it_in_closed_segments():
    # One row, one channel: segments {1, 3} and {5}, then an unfinished 100.
    hidden = torch.tensor([[[1.0], [3.0], [5.0], [100.0]]])
    boundaries = torch.tensor([[0.0, 1.0, 1.0, 0.0]], requires_grad=True)
    (segment_mean(hidden, boundaries)[0, :2, 0] @ torch.tensor([10.0, 7.0])).backward()
    # δ = 10·(1 − 2)/2, 10·(3 − 2)/2, 7·(5 − 5), 0
    torch.testing.assert_close(boundaries.grad, torch.tensor([[5.0, 0.0, 0.0, 0.0]]))


def test_a_boundary_everywhere_gives_every_token_its_own_segment():
    hidden, _, _ = case(2)
    everywhere = torch.ones(3, 17, dtype=torch.float64)
    null = torch.zeros(5, dtype=torch.float64)
    torch.testing.assert_close(segment_mean(hidden, everywhere), hidden.detach(), atol=1e-8, rtol=0)
    spread = segment_broadcast(segment_mean(hidden, everywhere, null), everywhere)
    torch.testing.assert_close(spread, hidden.detach(), atol=1e-8, rtol=0)


def test_without_a_boundary_every_token_reads_the_null_vector():
    hidden, _, _ = case(3)
    nowhere = torch.zeros(3, 17, dtype=torch.float64)
    null = torch.arange(5.0, dtype=torch.float64)
    for slots in (None, 0, 4):
        pooled = segment_mean(hidden, nowhere, null, num_segments=slots)
        assert not pooled[:, 1:].any()
        assert torch.equal(segment_broadcast(pooled, nowhere), null.expand(3, 17, 5))


def test_a_boundary_at_the_last_position_is_read_there_alone():
    hidden = torch.arange(4.0).view(1, 4, 1)
    boundaries = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    spread = segment_broadcast(segment_mean(hidden, boundaries, torch.full((1,), -1.0)), boundaries)
    assert spread.flatten().tolist() == [-1.0, -1.0, -1.0, 1.5]


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (1, 1), (2, 1), (1, 3)])
def test_small_and_empty_batches_work_forwards_and_backwards(batch, length):
    hidden = torch.ones(batch, length, 2, requires_grad=True)
    boundaries = torch.ones(batch, length, requires_grad=True)
    null = torch.zeros(2, requires_grad=True)
    spread = segment_broadcast(segment_mean(hidden, boundaries, null), boundaries)
    assert spread.shape == hidden.shape
    spread.sum().backward()
    torch.testing.assert_close(hidden.grad, torch.ones(batch, length, 2))


def test_boundaries_beyond_the_slots_are_ignored():
    hidden, boundaries, generator = case(5, rate=0.6)
    slots = 3
    first = boundaries.detach() * (boundaries.detach().cumsum(1) <= slots)
    assert (first.sum(1) < boundaries.detach().sum(1)).any()
    weight = torch.randn(3, 17, 5, generator=generator, dtype=torch.float64)
    results = []
    for b in (boundaries, first.requires_grad_()):
        out = segment_broadcast(segment_mean(hidden, b, hidden.new_zeros(5), num_segments=slots), b)
        results.append((out, *torch.autograd.grad((out * weight).sum(), (hidden, b))))
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)


def test_more_slots_than_needed_change_nothing_that_is_read():
    hidden, boundaries, _ = case(6)
    most = int(boundaries.sum(1).max())
    tight, wide = (segment_mean(hidden, boundaries, num_segments=n) for n in (most, None))
    assert wide.shape[1] == 17
    assert torch.equal(wide[:, :most], tight)


def test_segments_of_a_long_row_are_told_apart_in_bfloat16():
    # 2048 segments of two tokens: bfloat16 cannot count beyond 256.
    boundaries = torch.tensor([0.0, 1.0]).repeat(2048).view(1, 4096)
    values = torch.arange(2048.0) % 128  # exact in bfloat16
    hidden = values.repeat_interleave(2).view(1, 4096, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = segment_mean(hidden, boundaries, torch.zeros(1))
        spread = segment_broadcast(pooled, boundaries)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled[0, 1:2049, 0].float(), values)
    assert torch.equal(spread[0, 1::2, 0].float(), values)


def test_sums_of_long_segments_are_taken_in_float32():
    hidden = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    boundaries = torch.zeros(1, 4096)
    boundaries[0, -1] = 1
    assert float(segment_mean(hidden, boundaries)[0, 0, 0]) == 1.0


@pytest.mark.plain
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_segments_compile_without_a_graph_break(backend):
    def both(hidden, boundaries, null):
        return segment_broadcast(segment_mean(hidden, boundaries, null), boundaries)

    hidden, boundaries, _ = case(7)
    null = torch.ones(5, dtype=torch.float64, requires_grad=True)
    inputs = (hidden, boundaries, null)
    torch._dynamo.reset()
    found = torch.compile(both, backend=backend, fullgraph=True)(*inputs)
    torch.testing.assert_close(found, both(*inputs))
    for ours, expected in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(both(*inputs).square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.plain
def test_bad_input_is_refused_with_its_value():
    hidden = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"boundaries must have shape \(2, 3\), got \(2, 4\)"):
        segment_mean(hidden, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"boundaries must be floating point, got torch\.bool"):
        segment_mean(hidden, torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="num_segments must not be negative, got -1"):
        segment_mean(hidden, torch.zeros(2, 3), num_segments=-1)
    with pytest.raises(ValueError, match="boundaries must have shape"):
        segment_broadcast(hidden, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="the null vector's slot"):
        segment_broadcast(hidden[:, :0], torch.zeros(2, 3))


@pytest.mark.parametrize("capacity", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_boundaries_within_the_capacity_are_those_that_find_room_one_after_the_other(capacity):
    boundaries = (torch.rand(20, 64, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    expected = torch.zeros_like(boundaries)
    for row in range(20):
        closed = 0
        for t in range(64):
            if boundaries[row, t] and closed < most_segments(capacity, t + 1):
                expected[row, t] = 1
                closed += 1
    assert torch.equal(within_capacity(boundaries, capacity), expected)
    assert most_segments(0.1, 30) == 3  # though 0.1 · 30 is above 3 in floating point
    if capacity == 1:
        assert torch.equal(expected, boundaries)


def test_boundaries_that_are_kept_keep_their_gradient_and_others_have_none():
    boundaries = torch.ones(1, 4, requires_grad=True)
    within_capacity(boundaries, 0.5).sum().backward()
    assert boundaries.grad.tolist() == [[1, 0, 1, 0]]
