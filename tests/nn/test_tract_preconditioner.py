"""Sums first, one solution after: cut batches, scaled losses and clipped gradients are as for the whole batch."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from aleator.experiment import GradientStep
from aleator.experiment.accelerators import make_accelerator
from aleator.nn import TrActPreconditioner, apply_tract
from tests.nn.test_tract import grads, images, loss_of, network


def whole_batch(x, **options):
    model = apply_tract(network(x.dtype), **options)
    loss_of(model, x).backward()
    return grads(model)


def same(found, expected, rtol=1e-10):
    return all(torch.allclose(found[name], expected[name], rtol=rtol, atol=1e-12) for name in expected)


@pytest.mark.parametrize("sizes", [(12,), (3, 3, 3, 3), (1, 6, 5)])
def test_accumulated_pieces_give_the_gradient_of_the_whole_batch(sizes):
    x = images(12, torch.float64)
    model = apply_tract(network(torch.float64), reduce="global")
    preconditioner = TrActPreconditioner(model)
    for piece in x.split(sizes):
        (loss_of(model, piece) * len(piece) / 12).backward()
    preconditioner.step()
    assert same(grads(model), whole_batch(x))


def test_solving_piece_by_piece_gives_another_gradient():
    x = images(12, torch.float64)
    model = apply_tract(network(torch.float64))
    for piece in x.split(3):
        (loss_of(model, piece) / 4).backward()
    error = (grads(model)["0.weight"] - whole_batch(x)["0.weight"]).norm() / whole_batch(x)["0.weight"].norm()
    assert error > 0.01


@pytest.mark.filterwarnings("ignore:.*should have mean 0:UserWarning")
def test_sums_that_float32_is_too_coarse_for_are_refused_and_float64_serves():
    x = 255 * images(12).sigmoid()
    found = []
    for dtype in (torch.float32, torch.float64):
        model = apply_tract(network(torch.float64).float(), reduce="global", compute_dtype=dtype)
        preconditioner = TrActPreconditioner(model)
        loss_of(model, x).backward()
        found.append((model, preconditioner))
    with pytest.raises(RuntimeError, match=r"0: float32 is too coarse .*compute_dtype=torch.float64"):
        found[0][1].step()
    found[1][1].step()
    grad, exact = grads(found[1][0])["0.weight"], whole_batch(x.double())["0.weight"]
    assert (grad - exact).norm() < 1e-3 * exact.norm()


def test_groups_are_solved_one_by_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 4, 6, 6, generator=generator, dtype=torch.float64)
    found = []
    for reduce in ("local", "global"):
        layer = torch.nn.utils.skip_init(torch.nn.Conv2d, 4, 6, 3, groups=2, dtype=torch.float64)
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        wrapped = apply_tract(layer, reduce=reduce)
        preconditioner = TrActPreconditioner(wrapped)
        wrapped(x).square().mean().backward()
        preconditioner.step()
        found.append(layer.weight.grad)
    assert torch.allclose(*found, rtol=1e-10)


def test_a_second_call_changes_nothing_and_nothing_is_left_for_the_next_batch():
    x = images(8, torch.float64)
    model = apply_tract(network(torch.float64), reduce="global")
    preconditioner = TrActPreconditioner(model)
    loss_of(model, 3 * x).backward()
    preconditioner.step()
    model.zero_grad()
    loss_of(model, x).backward()
    preconditioner.step()
    preconditioner.step()
    assert same(grads(model), whole_batch(x))


def test_attached_to_an_optimizer_it_acts_before_the_step():
    x = images(8, torch.float64)
    models = [apply_tract(network(torch.float64), reduce=reduce) for reduce in ("local", "global")]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in models]
    handle = TrActPreconditioner(models[1]).attach(optimizers[1])
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(model, x).backward()
            optimizer.step()
    assert same(models[1].state_dict(), models[0].state_dict(), rtol=1e-9)
    handle.remove()
    loss_of(models[1], x).backward()
    optimizers[1].step()
    assert models[1][0].row_count == 8 * 64


@pytest.mark.parametrize("unscale_first", [True, False])
def test_a_scaled_loss_is_unscaled_before_or_after(unscale_first):
    x = images(8)
    model = apply_tract(network(), reduce="global")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    preconditioner = TrActPreconditioner(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model, x)).backward()
    if unscale_first:
        scaler.unscale_(optimizer)
        preconditioner.step()
    else:
        preconditioner.step()
        scaler.unscale_(optimizer)
    assert same(grads(model), whole_batch(x), rtol=1e-4)


def test_a_scaler_that_leaves_a_step_out_leaves_no_sums():
    x = images(8)
    model = apply_tract(network(), reduce="global")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    preconditioner = TrActPreconditioner(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = model[0].weight.detach().clone()
    scaler.scale(loss_of(model, 4 * x) * float("inf")).backward()
    preconditioner.step()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model[0].weight, before)
    optimizer.zero_grad()
    scaler.scale(loss_of(model, x)).backward()
    preconditioner.step()
    scaler.unscale_(optimizer)
    assert same(grads(model), whole_batch(x), rtol=1e-4)


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
def test_the_gradient_step_of_a_run_clips_what_tract_gives(max_grad_norm):
    x = images(12, torch.float64)
    expected = whole_batch(x)
    norm = float(torch.cat([gradient.flatten() for gradient in expected.values()]).norm())
    factor = 1 if max_grad_norm is None else max_grad_norm / (norm + 1e-6)
    model = apply_tract(network(torch.float64), reduce="global")
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    step = GradientStep(
        make_accelerator(),
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        max_grad_norm=max_grad_norm,
        transform=[TrActPreconditioner(model).step],
    )
    pieces = x.split((5, 7))
    report = step([(len(piece), lambda piece=piece: loss_of(model, piece)) for piece in pieces])
    for name, weight in model.named_parameters():
        assert torch.allclose(before[name] - weight, factor * expected[name], rtol=1e-8, atol=1e-12)
    if max_grad_norm is not None:
        assert float(report.gradient_norm) == pytest.approx(norm)


def test_local_layers_and_layers_without_a_gradient_are_left_alone():
    x = images(8, torch.float64)
    model = apply_tract(network(torch.float64))
    preconditioner = TrActPreconditioner(model)
    loss_of(model, x).backward()
    preconditioner.step()
    assert same(grads(model), whole_batch(x))
    model = apply_tract(network(torch.float64), reduce="global")
    preconditioner = TrActPreconditioner(model)
    loss_of(model, x).backward()
    model.zero_grad()
    preconditioner.step()
    assert model[0].weight.grad is None


def test_a_layer_that_nobody_solves_for_is_warned_of_once():
    model = apply_tract(network(), reduce="global")
    with pytest.warns(UserWarning, match="0: reduce='global' leaves the gradient as it is without a TrActPrecond"):
        loss_of(model, images()).backward()
    other = apply_tract(network(), reduce="global")
    TrActPreconditioner(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (model, other):
            loss_of(each, images()).backward()


# Two processes: ten images as 7 and 3, in two micro-batches each, under DDP and sharded by FSDP2. The last part of the
# program leaves one process without rows.
PROGRAM = """
import contextlib, json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from aleator.nn import TrActPreconditioner, apply_tract

out = Path(sys.argv[1])
dist.init_process_group("gloo")
rank = dist.get_rank()

def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).double()
    return net

x = torch.randn(10, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
whole = apply_tract(network())
whole(x).square().mean().backward()
expected = [p.grad for p in whole.parameters()]
mine = x[:7] if rank == 0 else x[7:]
found = {}

def error(grads):
    grads = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in grads]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(grads, expected))

for kind in ("ddp", "ddp, local", "fsdp"):
    net = apply_tract(network(), reduce="local" if kind == "ddp, local" else "global")
    model = fully_shard(net) if kind == "fsdp" else DistributedDataParallel(net)
    preconditioner = TrActPreconditioner(model)
    pieces = mine.split((len(mine) + 1) // 2)
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        if kind == "fsdp":
            model.set_requires_gradient_sync(last)
        with contextlib.nullcontext() if last or kind == "fsdp" else model.no_sync():
            (model(piece).square().mean() * len(piece) * 2 / 10).backward()
    preconditioner.step()
    found[kind] = error([p.grad for p in net.parameters()])

net = apply_tract(network(), reduce="global")
preconditioner = TrActPreconditioner(net)
if rank == 0:
    net(x).square().mean().backward()
else:
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
for p in net.parameters():
    dist.all_reduce(p.grad)
preconditioner.step()
preconditioner.step()
found["one without rows"] = error([p.grad for p in net.parameters()])
(out / f"found-{rank}.json").write_text(json.dumps(found))
dist.barrier()  # nobody takes the group down while another still works
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes) -> Path:
    tmp = tmp_path_factory.mktemp("tract")
    program = tmp / "program.py"
    program.write_text(PROGRAM)
    processes(program, 2, tmp)
    return tmp


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "one without rows"])
def test_two_processes_give_the_gradient_of_one(folder, kind, rank):
    assert json.loads((folder / f"found-{rank}.json").read_text())[kind] < 1e-10


def test_two_processes_that_solve_for_themselves_do_not(folder):
    assert json.loads((folder / "found-0.json").read_text())["ddp, local"] > 0.01
