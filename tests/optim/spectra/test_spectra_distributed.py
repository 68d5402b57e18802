"""Two processes, gloo: sharded over two, or shared out between two, the steps are the same as in one process."""

import pytest
import torch

PROGRAM = """
import os
import sys
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, init_device_mesh
from torch.distributed.tensor.debug import CommDebugMode
from aleator.optim import ClipSchedule, Spectra, SpectraAdamW, SpectraAdEMAMix, SpectraMARS, SpectraSignum

KINDS = (SpectraAdamW, SpectraSignum, SpectraAdEMAMix, SpectraMARS)
FULL = StateDictOptions(full_state_dict=True)


class Net(torch.nn.Module):
    # Over two processes: 5 rows are uneven, 1 row leaves the second process nothing.
    def __init__(self):
        super().__init__()
        shapes = [(5, 3), (5, 3), (5, 3), (1, 4), (3, 2, 4), (6, 4), (2, 7), (3,), ()]
        for i, shape in enumerate(shapes[: len(shapes) - SCALARS]):
            values = torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            setattr(self, f"p{i}", torch.nn.Parameter(values))


def gradients(net, step):
    for i, p in enumerate(net.parameters()):
        g = torch.Generator().manual_seed(100 * step + i)
        slope = torch.randn(p.shape, generator=g, dtype=torch.float64)
        if isinstance(p, DTensor):
            slope = dist.tensor.distribute_tensor(slope, p.device_mesh, p.placements)
        p.grad = slope + 0.2 * p.detach()


def make(kind, net, **options):
    return kind(net.parameters(), lr=0.05, clip=0.4, clip_schedule=ClipSchedule(3), **options)


def train(net, optimizer, begin, end):
    # Returns how many collectives the last step makes; counting takes longer than a step.
    for step in range(begin, end - 1):
        gradients(net, step)
        optimizer.step()
    gradients(net, end - 1)
    with CommDebugMode() as collectives:
        optimizer.step()
    return collectives.get_total_counts()


def whole(net):
    return [p.detach().full_tensor() if isinstance(p, DTensor) else p.detach().clone() for p in net.parameters()]


SCALARS = 0
path, world = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo")
assert dist.get_world_size() == world
mesh = init_device_mesh("cpu", (world,))
work = 0
clipping = sys.modules["aleator.optim.spectra.soft_clip"]
clip = clipping.soft_spectral_clip
def counted(stack, *args, **kwargs):
    global work
    work += len(stack)
    return clip(stack, *args, **kwargs)
clipping.soft_spectral_clip = counted

results = {}
for kind in KINDS:
    net = Net()
    count = train(net, make(kind, net, process_group=dist.group.WORLD), 0, 6)
    results[f"collectives of shared {kind.__name__}"] = count
    results[f"shared {kind.__name__}"] = whole(net)
results["work"] = [None] * world
dist.all_gather_object(results["work"], work)

SCALARS = 1  # fully_shard takes no scalars
for kind in KINDS:
    net = Net()
    fully_shard(net, mesh=mesh)
    optimizer = make(kind, net)
    results[f"collectives of sharded {kind.__name__}"] = train(net, optimizer, 0, 6)
    results[f"sharded {kind.__name__}"] = whole(net)
    if world == 2:
        assert [len(p.to_local()) for p in (net.p0, net.p3)] == ([3, 1] if dist.get_rank() == 0 else [2, 0])

net = Net()
fully_shard(net, mesh=mesh, shard_placement_fn=lambda p: Shard(1) if p.shape == (6, 4) else None)
results["collectives of sharded by columns"] = train(net, make(SpectraAdamW, net), 0, 6)
results["sharded by columns"] = whole(net)

net = Net()
fully_shard(net, mesh=mesh)
base = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1, foreach=False)
train(net, Spectra(base, 0.4, clip_schedule=ClipSchedule(3)), 0, 6)
results["sharded Spectra"] = whole(net)

# Saved by two, resumed by two and, below, by one that shards nothing.
saved, weights = {}, {}
for kind in KINDS:
    net = Net()
    fully_shard(net, mesh=mesh)
    optimizer = make(kind, net)
    train(net, optimizer, 0, 2)
    saved[kind.__name__] = get_optimizer_state_dict(net, optimizer, options=FULL)
    weights[kind.__name__] = whole(net)
    again = Net()
    fully_shard(again, mesh=mesh)
    for p, value in zip(again.parameters(), weights[kind.__name__]):
        p.data.copy_(dist.tensor.distribute_tensor(value, p.device_mesh, p.placements))
    later = make(kind, again)
    set_optimizer_state_dict(again, later, saved[kind.__name__], options=FULL)
    train(again, later, 2, 6)
    results[f"resumed by two {kind.__name__}"] = whole(again)
other = path.replace("1.pt", "2.pt")
if world == 1 and os.path.exists(other):
    half = torch.load(other, weights_only=True)
    for kind in KINDS:
        one = Net()
        for p, value in zip(one.parameters(), half["weights"][kind.__name__], strict=True):
            p.data.copy_(value)
        optimizer = make(kind, one)
        set_optimizer_state_dict(one, optimizer, half["state"][kind.__name__], options=FULL)
        train(one, optimizer, 2, 6)
        results[f"resumed by one {kind.__name__}"] = whole(one)
if dist.get_rank() == 0:
    torch.save({"results": results, "state": saved, "weights": weights}, path)
dist.barrier()  # one that leaves while the other still sends may abort
dist.destroy_process_group()
"""


def launched(processes, folder, count):
    program, out = folder / "program.py", folder / f"{count}.pt"
    program.write_text(PROGRAM)
    processes(program, count, out, count)
    return torch.load(out, weights_only=True)


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, processes):
    two, one = (launched(processes, tmp_path, count)["results"] for count in (2, 1))
    for name in ("SpectraAdamW", "SpectraSignum", "SpectraAdEMAMix", "SpectraMARS"):
        assert_equal(two[f"shared {name}"], one[f"shared {name}"])
        assert_equal(two[f"sharded {name}"], one[f"sharded {name}"])
        assert_equal(one[f"sharded {name}"], one[f"shared {name}"][:-1])
        assert two[f"collectives of shared {name}"] == 1
        assert two[f"collectives of sharded {name}"] == (3 if name == "SpectraMARS" else 2)
        assert_equal(two[f"resumed by two {name}"], one[f"sharded {name}"])
        assert_equal(one[f"resumed by one {name}"], one[f"sharded {name}"])
    assert_equal(two["sharded Spectra"], one["sharded SpectraAdamW"])
    assert_equal(two["sharded by columns"], one["sharded SpectraAdamW"])
    assert two["collectives of sharded by columns"] == 3
    # Four optimizers, six steps. Of 9 matrices, of which three have shapes of their own, one process clips 5.
    assert (one["work"], two["work"]) == ([4 * 6 * 9], [4 * 6 * 5, 4 * 6 * 4])
