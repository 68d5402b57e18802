"""One of several processes that put their shares of seven test examples together; prints what it got."""

import json
import sys

import torch
import torch.distributed as dist
from accelerate import PartialState

from aleator.experiment.test_examples import gather_test_examples

PartialState(cpu=True)
rank, count = dist.get_rank(), dist.get_world_size()
whole = torch.arange(7.0)


class Task:
    def test_examples(self):
        if sys.argv[1] == "one is silent" and rank == 1:
            return None
        own = whole[rank::count]
        return own, torch.ones_like(own)


found = gather_test_examples(Task(), 3.0, count)
print(json.dumps(None if found is None else found.values.tolist()))  # noqa: T201
