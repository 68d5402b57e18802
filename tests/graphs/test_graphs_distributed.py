"""Two processes, gloo, share one request for graphs: together they have the set that one process makes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

PROGRAM = """
import os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from aleator.graphs import GDSS, ScoreNetworkA, ScoreNetworkX, dense_batch
from aleator.random import Streams
from aleator.sde import S4, VESDE, VPSDE

processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if processes > 1:
    dist.init_process_group("gloo")
streams = Streams(0)
with streams.scope("init"):
    model = GDSS(ScoreNetworkX(3, 2, 8), ScoreNetworkA(3, 8, 2, c_hidden=4), VPSDE(0.1, 1.0), VESDE(0.2, 1.0))
model.observe(dense_batch([(4, [(0, 1), (1, 2), (2, 3)]), (6, [(i, i + 1) for i in range(5)])], features=3))
out = model.sample(
    7, S4(20), generator=streams.generator("sample"), batch_size=2, per_graph=True, num_replicas=processes, rank=rank
)
own = len(out.x)
out = out.gathered() if processes > 1 else out
found = {"x": out.x, "adj": out.adj, "mask": out.mask, "number": out.number, "own": torch.tensor(own)}
save_file({name: tensor.contiguous() for name, tensor in found.items()}, Path(sys.argv[1], f"{processes}-{rank}"))
if processes > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes) -> Path:
    tmp = tmp_path_factory.mktemp("shared-request")
    program = tmp / "program.py"
    program.write_text(PROGRAM)
    for count in (1, 2):
        processes(program, count, tmp)
    return tmp


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_make_the_set_that_one_makes(folder, rank):
    one, shared = load_file(folder / "1-0"), load_file(folder / f"2-{rank}")
    assert int(one["own"]) == 7
    assert int(shared["own"]) == (4, 3)[rank]
    assert shared["number"].tolist() == list(range(7))
    assert torch.equal(shared["mask"], one["mask"])
    torch.testing.assert_close(shared["x"], one["x"], atol=1e-5, rtol=0)
    torch.testing.assert_close(shared["adj"], one["adj"], atol=1e-5, rtol=0)


def test_the_shared_graphs_differ(folder):
    adj = load_file(folder / "2-0")["adj"]
    assert min(float((a - b).abs().max()) for i, a in enumerate(adj) for b in adj[:i]) > 0.1
