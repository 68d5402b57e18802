"""Video: identity-preserving generation, measures of it, and the sizes of the models that make it."""

from typing import TYPE_CHECKING

from aleator.later import later

if TYPE_CHECKING:
    from aleator.video.cogvideo_shapes import TRAINED_SIZES, latent_shape, rope_crop_region, shallow_latents
    from aleator.video.diffusion import add_noise, alphas_cumprod, sample_clips, velocity_target
    from aleator.video.guidance import guidance_schedule, guided, negative_condition, trailing_timesteps
    from aleator.video.identity_fusion import IdentityTextFusion
    from aleator.video.identity_metrics import (
        CopyPaste,
        copy_paste,
        feature_distance,
        frechet_distance,
        identity_similarity,
        identity_variation,
    )
    from aleator.video.two_stage import TwoStageConditions

_IDENTITY = {
    "TRAINED_SIZES": "cogvideo_shapes",
    "CopyPaste": "identity_metrics",
    "IdentityTextFusion": "identity_fusion",
    "TwoStageConditions": "two_stage",
    "add_noise": "diffusion",
    "alphas_cumprod": "diffusion",
    "copy_paste": "identity_metrics",
    "feature_distance": "identity_metrics",
    "frechet_distance": "identity_metrics",
    "guidance_schedule": "guidance",
    "guided": "guidance",
    "identity_similarity": "identity_metrics",
    "identity_variation": "identity_metrics",
    "latent_shape": "cogvideo_shapes",
    "negative_condition": "guidance",
    "rope_crop_region": "cogvideo_shapes",
    "sample_clips": "diffusion",
    "shallow_latents": "cogvideo_shapes",
    "trailing_timesteps": "guidance",
    "velocity_target": "diffusion",
}

__all__ = [
    "TRAINED_SIZES",
    "CopyPaste",
    "IdentityTextFusion",
    "TwoStageConditions",
    "add_noise",
    "alphas_cumprod",
    "copy_paste",
    "feature_distance",
    "frechet_distance",
    "guidance_schedule",
    "guided",
    "identity_similarity",
    "identity_variation",
    "latent_shape",
    "negative_condition",
    "rope_crop_region",
    "sample_clips",
    "shallow_latents",
    "trailing_timesteps",
    "velocity_target",
]

__getattr__ = later(__name__, _IDENTITY)
