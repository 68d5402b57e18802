"""The update of two processes is that of one with all their groups."""

import pytest
import torch

from aleator.video import DualRewardGRPO
from tests.video.flows import Flow, first, gradients, rolled

PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[2])
from aleator.video import DualRewardGRPO
from tests.video.flows import Flow, first, rolled

dist.init_process_group("gloo")
rank, found = dist.get_rank(), {}
for std in ("group", "batch"):
    for wrapped in ("ddp", "fsdp"):
        flow = Flow()
        path = rolled(flow, groups=1, seed=rank)
        net = DistributedDataParallel(flow) if wrapped == "ddp" else fully_shard(flow)
        objective = DualRewardGRPO(group_size=4, std=std)
        (update,) = objective.updates(net, path, first(path.x0_pred, None), count=1)
        update.backward(net)
        whole = [p.grad.full_tensor() if wrapped == "fsdp" else p.grad for p in flow.parameters()]
        found[f"{std} {wrapped}"] = torch.cat([gradient.reshape(-1) for gradient in whole])
try:
    path = rolled(Flow(), groups=1 + rank)
    DualRewardGRPO(group_size=4).updates(Flow(), path, first(path.x0_pred, None))
except ValueError as error:
    print(error)
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
"""


def test_two_processes_make_the_update_of_one_and_refuse_to_differ(tmp_path, processes, request):
    (tmp_path / "program.py").write_text(PROGRAM)
    said = processes(tmp_path / "program.py", 2, tmp_path, request.config.rootpath)
    assert all("processes must have equally many samples and trained steps, got" in each for each in said)
    paths = [rolled(Flow(), groups=1, seed=rank) for rank in range(2)]
    for std in ("group", "batch"):
        flow, objective = Flow(), DualRewardGRPO(group_size=4, std=std)
        # Of one process with both groups: the rewards compared together, the losses of both averaged.
        r = torch.cat([first(path.x0_pred, None)["first"] for path in paths])
        whole = joined(paths)
        (update,) = objective.updates(flow, whole, {"first": r}, count=1)
        update.backward(flow)
        for rank in range(2):
            found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
            for wrapped in ("ddp", "fsdp"):
                assert found[f"{std} {wrapped}"] == pytest.approx(gradients(flow), rel=1e-4, abs=1e-6)


def joined(paths):
    """Trajectories of one grid as one."""
    import dataclasses

    def together(name):
        return tuple(torch.cat(each) for each in zip(*(getattr(path, name) for path in paths), strict=True))

    return dataclasses.replace(
        paths[0],
        **{name: together(name) for name in ("states", "shifts", "targets")},
        **{
            name: torch.cat([getattr(p, name) for p in paths])
            for name in ("log_probs", "process_rewards", "x0_pred", "cond")
        },
    )
