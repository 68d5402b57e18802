"""Carries out runs of a recipe in a file, in this process or in several, one after the other."""

import json
import sys
from pathlib import Path

import torch.distributed as dist

from aleator.experiment import RunOptions, run
from aleator.experiment.registry import resolve

for asked in json.loads(sys.argv[1]):
    options = RunOptions(trackers=(), log_every=1)
    run(resolve(asked["recipe"])(**asked["options"]), Path(asked["out"]), options, name=asked["recipe"])
if dist.is_initialized():
    dist.barrier()
    dist.destroy_process_group()
