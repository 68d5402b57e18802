"""Two processes, gloo: sharded tensors, unevenly and emptily, take the steps of whole ones."""

import json
from pathlib import Path

import pytest
import torch

from aleator.optim import LAMB, LARS

MAKERS = {
    "lamb": "LAMB(without_decay(named), lr=0.05, adapt='decayed')",
    "lamb-clipped": "LAMB(named, lr=0.05, max_grad_norm=0.5, eps=1e-2, adapt=lambda name, w: w.ndim > 1)",
    "lamb-one-by-one": "LAMB(named, lr=0.05, phi=(0.5, 1.5), foreach=False, adapt=lambda name, w: w.ndim > 1)",
    "lars": "LARS(named, lr=0.05, trust_coefficient=1.0, weight_decay=0.1, adapt=lambda name, w: w.ndim > 1)",
    "adagrad-norm": "AdaGradNorm(named, lr=0.5, weight_decay=0.01)",
    "algorithm1": "LARS(named, lr=0.05, form='algorithm1', adapt=lambda name, w: w.ndim > 1)",
}

# Of the seven rows of the first layer one process has four and the other three; of the single row of the last layer,
# one has none. The bias of the last layer has one element: there, too, one process has nothing.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_model_state_dict, get_optimizer_state_dict, set_model_state_dict, set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from aleator.optim import LAMB, LARS, AdaGradNorm, without_decay

out, makers = Path(sys.argv[1]), json.loads(sys.argv[2])
processes = int(os.environ.get("WORLD_SIZE", 1))
if processes > 1:
    dist.init_process_group("gloo")

reductions = 0
if processes > 1:
    reduce = dist.all_reduce
    def counted(*args, **kwargs):
        global reductions
        reductions += 1
        return reduce(*args, **kwargs)
    torch.distributed.all_reduce = counted

def model(sharded):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    if sharded:
        fully_shard(net)
    return net

def steps(net, optimizer, first, last):
    global reductions
    counts = []
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        before = reductions
        optimizer.step()
        counts.append(reductions - before)
    return counts

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
found = {}
for name, maker in makers.items():
    sharded = processes > 1
    net = model(sharded)
    named = list(net.named_parameters())
    optimizer = eval(maker)
    counts = steps(net, optimizer, 0, 5)
    if sharded:
        sizes = [p.to_local().numel() for p in net.parameters()]
        saved = {"model": get_model_state_dict(net, options=FULL),
                 "optimizer": get_optimizer_state_dict(net, optimizer, options=FULL)}
    else:
        sizes = [p.numel() for p in net.parameters()]
        saved = {"model": net.state_dict(), "optimizer": get_optimizer_state_dict(net, optimizer, options=FULL)}
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save(saved, out / f"{name}-{processes}-half.pt")
    steps(net, optimizer, 5, 10)
    whole = get_model_state_dict(net, options=FULL) if sharded else net.state_dict()
    ratios = {} if maker.startswith('Ada') else {key: float(r) for key, r in optimizer.trust_ratios().items()}
    found[name] = {"reductions": counts, "sizes": sizes, "ratios": ratios}
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save(whole, out / f"{name}-{processes}.pt")
    other = out / f"{name}-{1 if sharded else 2}-half.pt"
    if other.exists():  # the first half was run by another number of processes
        net = model(sharded)
        named = list(net.named_parameters())
        optimizer = eval(maker)
        half = torch.load(other, weights_only=True)
        options = SPREAD if sharded else StateDictOptions(full_state_dict=True)
        set_model_state_dict(net, half["model"], options=options)
        set_optimizer_state_dict(net, optimizer, half["optimizer"], options=options)
        steps(net, optimizer, 5, 10)
        resumed = get_model_state_dict(net, options=FULL) if sharded else net.state_dict()
        if not dist.is_initialized() or dist.get_rank() == 0:
            torch.save(resumed, out / f"{name}-{processes}-resumed.pt")
if processes > 1:
    dist.barrier()  # one that leaves while the other still sends may abort
    dist.destroy_process_group()
rank = os.environ.get("RANK", "0")
(out / f"found-{processes}-{rank}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes) -> Path:
    """One process, two processes that also resume what one has saved, one process that resumes what two have saved."""
    tmp = tmp_path_factory.mktemp("sharded")
    program = tmp / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2, 1):
        processes(program, count, tmp, json.dumps(MAKERS))
    return tmp


def found(folder: Path, processes: int, rank: int = 0) -> dict:
    return json.loads((folder / f"found-{processes}-{rank}.json").read_text())


def difference(folder: Path, one: str, other: str) -> float:
    a, b = (torch.load(folder / f"{name}.pt", weights_only=True) for name in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def test_shards_are_uneven_and_one_is_empty(folder):
    first, second = (found(folder, 2, rank)["lamb"]["sizes"] for rank in (0, 1))
    assert first == [20, 4, 14, 2, 4, 1]
    assert second == [15, 3, 14, 2, 0, 0]


@pytest.mark.parametrize("name", MAKERS)
def test_sharded_steps_equal_those_of_one_process(folder, name):
    assert difference(folder, f"{name}-1", f"{name}-2") < 1e-12
    start = torch.load(folder / f"{name}-1-half.pt", weights_only=True)["model"]
    end = torch.load(folder / f"{name}-1.pt", weights_only=True)
    assert max(float((start[key] - end[key]).abs().max()) for key in end) > 1e-3


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "adagrad-norm"])
def test_trust_ratios_are_those_of_whole_tensors_on_every_process(folder, name):
    one = found(folder, 1)[name]["ratios"]
    assert any(ratio != 1 for ratio in one.values())
    for rank in (0, 1):
        assert found(folder, 2, rank)[name]["ratios"] == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_reduces_once_and_once_more_for_clipping(folder, name):
    assert set(found(folder, 2)[name]["reductions"]) == {2 if name == "lamb-clipped" else 1}


@pytest.mark.parametrize("name", MAKERS)
def test_runs_resume_under_another_number_of_processes(folder, name):
    for processes in (1, 2):
        assert difference(folder, f"{name}-1", f"{name}-{processes}-resumed") < 1e-12


def test_flat_parameters_of_fsdp1_are_refused():
    # FSDP1 does not start without an accelerator; these are the marks that it leaves.
    from torch.distributed.fsdp._common_utils import _set_fsdp_flattened
    from torch.distributed.fsdp._flat_param import FlatParameter

    flat, original = FlatParameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4))
    _set_fsdp_flattened(original)
    for parameter in (flat, original):
        with pytest.raises(RuntimeError, match=r"must be whole tensors, got a flat slice .* for 0\.0: .*fully_shard"):
            LAMB([parameter])


def test_mesh_dimensions_that_hold_copies_are_not_counted_twice():
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        for make in (lambda p: LAMB([p], lr=0.1), lambda p: LARS([p], lr=0.1, form="algorithm1")):
            weight = torch.arange(1.0, 7).view(2, 3)
            copied = DTensor.from_local(weight.clone(), mesh, [Replicate()]).requires_grad_()
            copied.grad = DTensor.from_local(torch.ones(2, 3), mesh, [Replicate()])
            plain = weight.clone().requires_grad_()
            plain.grad = torch.ones(2, 3)
            make(copied).step()
            make(plain).step()
            assert torch.equal(copied.to_local(), plain)
            assert not torch.equal(plain, weight)
    finally:
        torch.distributed.destroy_process_group()
