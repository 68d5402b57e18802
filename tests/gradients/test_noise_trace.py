"""Traces put together from parts: by two processes, and from gradients as they are accumulated."""

import json

import pytest
import torch
from torch import nn

from aleator.gradients import MicroBatchNorms, between_trace

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from aleator.gradients import MicroBatchNorms, pooled_trace

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if processes > 1:
    dist.init_process_group("gloo")
generator = torch.Generator().manual_seed(0)
x = torch.randn(24, 5, generator=generator, dtype=torch.float64)
found = {}
for parts in (2, 4, 6):  # over all processes
    model = nn.Linear(5, 1).double()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.3)
    norms, means, within = MicroBatchNorms(model.parameters()), [], []
    n = 24 // parts
    for part in x.split(n)[rank::processes]:
        losses = model(part).square().flatten()
        each = []
        for loss in losses:
            gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            each.append(torch.cat([g.flatten() for g in gradients]))
        each = torch.stack(each)
        means.append(each.mean(0))
        within.append(each.var(0).sum())
        (losses.mean() * n / 24).backward()
        norms.add(n, share=n / 24)
    means, within = torch.stack(means), torch.stack(within)
    whole = torch.cat([p.grad.flatten() for p in model.parameters()])
    if processes > 1:
        every = [[torch.zeros_like(t) for _ in range(processes)] for t in (means, within)]
        dist.all_gather(every[0], means)
        dist.all_gather(every[1], within)
        means, within = torch.cat(every[0]), torch.cat(every[1])
        dist.all_reduce(whole)
    stats = norms.take(float(whole @ whole), group=dist.group.WORLD if processes > 1 else None)
    found[parts] = [float(pooled_trace(means, within, n)), stats.trace, stats.mean_sq_norm, stats.n]
(Path(sys.argv[1]) / f"found-{processes}-{rank}.json").write_text(json.dumps(found))
if processes > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_processes_find_what_one_does_however_the_batch_is_cut(tmp_path, processes):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2):
        processes(program, count, tmp_path)
    one, *two = (json.loads((tmp_path / f"found-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert two[0] == two[1]
    for parts, numbers in one.items():
        assert two[0][parts] == pytest.approx(numbers, rel=1e-12)
        assert numbers[0] == pytest.approx(one["2"][0], rel=1e-12)  # pooled: the same for every cut
        assert numbers[3] == 24


@pytest.mark.parametrize("sizes", [(4, 4, 4), (5, 1, 6)])
def test_accumulated_gradients_tell_the_trace_between_parts(sizes):
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.2)
    norms, means = MicroBatchNorms(model.parameters()), []
    for part in x.split(sizes):
        loss = model(part).square().mean()
        means.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        (model(part).square().mean() * len(part) / 12).backward()
        norms.add(len(part), share=len(part) / 12)
    stats = norms.take()
    assert stats.trace == pytest.approx(float(between_trace(torch.stack(means), list(sizes))), rel=1e-10)
    whole = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert stats.mean_sq_norm == pytest.approx(float(whole @ whole), rel=1e-12)
    norms.add(3, share=1.0)
    with pytest.raises(ValueError, match="there must be 2 micro-batches or more to see a variance between them, got 1"):
        norms.take()
