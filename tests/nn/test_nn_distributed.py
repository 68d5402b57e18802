"""Two processes, gloo, with unequal parts of a batch: the means equal the means of the whole."""

import json
from pathlib import Path

import pytest

# DDP averages over processes, so the loss of a part of n rows is weighted by 2n/N: the mean over all rows.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from aleator.nn import ConditionalLinear

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if processes > 1:
    dist.init_process_group("gloo")
found = {}
for gate in ("st", "sbn", "relu"):
    layer = ConditionalLinear(6, 32, 5, gate=gate, block=16, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        layer.gater[2].weight.normal_(generator=torch.Generator().manual_seed(3))
    # The penalty and the score loss are methods: parts of a training step that DDP has to run as its forward.
    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer
        def forward(self, x, noise):
            losses = self.layer(x, noise=noise).square().mean(1)
            share = processes * len(x) / 30
            penalty = self.layer.penalty() * (processes if gate == "relu" else 1)  # a sum over rows, not a mean
            return share * (losses.mean() + self.layer.score_loss(losses)) + penalty
    step = DistributedDataParallel(Step()) if processes > 1 else Step()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(30, 6, generator=generator, dtype=torch.float64)
        noise = torch.rand(30, 2, generator=generator, dtype=torch.float64)
        part = slice(None) if processes == 1 else (slice(0, 21) if rank == 0 else slice(21, 30))
        optimizer.zero_grad()
        step(x[part], noise[part]).backward()
        optimizer.step()
    found[gate] = {
        "parameters": {name: value.flatten().tolist() for name, value in layer.named_parameters()},
        "buffers": {name: value.flatten().tolist() for name, value in layer.named_buffers()},
    }
Path(sys.argv[1], f"found-{processes}-{rank}.json").write_text(json.dumps(found))
if processes > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes) -> Path:
    tmp = tmp_path_factory.mktemp("global-means")
    program = tmp / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2):
        processes(program, count, tmp)
    return tmp


def found(folder: Path, processes: int, rank: int = 0) -> dict:
    return json.loads((folder / f"found-{processes}-{rank}.json").read_text())


@pytest.mark.parametrize("gate", ["st", "sbn", "relu"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["parameters", "buffers"])
def test_three_steps_of_two_processes_are_those_of_one(folder, gate, rank, what):
    one, two = found(folder, 1)[gate][what], found(folder, 2, rank)[gate][what]
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


def test_what_is_agreed_on_has_moved(folder):
    buffers = found(folder, 1)
    assert buffers["relu"]["buffers"]["penalty_weight"] == pytest.approx([1e-5 * 1.1**3], rel=1e-6)
    assert all(abs(value - 1e-6) > 1e-4 for value in buffers["sbn"]["buffers"]["baseline.numerator"])
    assert 0 < buffers["st"]["buffers"]["active_fraction"][0] < 1
