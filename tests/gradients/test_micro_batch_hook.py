"""Squared norms of micro-batches: as they are accumulated, by two processes, through DDP and FSDP2."""

import json

import pytest
import torch
from torch import nn

from aleator.gradients import MicroBatchNormHook, between_trace

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from aleator.gradients import MicroBatchNormHook, pooled_trace

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
    norms, means, within = MicroBatchNormHook(model), [], []
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
    norms, means = MicroBatchNormHook(model), []
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


def test_norms_are_read_back_from_the_device_once(monkeypatch):
    with torch.random.fork_rng([]):
        model = nn.Linear(3, 2)
    norms = MicroBatchNormHook(model)
    for x in torch.ones(2, 4, 3):
        (model(x).mean() / 2).backward()
        norms.add(4, share=0.5)
    read = []
    real = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda own: read.append(1) or real(own))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda own: read.append(1) or own)
    norms.take()
    assert len(read) == 1


WRAPPED = """
import json, os, sys
from pathlib import Path
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from aleator.gradients import MicroBatchNormHook, between_trace

dist.init_process_group("gloo")
processes, rank = dist.get_world_size(), dist.get_rank()
generator = torch.Generator().manual_seed(0)
x = torch.randn(24, 5, generator=generator)
weights = [torch.randn(s, generator=generator) / 2 for s in ((3, 5), (3,), (1, 3), (1,))]


def made(wrap=lambda model: model):
    model = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return wrap(model)


def sharded(model):
    for module in (model[0], model[2], model):
        fully_shard(module)
    return model


def loss(model, part):
    return model(part).square().mean()


def seen(model, hook, parts):
    own = parts[rank::processes]
    for number, part in enumerate(own):
        last = number == len(own) - 1
        unreduced = model.no_sync() if hasattr(model, "no_sync") and not last else torch.enable_grad()
        with unreduced:
            (loss(model, part) / len(own)).backward()
        hook.add(len(part), share=1 / len(own))
    stats = hook.take()
    grads = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return [stats.trace, stats.mean_sq_norm, stats.n], grads


found = {}
for count in (2, 4, 8):
    plain, parts = made(), x.split(24 // count)
    means = [torch.autograd.grad(loss(plain, part), list(plain.parameters())) for part in parts]
    means = torch.stack([torch.cat([g.flatten() for g in mean]) for mean in means]).double()
    expected = [float(between_trace(means, 24 // count)), float(means.mean(0).square().sum()), 24]
    for wrap in (DistributedDataParallel, sharded):
        model = made(wrap)
        hook = MicroBatchNormHook(model)
        for again in range(2):  # a second step sees its own gradients alone
            numbers, grads = seen(model, hook, parts)
            assert numbers == pytest.approx(expected, rel=1e-5), (count, wrap, again, numbers, expected)
            whole = torch.cat([g.flatten() for g in grads])
            assert torch.allclose(whole.double(), means.mean(0), rtol=1e-5, atol=1e-6), (count, wrap)

model = made(DistributedDataParallel)
hook = MicroBatchNormHook(model)
loss(model, x[:4]).backward()
hook.add(4, share=1.0)
with pytest.raises(RuntimeError, match="take must be called between two backward passes that are reduced"):
    loss(model, x[:4]).backward()
model = made(sharded)
hook = MicroBatchNormHook(model)
model.set_requires_gradient_sync(False)
loss(model, x[:4]).backward()
with pytest.raises(RuntimeError, match="every micro-batch of a sharded model must be reduced"):
    hook.add(4, share=1.0)
with pytest.raises(RuntimeError, match="fully_shard, got FullyShardedDataParallel"):
    MicroBatchNormHook(made(lambda model: FullyShardedDataParallel(model, device_id=torch.device("cpu"))))
dist.barrier()
dist.destroy_process_group()
"""


def test_what_ddp_and_fsdp_reduce_is_seen_before(tmp_path, processes):
    program = tmp_path / "program.py"
    program.write_text(WRAPPED)
    processes(program, 2)


TRAINED = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from aleator.gradients import MicroBatchNormHook, between_trace

dist.init_process_group("gloo")
processes, rank = dist.get_world_size(), dist.get_rank()
x = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
parts = x.split(24 // processes)
loss = lambda model, part: model(part).square().mean()


def made():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))


def whole(model):
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def sharded(model):
    for module in (model[0], model[2], model):
        fully_shard(module)
    return model


def viewed(model):
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


for wrap in (DistributedDataParallel, viewed, sharded):
    model, other = wrap(made()), wrap(made())
    hook = MicroBatchNormHook(model)
    for step in range(5):
        plain = made()
        for parameter, weight in zip(plain.parameters(), whole(model), strict=True):
            parameter.data.copy_(weight)
        means = [torch.autograd.grad(loss(plain, part), list(plain.parameters())) for part in parts]
        means = torch.stack([torch.cat([g.flatten() for g in mean]) for mean in means]).double()
        for each in (model, other):
            loss(each, parts[rank]).backward()
        if step % 3 == 1:  # two steps between that nobody looks at
            hook.add(len(parts[rank]), share=1.0)
            trace, expected = hook.take().trace, float(between_trace(means, len(parts[rank])))
            assert abs(trace - expected) < 1e-4 * expected, (wrap, step, trace, expected)
        for each in (model, other):
            with torch.no_grad():
                for parameter in each.parameters():
                    parameter -= 0.1 * parameter.grad
            each.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(whole(model), whole(other), strict=True)), (wrap, step)
dist.barrier()
dist.destroy_process_group()
"""


def test_training_with_a_hook_has_the_bits_of_training_without_and_not_every_step_need_be_looked_at(
    tmp_path, processes
):
    """By three processes, since to divide by two and to halve are the same."""
    program = tmp_path / "program.py"
    program.write_text(TRAINED)
    processes(program, 3)


@pytest.mark.parametrize(("count", "share", "line"), [
    (0, 1.0, "count must be at least 1, got 0"),
    (2, 0.0, "share must be positive and finite, got 0.0"),
    (2, float("nan"), "share must be positive and finite, got nan"),
])  # fmt: skip
def test_a_micro_batch_of_nothing_is_refused(count, share, line):
    with torch.random.fork_rng([]):
        model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=line):
        MicroBatchNormHook(model).add(count, share)
