"""Video: flows and diffusion models of it, and their alignment with rewards."""

from aleator.video.dual_reward import Advantages, DualRewardGRPO
from aleator.video.groups import group_noise, repeat_groups
from aleator.video.process_reward import checkpointed, process_reward_loss, reward_gradient, train_process_reward
from aleator.video.rewards import ZeroOrderGuidance, checked_rewards, outcome_rewards
from aleator.video.rollout import Trajectory, rollout
from aleator.video.update import Update

__all__ = [
    "Advantages",
    "DualRewardGRPO",
    "Trajectory",
    "Update",
    "ZeroOrderGuidance",
    "checked_rewards",
    "checkpointed",
    "group_noise",
    "outcome_rewards",
    "process_reward_loss",
    "repeat_groups",
    "reward_gradient",
    "rollout",
    "train_process_reward",
]
