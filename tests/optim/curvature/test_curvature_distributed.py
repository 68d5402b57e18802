"""Two processes, gloo: products, spectra and learned rates are those of one process with all the data."""

import json

import pytest
import torch

PROGRAM = """
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from aleator.optim import CurvatureLRScheduler, CurvatureOperator, slq

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if processes > 1:
    dist.init_process_group("gloo")
torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
model = nn.parallel.DistributedDataParallel(plain) if processes > 1 else plain
x = torch.randn(11, 5, dtype=torch.float64)
y = x[:, :3].argmax(1)

def share(start, stop):
    # Uneven shares, in batches; one process may have no example at all.
    bounds = {(1, 0): (0, 11), (2, 0): (0, 8), (2, 1): (8, 11)}[processes, rank]
    low, high = max(start, bounds[0]), min(stop, bounds[1])
    return [(x[low:high], y[low:high])] if low < high else []

found = {}
vector = torch.linspace(-1, 1, 66, dtype=torch.float64)
for kind in ("hessian", "ggn"):
    op = CurvatureOperator(model, F.cross_entropy, share(0, 11), kind)
    found[kind] = (op @ vector).tolist()
    found[kind + " examples"] = op.examples
found["first eight"] = (CurvatureOperator(model, F.cross_entropy, share(0, 8), "ggn") @ vector).tolist()
found["nodes"] = slq(op, 8, probes=2, generator=torch.Generator().manual_seed(1)).nodes.tolist()
try:
    CurvatureOperator(model, F.cross_entropy, [], "ggn")
except ValueError as error:
    found["empty"] = str(error)

optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
schedule = CurvatureLRScheduler(
    optimizer, model, F.cross_entropy, share(0, 11), 2, generator=torch.Generator().manual_seed(0)
)
rates = []
for _ in range(6):
    optimizer.zero_grad()
    F.cross_entropy(plain(x), y).backward()
    optimizer.step()
    schedule.step()
    rates += [optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]]
found["rates"] = rates
print(json.dumps(found))
"""

SHARDED = """
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from aleator.optim import CurvatureOperator

dist.init_process_group("gloo")
model = nn.Linear(4, 2)
fully_shard(model)
try:
    CurvatureOperator(model, F.cross_entropy, [(torch.ones(2, 4), torch.zeros(2).long())])
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def told(processes, tmp_path_factory):
    program = tmp_path_factory.mktemp("curvature") / "program.py"
    program.write_text(PROGRAM)
    (alone,) = processes(program, 1)
    return json.loads(alone), [json.loads(out) for out in processes(program, 2)]


def test_two_processes_have_the_products_of_one(told):
    alone, together = told
    for name in ("hessian", "ggn", "first eight"):
        for one in together:
            assert one[name] == pytest.approx(alone[name], abs=1e-12)
        assert together[0][name] == together[1][name]
    assert [one["ggn examples"] for one in (alone, *together)] == [11, 11, 11]


def test_two_processes_have_the_spectrum_and_the_rates_of_one(told):
    alone, together = told
    for one in together:
        assert torch.allclose(torch.tensor(one["nodes"]), torch.tensor(alone["nodes"]), atol=1e-9)
        assert one["rates"] == pytest.approx(alone["rates"], rel=1e-9)
    assert together[0]["rates"] == together[1]["rates"]


def test_no_example_anywhere_is_refused_by_all(told):
    alone, together = told
    assert {one["empty"] for one in (alone, *together)} == {"data must hold at least one example, got none"}


def test_a_sharded_model_is_refused(processes, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SHARDED)
    for said in processes(program, 2):
        assert "params must be whole tensors, got a sharded one" in said
