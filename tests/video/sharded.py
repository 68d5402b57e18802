"""A small Wan with a LoRA, sharded by FSDP2 where there are several processes: a rollout, an update, files.

sharded.py FOLDER
"""

import sys

import torch
import torch.distributed as dist

from aleator.random import ItemGenerator
from aleator.sde import FlowSDE, shifted_sigmas
from aleator.video import DualRewardGRPO, add_lora, group_noise, rollout, save_lora, save_transformer, velocity_of
from tests.video.tiny import condition, transformer

GROUPS, GROUP_SIZE = 2, 2


def aligned(rank, world, folder):
    """Take one update on this process's groups, write what came of it, and return ratio and loss."""
    network = transformer("wan")
    trained = add_lora(network, generator=torch.Generator().manual_seed(0), rank=2)
    if world > 1:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (world,))
        for block in network.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    velocity = velocity_of(network)
    own = GROUPS * GROUP_SIZE // world
    items = range(rank * own, (rank + 1) * own)
    numbers = ItemGenerator(7, items)
    noise = group_noise(torch.empty(own, 4, 1, 4, 4), GROUP_SIZE, generator=numbers)
    cond = {name: tensor[list(items)] for name, tensor in condition("wan", GROUPS * GROUP_SIZE).items()}
    trajectory = rollout(velocity, noise, shifted_sigmas(3), FlowSDE(eta=0.5), cond, generator=numbers)
    rewards = trajectory.x0_pred.flatten(1).mean(1)
    (update,) = DualRewardGRPO.dance_grpo(group_size=GROUP_SIZE).updates(
        velocity, trajectory, rewards, count=1, piece_size=2
    )
    loss = update.backward(network)
    torch.optim.SGD(trained, lr=1.0).step()
    save_transformer(network, f"{folder}/whole-{world}")
    save_lora(network, f"{folder}/lora-{world}")
    return float(update.figures()["ratio"]), float(loss)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    ratio, _ = aligned(dist.get_rank(), dist.get_world_size(), sys.argv[1])
    sys.stdout.write(f"{ratio}\n")
