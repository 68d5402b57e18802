"""Two processes, gloo, each with its own points and draws: gradients are the mean of both, on both."""

import json

import pytest

PROGRAM = """
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from aleator.gradients import SDGD, WithDerivatives, residual_loss
from aleator.random import Streams
from tests.gradients.dimensions.small_nets import build, mlp

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if processes > 1:
    dist.init_process_group("gloo")
# No factor in front of the network: its last bias is in no derivative, and DDP waits for it all the same.
module = WithDerivatives(build(lambda: mlp(nn.Tanh())), time=True)
net = DistributedDataParallel(module) if processes > 1 else module
estimator = SDGD(2)

def loss_of(share):
    generator = torch.Generator().manual_seed(share)
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    j, k = (estimator.draw(x, generator, dim=4) for _ in range(2))
    with torch.no_grad():
        weight = net(x, k)
    found = net(x, j)
    return residual_loss(found.lap + found.u_t, weight.lap + weight.u_t)

if processes > 1:
    loss_of(rank).backward()
else:
    (sum(loss_of(share) for share in range(2)) / 2).backward()
print(json.dumps([p.grad.flatten().tolist() for p in module.parameters()]))
if processes > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_processes_with_their_own_draws_have_the_mean_gradient(processes, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (alone,) = processes(program, 1)
    expected = [pytest.approx(row, rel=1e-12, abs=1e-15) for row in json.loads(alone)]
    assert any(any(row) for row in json.loads(alone))
    for said in processes(program, 2):
        assert json.loads(said) == expected
