"""Video: transformers of ``diffusers`` as flows, and their alignment with rewards."""

from typing import TYPE_CHECKING

from aleator.later import later

if TYPE_CHECKING:
    from aleator.video.adapters import (
        CogVideoXVelocity,
        FluxVelocity,
        HunyuanVideoVelocity,
        TimestepVelocity,
        TransformerVelocity,
        check_dropout,
        velocity_of,
    )
    from aleator.video.autoencoder import check_frames, decode, encode
    from aleator.video.dual_reward import Advantages, DualRewardGRPO, Update
    from aleator.video.groups import group_noise, repeat_groups
    from aleator.video.lora import Reference, add_lora, save_lora, save_transformer
    from aleator.video.policy_average import PolicyAverage
    from aleator.video.precision import cast
    from aleator.video.process_reward import checkpointed, process_reward_loss, reward_gradient, train_process_reward
    from aleator.video.rewards import ZeroOrderGuidance, checked_rewards, outcome_rewards
    from aleator.video.rollout import Trajectory, rollout
    from aleator.video.text_cache import TextCache, cache_text

_ALIGNMENT = {
    "Advantages": "dual_reward",
    "CogVideoXVelocity": "adapters",
    "DualRewardGRPO": "dual_reward",
    "FluxVelocity": "adapters",
    "HunyuanVideoVelocity": "adapters",
    "PolicyAverage": "policy_average",
    "Reference": "lora",
    "TextCache": "text_cache",
    "TimestepVelocity": "adapters",
    "Trajectory": "rollout",
    "TransformerVelocity": "adapters",
    "Update": "dual_reward",
    "ZeroOrderGuidance": "rewards",
    "add_lora": "lora",
    "cache_text": "text_cache",
    "cast": "precision",
    "check_dropout": "adapters",
    "check_frames": "autoencoder",
    "checked_rewards": "rewards",
    "checkpointed": "process_reward",
    "decode": "autoencoder",
    "encode": "autoencoder",
    "group_noise": "groups",
    "outcome_rewards": "rewards",
    "process_reward_loss": "process_reward",
    "repeat_groups": "groups",
    "reward_gradient": "process_reward",
    "rollout": "rollout",
    "save_lora": "lora",
    "save_transformer": "lora",
    "train_process_reward": "process_reward",
    "velocity_of": "adapters",
}

__all__ = [
    "Advantages",
    "CogVideoXVelocity",
    "DualRewardGRPO",
    "FluxVelocity",
    "HunyuanVideoVelocity",
    "PolicyAverage",
    "Reference",
    "TextCache",
    "TimestepVelocity",
    "Trajectory",
    "TransformerVelocity",
    "Update",
    "ZeroOrderGuidance",
    "add_lora",
    "cache_text",
    "cast",
    "check_dropout",
    "check_frames",
    "checked_rewards",
    "checkpointed",
    "decode",
    "encode",
    "group_noise",
    "outcome_rewards",
    "process_reward_loss",
    "repeat_groups",
    "reward_gradient",
    "rollout",
    "save_lora",
    "save_transformer",
    "train_process_reward",
    "velocity_of",
]

__getattr__ = later(__name__, _ALIGNMENT)
