"""Two processes, gloo: halves of a batch take the steps of the whole, line search included."""

import json
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from aleator.optim import AdaGradNormStep, ArmijoGD, TargetSurrogate

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
group = None
if processes > 1:
    dist.init_process_group("gloo")
    group = dist.group.WORLD
torch.manual_seed(0)
x, y = torch.randn(12, 4).double(), torch.randn(12, 2).double()
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
share = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
trained = DistributedDataParallel(model) if group else model
surrogate = TargetSurrogate(trained, AdaGradNormStep(1.0), inner_steps=4, process_group=group)
searches = []
for _ in range(5):
    info = surrogate.step(x[share], lambda z: (z - y[share]).square().sum(1))
    searches.append((surrogate.optimizer.search.step, surrogate.optimizer.search.trials, info.step_size))
# L-BFGS knows nothing of the processes: its line search has to see the mean loss.
lbfgs = lambda p: torch.optim.LBFGS(p, max_iter=6, line_search_fn="strong_wolfe")
surrogate = TargetSurrogate(trained, AdaGradNormStep(1.0), inner=lbfgs, inner_steps=1, process_group=group)
for _ in range(3):
    surrogate.step(x[share], lambda z: (z - y[share]).square().sum(1))
# A gradient that is not finite on one process is refused by all.
try:
    factor = float("inf") if rank == processes - 1 else 1.0
    surrogate.step(x[share], lambda z: factor * (z - y[share]).square().sum(1))
except ValueError:
    refused = True
else:
    refused = False
weights = torch.cat([p.flatten() for p in model.parameters()]).tolist()
found = {"weights": weights, "searches": searches, "refused": refused}
Path(sys.argv[1], f"{processes}-{rank}.json").write_text(json.dumps(found))
if group:
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path, processes):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2):
        processes(program, count, tmp_path)
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert first["weights"] == second["weights"]
    assert first["searches"] == second["searches"]
    assert first["refused"]
    assert second["refused"]
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-8)
    assert [s[1] for s in first["searches"]] == [s[1] for s in one["searches"]]
