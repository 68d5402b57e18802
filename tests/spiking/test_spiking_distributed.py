"""Two processes, gloo, that share every batch: the weights are the same as in one."""

import pytest
import torch

PROGRAM = """
import os
import sys
import numpy as np
import torch
import torch.distributed as dist
from aleator.spiking import FrozenEngine, PrivateEngine, SpikingState, preset, sample_keys

path, world = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo")
assert dist.get_world_size() == world
p = preset("hao2019-mnist-400").replace(stimulus=100.0, rest=20.0, intensity_max=4)
random = np.random.default_rng(0)
greys = random.integers(0, 256, (11, 50)).astype(float)
greys[3] = 0  # in a batch of its own, of which the second process has nothing
labels, keys = random.integers(0, 3, 11), sample_keys(0, "train", 0, 11)
results = {}
for engine in (FrozenEngine, PrivateEngine):
    state = SpikingState.initial(50, 8, 3, p, torch.Generator().manual_seed(0))
    state.theta.fill_(12.0)
    made = engine(p, 4, dtype=torch.float64, process_group=dist.group.WORLD)
    responses = made.train(state, greys, labels, keys, "both")
    results[engine.__name__] = state.state_dict() | {
        name: torch.from_numpy(getattr(responses, name)) for name in ("hidden", "classes", "re_presentations", "silent")
    }
every = [None] * world
dist.all_gather_object(every, results)
for other in every:
    for name in results:
        for field, value in results[name].items():
            assert torch.equal(other[name][field], value), field
if dist.get_rank() == 0:
    torch.save(results, path)
dist.barrier()  # one that leaves while the other still sends may abort
dist.destroy_process_group()
"""


def launched(processes, folder, count):
    program, out = folder / "program.py", folder / f"{count}.pt"
    program.write_text(PROGRAM)
    processes(program, count, out, count)
    return torch.load(out, weights_only=True)


@pytest.mark.slow
def test_two_processes_learn_the_weights_of_one(tmp_path, processes):
    two, one = (launched(processes, tmp_path, count) for count in (2, 1))
    for engine in ("FrozenEngine", "PrivateEngine"):
        assert one[engine]["hidden"].sum() > 20
        assert one[engine]["re_presentations"][3] == 2
        for name, value in one[engine].items():
            if value.is_floating_point():
                torch.testing.assert_close(two[engine][name], value, rtol=0, atol=1e-12)
            else:
                assert torch.equal(two[engine][name], value), name
