"""One of two processes: a sharded model takes the steps of a whole one; see `tests/gradients/test_sharded.py`."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from aleator.gradients import apply_scalars_, log8_decode, log8_encode, spsa

dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2,))
generator = torch.Generator().manual_seed(0)
whole = {
    "a": torch.randn(7, 5, generator=generator),
    "b": torch.randn(6, 9, generator=generator),
    "c": torch.arange(3.0),
}
places = {"a": Shard(0), "b": Shard(1), "c": Replicate()}
shared = {name: distribute_tensor(tensor.clone(), mesh, [places[name]]) for name, tensor in whole.items()}


def loss(theta):
    """The sum of squares, of shards by a sum over the processes."""
    total = torch.zeros((), dtype=torch.float64)
    for name, tensor in theta.items():
        if isinstance(tensor, DTensor):
            part = tensor.to_local().double().square().sum()
            if places[name] != Replicate():
                dist.all_reduce(part)
            total += part
        else:
            total += tensor.double().square().sum()
    return total


first = float(loss(whole))
for number in range(50):
    key = (1, number, 0, 0)
    slopes = [float(spsa(loss, theta, None, 1e-3, key=key)) for theta in (whole, shared)]
    code = log8_encode(slopes[0])
    assert abs(slopes[0] - slopes[1]) < 1e-6 * max(1.0, abs(slopes[0])), slopes
    for theta in (whole, shared):
        apply_scalars_(theta, [log8_decode(code)], None, 1e-3, keys=[key], weight_decay=0.1)

equal = all(torch.equal(shared[name].full_tensor(), whole[name]) for name in whole)
try:
    partial = {"a": DTensor.from_local(torch.zeros(2), mesh, [Partial()])}
    apply_scalars_(partial, [1.0], None, 1.0, keys=[(0, 0, 0, 0)])
    refused = "no"
except ValueError as error:
    refused = str(error).partition(", got")[0]
sys.stdout.write(f"{equal} {float(loss(whole)) < first} {refused}\n")
dist.destroy_process_group()
