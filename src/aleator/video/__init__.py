"""Video: models of it as flows, their alignment with rewards, and identity-preserving generation."""

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
    from aleator.video.cogvideo_shapes import TRAINED_SIZES, latent_shape, rope_crop_region, shallow_latents
    from aleator.video.diffusion import add_noise, alphas_cumprod, sample_clips, velocity_target
    from aleator.video.dual_reward import Advantages, DualRewardGRPO
    from aleator.video.faces import (
        Face,
        FaceDetector,
        FaceEncoder,
        References,
        aligned_face,
        read_references,
        similarity_transform,
    )
    from aleator.video.groups import group_noise, repeat_groups
    from aleator.video.guidance import guidance_schedule, guided, negative_condition, trailing_timesteps
    from aleator.video.identity_encoders import TextEncoder, VisionEncoder
    from aleator.video.identity_fusion import IdentityTextFusion
    from aleator.video.identity_metrics import (
        CopyPaste,
        copy_paste,
        feature_distance,
        frechet_distance,
        identity_similarity,
        identity_variation,
    )
    from aleator.video.identity_model import (
        IdentityVideoModel,
        decode_clips,
        encode_clips,
        encode_photos,
        with_photo_channels,
    )
    from aleator.video.lora import Reference, add_lora, save_lora, save_transformer
    from aleator.video.policy_average import PolicyAverage
    from aleator.video.precision import cast
    from aleator.video.process_reward import checkpointed, process_reward_loss, reward_gradient, train_process_reward
    from aleator.video.rewards import ZeroOrderGuidance, checked_rewards, outcome_rewards
    from aleator.video.text_cache import TextCache, cache_text
    from aleator.video.trajectories import Trajectory, rollout
    from aleator.video.two_stage import TwoStageConditions
    from aleator.video.update import Update

_MODULES = {
    "TRAINED_SIZES": "cogvideo_shapes",
    "Advantages": "dual_reward",
    "CogVideoXVelocity": "adapters",
    "CopyPaste": "identity_metrics",
    "DualRewardGRPO": "dual_reward",
    "Face": "faces",
    "FaceDetector": "faces",
    "FaceEncoder": "faces",
    "FluxVelocity": "adapters",
    "HunyuanVideoVelocity": "adapters",
    "IdentityTextFusion": "identity_fusion",
    "IdentityVideoModel": "identity_model",
    "PolicyAverage": "policy_average",
    "Reference": "lora",
    "References": "faces",
    "TextCache": "text_cache",
    "TextEncoder": "identity_encoders",
    "TimestepVelocity": "adapters",
    "Trajectory": "trajectories",
    "TransformerVelocity": "adapters",
    "TwoStageConditions": "two_stage",
    "Update": "update",
    "VisionEncoder": "identity_encoders",
    "ZeroOrderGuidance": "rewards",
    "add_lora": "lora",
    "add_noise": "diffusion",
    "aligned_face": "faces",
    "alphas_cumprod": "diffusion",
    "cache_text": "text_cache",
    "cast": "precision",
    "check_dropout": "adapters",
    "check_frames": "autoencoder",
    "checked_rewards": "rewards",
    "checkpointed": "process_reward",
    "copy_paste": "identity_metrics",
    "decode": "autoencoder",
    "decode_clips": "identity_model",
    "encode": "autoencoder",
    "encode_clips": "identity_model",
    "encode_photos": "identity_model",
    "feature_distance": "identity_metrics",
    "frechet_distance": "identity_metrics",
    "group_noise": "groups",
    "guidance_schedule": "guidance",
    "guided": "guidance",
    "identity_similarity": "identity_metrics",
    "identity_variation": "identity_metrics",
    "latent_shape": "cogvideo_shapes",
    "negative_condition": "guidance",
    "outcome_rewards": "rewards",
    "process_reward_loss": "process_reward",
    "read_references": "faces",
    "repeat_groups": "groups",
    "reward_gradient": "process_reward",
    "rollout": "trajectories",
    "rope_crop_region": "cogvideo_shapes",
    "sample_clips": "diffusion",
    "save_lora": "lora",
    "save_transformer": "lora",
    "shallow_latents": "cogvideo_shapes",
    "similarity_transform": "faces",
    "trailing_timesteps": "guidance",
    "train_process_reward": "process_reward",
    "velocity_of": "adapters",
    "velocity_target": "diffusion",
    "with_photo_channels": "identity_model",
}

__all__ = [
    "TRAINED_SIZES",
    "Advantages",
    "CogVideoXVelocity",
    "CopyPaste",
    "DualRewardGRPO",
    "Face",
    "FaceDetector",
    "FaceEncoder",
    "FluxVelocity",
    "HunyuanVideoVelocity",
    "IdentityTextFusion",
    "IdentityVideoModel",
    "PolicyAverage",
    "Reference",
    "References",
    "TextCache",
    "TextEncoder",
    "TimestepVelocity",
    "Trajectory",
    "TransformerVelocity",
    "TwoStageConditions",
    "Update",
    "VisionEncoder",
    "ZeroOrderGuidance",
    "add_lora",
    "add_noise",
    "aligned_face",
    "alphas_cumprod",
    "cache_text",
    "cast",
    "check_dropout",
    "check_frames",
    "checked_rewards",
    "checkpointed",
    "copy_paste",
    "decode",
    "decode_clips",
    "encode",
    "encode_clips",
    "encode_photos",
    "feature_distance",
    "frechet_distance",
    "group_noise",
    "guidance_schedule",
    "guided",
    "identity_similarity",
    "identity_variation",
    "latent_shape",
    "negative_condition",
    "outcome_rewards",
    "process_reward_loss",
    "read_references",
    "repeat_groups",
    "reward_gradient",
    "rollout",
    "rope_crop_region",
    "sample_clips",
    "save_lora",
    "save_transformer",
    "shallow_latents",
    "similarity_transform",
    "trailing_timesteps",
    "train_process_reward",
    "velocity_of",
    "velocity_target",
    "with_photo_channels",
]

__getattr__ = later(__name__, _MODULES)
