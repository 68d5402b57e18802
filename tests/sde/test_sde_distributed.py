"""Samplers on two processes: replicas that stay equal, shards whose noise differs, state that goes with its shard."""

import pytest
import torch

PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from aleator.random import Streams
from aleator.sde import SGHMC, SGLD, PreconditionedSGLD

dist.init_process_group("gloo")
rank, streams, found = dist.get_rank(), Streams(0), {}


def model():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    fixed = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=fixed))
    return net


def whole(p):
    return (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()


def train(net, sampler):
    for k in range(5):
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(10 * k + rank))
        sampler.zero_grad()
        net(x).square().mean().backward()
        sampler.step()


for kind in (SGLD, PreconditionedSGLD, SGHMC):
    for temperature in (0.0, 1.0):
        options = dict(lr=1e-3, n_data=10, temperature=temperature)
        extra = dict(noise_correction=True) if kind is SGLD else {}
        net = DistributedDataParallel(model())
        train(net, kind(net.parameters(), **options, **extra, generator=streams.generator("ddp", kind.__name__)))
        found[f"ddp {kind.__name__} {temperature}"] = [whole(p) for p in net.parameters()]

        net = model()
        fully_shard(net)
        own = streams.generator("fsdp", kind.__name__, rank=rank)
        sampler = kind(net.parameters(), **options, **extra, generator=own)
        train(net, sampler)
        found[f"fsdp {kind.__name__} {temperature}"] = [whole(p) for p in net.parameters()]
        kept = [v for s in sampler.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        assert all(isinstance(v, DTensor) for v in kept), "state must be sharded as its parameter is"

flat = nn.Parameter(torch.zeros(1000))
holder = nn.ParameterList([flat])
fully_shard(holder)
sampler = SGLD(holder.parameters(), lr=0.5, n_data=1, generator=streams.generator("noise", rank=rank))
for p in holder.parameters():
    p.grad = torch.zeros_like(p)
sampler.step()
found["noise"] = [whole(p) for p in holder.parameters()]
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory, processes) -> list[dict]:
    folder = tmp_path_factory.mktemp("samplers")
    (folder / "program.py").write_text(PROGRAM)
    processes(folder / "program.py", 2, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_replicas_stay_equal(found) -> None:
    for name, tensors in found[0].items():
        for a, b in zip(tensors, found[1][name], strict=True):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("kind", ["SGLD", "PreconditionedSGLD", "SGHMC"])
def test_shards_take_the_same_cold_steps_as_replicas_and_other_noise(found, kind: str) -> None:
    for temperature, same in ((0.0, True), (1.0, False)):
        for a, b in zip(found[0][f"ddp {kind} {temperature}"], found[0][f"fsdp {kind} {temperature}"], strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6) == same


def test_noise_of_two_shards_is_not_the_same_noise(found) -> None:
    (noise,) = found[0]["noise"]
    first, second = noise.chunk(2)
    assert float(torch.corrcoef(torch.stack([first, second]))[0, 1]) == pytest.approx(0, abs=0.25)  # 5 / √500
    assert float(noise.std()) == pytest.approx(1.0, abs=0.12)
