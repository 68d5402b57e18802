"""Two processes, gloo: a script that is missing on one of them."""

import torch

from tests.language.small import batch, magnet

# The first process has rows of two scripts, the second of one of them, and neither has the third.
PROGRAM = """
import os
import json, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.language.small import batch, magnet

dist.init_process_group("gloo")
rank = dist.get_rank()
model = magnet()
wrapped = DistributedDataParallel(model)
ids, noise = batch(4)
own = slice(2 * rank, 2 * rank + 2)
scripts = ["latin", "cyrl", "latin", "latin"][own]
for _ in range(2):  # a parameter without a gradient would stop the second step
    model.zero_grad()
    output = wrapped(ids[own], scripts, noise=noise[own])
    loss, parts = model.loss_from(output, ids[own], scripts)
    loss.backward()
if rank == 0:
    torch.save({name: parameter.grad for name, parameter in model.named_parameters()}, sys.argv[1])
dist.barrier()
dist.destroy_process_group()
"""


def test_a_script_missing_on_a_rank_has_the_mean_gradient_of_both(tmp_path, processes):
    (tmp_path / "program.py").write_text(PROGRAM)
    processes(tmp_path / "program.py", 2, tmp_path / "gradients.pt")
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)

    ids, noise = batch(4)
    expected: dict[str, torch.Tensor] = {}
    for own, scripts in ((slice(0, 2), ["latin", "cyrl"]), (slice(2, 4), ["latin", "latin"])):
        model = magnet()
        model.loss(ids[own], scripts, noise=noise[own])[0].backward()
        for name, parameter in model.named_parameters():
            expected[name] = expected.get(name, 0) + parameter.grad / 2
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)
    assert found["predictors.cyrl.output.bias"].any()
    assert not found["predictors.indic.output.bias"].any()
