"""Neural fields: radiance in a grid, colours of the plane, cameras and rays, rendering, measures of images."""

from aleator.fields.cameras import Cameras, Rays, focal_length, look_at
from aleator.fields.fourier_field import FourierField
from aleator.fields.image_metrics import psnr, ssim
from aleator.fields.rendering import RadianceField, Rendered, box_range, ray_weights, render
from aleator.fields.room import SeenRoom, room_cameras, see_room
from aleator.fields.transforms import read_transforms
from aleator.fields.trilinear import trilinear
from aleator.fields.voxel_field import VoxelField

__all__ = [
    "Cameras",
    "FourierField",
    "RadianceField",
    "Rays",
    "Rendered",
    "SeenRoom",
    "VoxelField",
    "box_range",
    "focal_length",
    "look_at",
    "psnr",
    "ray_weights",
    "read_transforms",
    "render",
    "room_cameras",
    "see_room",
    "ssim",
    "trilinear",
]
