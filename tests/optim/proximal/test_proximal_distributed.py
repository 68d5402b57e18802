"""Two processes, gloo: a proximal step on shards equals the step on whole tensors."""

import json
from pathlib import Path

import pytest
import torch

MAKERS = {
    # On each shard by itself: coordinates, and slices along the sharded dimension.
    "l1": "ProximalSGD(named, lr=0.1, momentum=0.9, prox=prox.L1(0.05), apply_to='all')",
    "rows": "ProximalSGD(named, lr=0.1, prox=prox.GroupLasso(0.4))",
    "adamw": "Proximal(torch.optim.AdamW(named, lr=0.05), {'weight': prox.L1(0.05)})",
    "svrg": "ProxSVRG(named, 0.1, prox.L1(0.05))",
    "rda": "RDA(named, gamma=2.0, lam=0.02)",
    # Whole blocks have to be gathered.
    "columns": "ProximalSGD(named, lr=0.1, prox=prox.GroupLasso(0.4, dim=1))",
    "nuclear": "ProximalSGD(named, lr=0.1, prox=prox.Nuclear(0.2))",
    "adamw-columns": "Proximal(torch.optim.AdamW(named, lr=0.05), {'weight': prox.GroupLasso(0.8, dim=1)})",
    "weighted": "Proximal(torch.optim.SGD(named, lr=0.1), {'0.weight': prox.L1(torch.arange(5.0).double() / 50)})",
    "pegasos": "Pegasos(named, lam=0.5)",
    "sasa": "torch.optim.SGD(named, lr=0.1, momentum=0.9)",
}
GATHERED = ("columns", "nuclear", "adamw-columns", "weighted")

# Of seven rows one process has four and the other three; of the single row of the last layer one has none.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from aleator.experiment.model_state import load_training_state, training_state
from aleator.optim import FISTA, RDA, SASA, DistanceTest, Pegasos, Pflug, Proximal, ProximalSGD, ProxSVRG
from aleator.optim import proximal as prox

out, makers = Path(sys.argv[1]), json.loads(sys.argv[2])
processes = int(os.environ.get("WORLD_SIZE", 1))
sharded = processes > 1
if sharded:
    dist.init_process_group("gloo")
first = not sharded or dist.get_rank() == 0

def model(zero):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    if zero:
        for p in net.parameters():
            nn.init.zeros_(p)
    if sharded:
        fully_shard(net)
    return net

def closure_of(net, optimizer, step):
    def closure():
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        optimizer.zero_grad()
        loss = (net(x).flatten() - x.sum(1)).square().mean()
        loss.backward()
        return loss
    return closure

def steps(net, optimizer, begin, end):
    gathers = 0
    for step in range(begin, end):
        closure = closure_of(net, optimizer, step)
        if isinstance(optimizer, ProxSVRG):
            if step % 2 == 0:
                optimizer.snapshot(closure_of(net, optimizer, 99))
            optimizer.step(closure)
        else:
            closure()
            with CommDebugMode() as collectives:
                optimizer.step()
            gathers += collectives.get_total_counts()
    return gathers

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
found = {}
for name, maker in makers.items():
    net = model(name in ("rda", "pegasos"))
    named = list(net.named_parameters())
    optimizer = eval(maker)
    schedule = SASA(optimizer) if name == "sasa" else None
    gathers = steps(net, optimizer, 0, 4)
    saved = training_state(net, optimizer)  # only the first process has it
    if first:
        torch.save(saved, out / f"{name}-{processes}-half.pt")
    if sharded:
        dist.barrier()
    saved = torch.load(out / f"{name}-{processes}-half.pt", weights_only=True)
    gathers += steps(net, optimizer, 4, 8)
    whole = get_model_state_dict(net, options=FULL)
    found[name] = {"gathers": gathers}
    if schedule is not None:
        found[name]["samples"] = schedule.samples.tolist()
    if isinstance(optimizer, (ProximalSGD, Proximal)):
        closure_of(net, optimizer, 100)()
        found[name]["norm"] = float(optimizer.proximal_gradient_norm())
        found[name]["penalty"] = float(optimizer.penalty())
    if first:
        torch.save(whole, out / f"{name}-{processes}.pt")
    net = model(False)
    named = list(net.named_parameters())
    optimizer = eval(maker)
    load_training_state(net, optimizer, saved)
    steps(net, optimizer, 4, 8)
    resumed = get_model_state_dict(net, options=FULL)
    if first:
        torch.save(resumed, out / f"{name}-{processes}-resumed.pt")
if sharded:
    net = model(False)
    for kind, make in {
        "fista": lambda: FISTA(net.parameters(), 0.1),
        "pflug": lambda: Pflug(torch.optim.SGD(net.parameters(), lr=0.1)),
        "distance": lambda: DistanceTest(torch.optim.SGD(net.parameters(), lr=0.1)),
    }.items():
        try:
            make()
        except RuntimeError as error:
            found[kind] = str(error)
    dist.barrier()
    dist.destroy_process_group()
(out / f"found-{processes}-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes) -> Path:
    tmp = tmp_path_factory.mktemp("sharded")
    program = tmp / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2):
        processes(program, count, tmp, json.dumps(MAKERS))
    return tmp


def found(folder: Path, processes: int, rank: int = 0) -> dict:
    return json.loads((folder / f"found-{processes}-{rank}.json").read_text())


def weights(folder: Path, name: str) -> dict:
    return torch.load(folder / f"{name}.pt", weights_only=True)


@pytest.mark.parametrize("name", MAKERS)
def test_steps_on_shards_equal_those_of_one_process(folder, name):
    one, two = weights(folder, f"{name}-1"), weights(folder, f"{name}-2")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-12)
        if name not in ("sasa", "pegasos"):
            assert torch.equal(two[key] == 0, value == 0), key


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("sasa", "pegasos", "nuclear", "svrg")])
def test_there_are_zeros_to_compare(folder, name):
    assert any(bool((value == 0).any()) for value in weights(folder, f"{name}-1").values())


@pytest.mark.parametrize("name", MAKERS)
def test_only_whole_blocks_are_gathered(folder, name):
    gathers = found(folder, 2)[name]["gathers"]
    if name == "svrg":
        return
    assert (gathers > 0) == (name in (*GATHERED, "pegasos", "sasa"))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("count", [1, 2])
def test_runs_resume(folder, name, count):
    straight, resumed = weights(folder, f"{name}-{count}"), weights(folder, f"{name}-{count}-resumed")
    for key, value in straight.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=1e-12)


def test_reports_are_those_of_whole_tensors_on_every_process(folder):
    one = found(folder, 1)
    for rank in (0, 1):
        two = found(folder, 2, rank)
        for name in MAKERS:
            for report in {"norm", "penalty"} & one[name].keys():
                assert two[name][report] == pytest.approx(one[name][report], rel=1e-9, abs=1e-12), name
        assert two["sasa"]["samples"] == pytest.approx(one["sasa"]["samples"], rel=1e-9)


def test_what_needs_whole_tensors_says_so(folder):
    refused = found(folder, 2)
    assert "parameters must be whole tensors for FISTA" in refused["fista"]
    assert "parameters must be whole tensors for Pflug" in refused["pflug"]
    assert "parameters must be whole tensors for DistanceTest" in refused["distance"]


def test_blocks_of_flat_parameters_of_fsdp1_are_refused_and_coordinates_are_not():
    # FSDP1 does not start without an accelerator; this is the mark that it leaves.
    from torch.distributed.fsdp._common_utils import _set_fsdp_flattened

    from aleator.optim import ProximalSGD
    from aleator.optim import proximal as prox

    flat = torch.nn.Parameter(torch.ones(4))
    _set_fsdp_flattened(flat)
    with pytest.raises(RuntimeError, match=r"must be whole tensors for GroupLasso, got a flat slice .* for 0\.0"):
        ProximalSGD([flat], prox=prox.GroupLasso(0.1))
    ProximalSGD([flat], prox=prox.L1(0.1))
