import json
import math

import numpy as np
import pytest
import torch

from aleator.fields import Rays, read_transforms, room_cameras, see_room

imageio = pytest.importorskip("imageio.v3", reason="needs the extra fields: pip install 'aleator[fields]'")


@pytest.fixture
def written(tmp_path):
    """Write a file of cameras and its images, and return it; ``write(document, sizes)``."""

    def write(document=None, size=(12, 16), **facts):
        document = {"camera_angle_x": 1.0, "frames": frames(2)} | (document or {}) | facts
        for number in range(2):
            pixels = np.full((*size, 3), 100 * number + 20, np.uint8)
            imageio.imwrite(tmp_path / f"r_{number}.png", pixels)
        (tmp_path / "transforms.json").write_text(json.dumps(document))
        return tmp_path / "transforms.json"

    return write


def frames(count, suffix=""):
    pose = torch.eye(4).tolist()
    return [{"file_path": f"./r_{number}{suffix}", "transform_matrix": pose} for number in range(count)]


def test_a_file_of_blender_has_one_angle_and_no_suffixes(written):
    images, cameras = read_transforms(written())
    assert images.shape == (2, 12, 16, 3)
    assert images[1].unique().tolist() == [120]
    focal = 8 / math.tan(0.5)
    assert cameras.intrinsics.tolist() == [pytest.approx([focal, focal, 8, 6])] * 2
    assert (cameras.height, cameras.width) == (12, 16)


def test_a_file_of_nerfstudio_has_intrinsics_for_all_or_for_each_frame(written):
    own = frames(2, ".png")
    own[1] |= {"fl_x": 33.0, "fl_y": 34.0}
    lens = {"fl_x": 30.0, "fl_y": 31.0, "cx": 7.5, "cy": 6.5, "w": 16, "h": 12, "k1": 0.0, "camera_model": "OPENCV"}
    _, cameras = read_transforms(written({**lens, "frames": own}))
    assert cameras.intrinsics.tolist() == [[30.0, 31.0, 7.5, 6.5], [33.0, 34.0, 7.5, 6.5]]


BAD = {
    "distortion": ({"k1": 0.1}, "k1 must be 0, undistort the images first, got 0.1"),
    "fisheye": ({"camera_model": "OPENCV_FISHEYE"}, "camera_model must be one of PINHOLE, .*, got OPENCV_FISHEYE"),
    "missing": ({"frames": frames(4)}, r"names 4 frames, of which 2 are not there: r_2.png, r_3.png$"),
    "size": ({"w": 32, "h": 24}, r"r_0.png must be 32 x 24 as its camera says, got 16 x 12"),
    "no frames": ({"frames": []}, "must have a list of frames, got none"),
    "no lens": ({"camera_angle_x": None}, "camera_angle_x must be a finite number, got None"),
    "angle": ({"camera_angle_x": 3.5}, r"camera_angle_x must be in \(0, pi\), got 3.5"),
    "other angle": ({"camera_angle_y": 0}, r"camera_angle_y must be in \(0, pi\), got 0"),
    "sixth coefficient": ({"k6": 0.1}, "k6 must be 0, undistort the images first, got 0.1"),
    "is fisheye": ({"is_fisheye": True}, "is_fisheye must be false, undistort the images first, got True"),
    "too large": ({"fl_x": 10**400}, "fl_x must be a finite number, got 1000"),
    "root": ({"frames": [{"file_path": "/"}]}, "frame 0 must have a file_path, got '/'"),
    "pose too large": (
        {"frames": [{"file_path": "r_0", "transform_matrix": [[10**400] * 4] * 4}]},
        "frame 0 must have a transform_matrix of 4 x 4 numbers",
    ),
    "mirror": (
        {"frames": [{"file_path": "r_0", "transform_matrix": np.diag([1.0, -1, 1, 1]).tolist()}]},
        "poses must not mirror, got that of camera 0",
    ),
    "no path": ({"frames": [{}]}, "frame 0 must have a file_path, got None"),
    "no pose": ({"frames": [{"file_path": "r_0"}]}, "frame 0 must have a transform_matrix of 4 x 4 numbers"),
    "no rotation": (
        {"frames": [{"file_path": "r_0", "transform_matrix": (3 * torch.eye(4)).tolist()}]},
        "poses must have orthonormal rotations",
    ),
}


@pytest.mark.plain
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_one_line(written, name):
    facts, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        read_transforms(written(facts))
    assert "\n" not in str(caught.value)


@pytest.mark.plain
def test_images_of_two_sizes_and_files_that_are_none_are_one_line(written, tmp_path):
    path = written()
    imageio.imwrite(tmp_path / "r_1.png", np.zeros((12, 17, 3), np.uint8))
    with pytest.raises(ValueError, match=r"r_1\.png must be of the size of r_0\.png, 16 x 12 with 3 channels, got 17"):
        read_transforms(path)
    (tmp_path / "r_1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"r_1\.png is not an image") as caught:
        read_transforms(path)
    assert "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"transforms\.json is not JSON"):
        read_transforms(path)


# --- the room


def test_rays_meet_walls_and_spheres_where_they_are():
    directions = torch.tensor([[0.0, -1, 0], [0, 0, 1], [0.62, -0.30, -0.45]], dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    seen = see_room(Rays(torch.zeros(3, 3, dtype=torch.float64), directions))
    middle = math.sqrt(0.62**2 + 0.30**2 + 0.45**2)
    assert seen.distance.tolist() == pytest.approx([1.0, 1.0, middle - 0.28], abs=1e-7)
    assert seen.colour[2].argmax() == 0  # the red sphere
    assert (seen.colour > 0).all()
    assert (seen.colour < 1).all()


def test_cameras_are_in_the_room_upright_and_few_are_the_first_of_many():
    many, few, held_out = room_cameras(20, 8), room_cameras(7, 8), room_cameras(6, 8, held_out=True)
    assert torch.equal(many.poses[:7], few.poses)
    assert (many.poses[:, :3, 3].norm(dim=1) <= 0.25 + 1e-12).all()
    assert (many.poses[:, 1, 1] > 0.9).all()
    assert torch.cdist(many.poses[:, :3].flatten(1), held_out.poses[:, :3].flatten(1)).min() > 0.05
    yaw = torch.atan2(few.poses[:, 2, 2], few.poses[:, 0, 2]).sort().values
    assert yaw.diff().max() < math.radians(90)  # all around
