"""Images with cameras from a ``transforms.json``, as Blender's exporters and nerfstudio write it.

    {"camera_angle_x": 0.69, "frames": [{"file_path": "./train/r_0", "transform_matrix": [[…], …]}, …]}
    {"fl_x": 500.0, "fl_y": 500.0, "cx": 320.0, "cy": 240.0, "w": 640, "h": 480, "frames": […]}

A frame may have intrinsics of its own, a file without a suffix is a PNG, and paths are relative to the JSON file.
Lenses must have no distortion: undistort images first, as COLMAP can.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from aleator.data import read_picture
from aleator.fields.cameras import Cameras, focal_length

_DISTORTIONS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV")


def read_transforms(
    path: str | os.PathLike[str],
) -> tuple[UInt8[Tensor, "view height width channel"], Cameras]:
    """Read the images and cameras of a ``transforms.json``; needs the extra ``fields``.

    Args:
        path: the JSON file.

    Returns:
        The images, bytes of 1, 3 or 4 channels, and their cameras, float64.

    Raises:
        FileNotFoundError: if the JSON file is not there.
        ValueError: in one line, if it is not of this form, names images that are not there, an image has another size
            than its camera or the other images, a lens has distortion, or a pose is none.
    """
    path = Path(path)
    document = _parsed(path)
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{path} must have a list of frames, got {'none' if not frames else type(frames).__name__}")
    files = [_image_file(path, number, frame) for number, frame in enumerate(frames)]
    if missing := [file.name for file in files if not file.is_file()]:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ValueError(f"{path} names {len(frames)} frames, of which {len(missing)} are not there: {shown}")
    images: list[Tensor] = []
    poses, intrinsics = [], []
    for number, (frame, file) in enumerate(zip(frames, files, strict=True)):
        image = read_picture(file)
        facts = {name: value for name, value in {**document, **frame}.items() if name != "frames"}
        intrinsics.append(_intrinsics(f"{path}, frame {number}", facts, image, file))
        poses.append(_pose(f"{path}, frame {number}", frame))
        if image.shape != images[0].shape if images else False:
            raise ValueError(f"{file} must be of the size of {files[0].name}, {_size(images[0])}, got {_size(image)}")
        images.append(image)
    height, width = images[0].shape[:2]
    try:
        cameras = Cameras(torch.stack(poses), torch.tensor(intrinsics, dtype=torch.float64), height, width)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return torch.stack(images), cameras


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold an object with frames, got {type(document).__name__}")
    return document


def _image_file(path: Path, number: int, frame: Any) -> Path:
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not Path(name).name:
        raise ValueError(f"{path}, frame {number} must have a file_path, got {name!r}")
    file = path.parent / name
    return file if file.suffix.lower() in (".png", ".jpg", ".jpeg") else file.with_name(file.name + ".png")


def _pose(where: str, frame: dict[str, Any]) -> Tensor:
    try:
        pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} must have a transform_matrix of 4 x 4 numbers: {error}") from None
    if pose.shape != (4, 4):
        raise ValueError(f"{where} must have a transform_matrix of 4 x 4 numbers, got shape {list(pose.shape)}")
    return pose


def _intrinsics(where: str, facts: dict[str, Any], image: Tensor, file: Path) -> list[float]:
    """Return fx, fy, cx, cy of a frame, whose camera must be of the image's size and without distortion."""
    model = facts.get("camera_model", "PINHOLE")
    if model not in _PINHOLES:
        raise ValueError(f"{where}: camera_model must be one of {', '.join(_PINHOLES)}, got {model}")
    if facts.get("is_fisheye", False):
        raise ValueError(f"{where}: is_fisheye must be false, undistort the images first, got {facts['is_fisheye']}")
    for name in _DISTORTIONS:
        if _number(where, facts, name, 0.0) != 0:
            raise ValueError(f"{where}: {name} must be 0, undistort the images first, got {facts[name]}")
    height, width = image.shape[:2]
    announced = [_number(where, facts, name, size) for name, size in (("w", width), ("h", height))]
    if announced != [width, height]:
        raise ValueError(
            f"{file} must be {announced[0]:g} x {announced[1]:g} as its camera says, got {width} x {height}"
        )
    if "fl_x" in facts:
        fx = _number(where, facts, "fl_x")
        fy = _number(where, facts, "fl_y", fx)
    elif "camera_angle_x" in facts:
        fx = fy = focal_length(width, _angle(where, facts, "camera_angle_x"))
        if "camera_angle_y" in facts:
            fy = focal_length(height, _angle(where, facts, "camera_angle_y"))
    else:
        raise ValueError(f"{where} must have fl_x or camera_angle_x, got neither")
    return [fx, fy, _number(where, facts, "cx", width / 2), _number(where, facts, "cy", height / 2)]


def _angle(where: str, facts: dict[str, Any], name: str) -> float:
    angle = _number(where, facts, name)
    if not 0 < angle < math.pi:
        raise ValueError(f"{where}: {name} must be in (0, pi), got {angle:g}")
    return angle


def _number(where: str, facts: dict[str, Any], name: str, default: float | None = None) -> float:
    value = facts.get(name, default)
    # An integer may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")
    return float(value)


def _size(image: Tensor) -> str:
    height, width, channels = image.shape
    return f"{width} x {height} with {channels} channels"
