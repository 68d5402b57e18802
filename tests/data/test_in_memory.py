"""The in-memory loader yields the rows it is asked for, whatever form the indices come in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler

from aleator.data.in_memory import InMemoryLoader

ROWS = 20
INPUTS = torch.arange(ROWS * 6, dtype=torch.uint8).reshape(ROWS, 1, 2, 3)
TARGETS = torch.arange(ROWS)


@given(st.lists(st.lists(st.integers(0, ROWS - 1), max_size=7), max_size=5))
def test_batches_are_the_indexed_rows(batches):
    loader = InMemoryLoader((INPUTS, TARGETS), [torch.tensor(batch, dtype=torch.int64) for batch in batches])
    assert len(loader) == len(batches)
    seen = list(loader)
    assert len(seen) == len(batches)
    for batch, (inputs, targets) in zip(batches, seen, strict=True):
        assert targets.tolist() == batch
        assert torch.equal(inputs, INPUTS[batch])


def test_every_pass_iterates_the_batches_anew():
    loader = InMemoryLoader((TARGETS,), BatchSampler(SequentialSampler(range(ROWS)), 8, drop_last=False))
    passes = [[batch.tolist() for (batch,) in loader] for _ in range(2)]
    assert passes[0] == passes[1] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_batch_is_a_copy():
    tensor = torch.zeros(4)
    (batch,) = next(iter(InMemoryLoader((tensor,), [torch.arange(4)])))
    batch += 1
    assert tensor.sum() == 0


def test_transform_gets_the_tensors_and_its_result_is_yielded():
    loader = InMemoryLoader((INPUTS, TARGETS), [torch.tensor([3, 1])], transform=lambda x, y: (x.float() / 2, -y))
    ((inputs, targets),) = loader
    assert torch.equal(inputs, INPUTS[[3, 1]] / 2)
    assert targets.tolist() == [-3, -1]


def test_batches_are_drawn_one_at_a_time():
    drawn = []

    def batches():
        for index in range(3):
            drawn.append(index)
            yield torch.tensor([index])

    iterator = iter(InMemoryLoader((TARGETS,), batches()))
    next(iterator)
    assert drawn == [0]


def test_length_of_a_generator_is_not_known():
    with pytest.raises(TypeError, match=r"generator has no len\(\)"):
        len(InMemoryLoader((TARGETS,), (batch for batch in ())))


def test_index_out_of_range_is_an_error():
    with pytest.raises(IndexError, match="out of range"):
        next(iter(InMemoryLoader((TARGETS,), [torch.tensor([ROWS])])))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ((), "at least one tensor, got none"),
        ((torch.zeros(3), torch.zeros(4)), r"the same first dimension, got \[3, 4\]"),
        ((torch.tensor(1.0),), "got a 0-d tensor"),
        ((torch.zeros(3), torch.zeros(3, device="meta")), "on one device, got cpu, meta"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(tensors, reason):
    with pytest.raises(ValueError, match=reason):
        InMemoryLoader(tensors, [])


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_batches_come_from_the_tensors_device(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    tensors = (INPUTS.to(device), TARGETS.to(device))
    for inputs, targets in InMemoryLoader(tensors, TARGETS.split(8)):
        assert inputs.device.type == targets.device.type == device
        assert inputs.shape[1:] == INPUTS.shape[1:]


@pytest.mark.plain
def test_one_tensor_and_single_indices_are_refused():
    with pytest.raises(ValueError, match=r"got one of shape \(4,\); write \(x,\)"):
        InMemoryLoader(torch.arange(4), [torch.tensor([0])])
    with pytest.raises(ValueError, match=r"pass sampler\.batches\(batch_size\)"):
        list(InMemoryLoader((torch.arange(4),), [0, 1]))
