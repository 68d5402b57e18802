"""Views of scenes and single pictures are read as their files say, and a file that only a mirror has says so."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aleator.cli import main
from aleator.data import CATALOG, Pictures, Views, fetch, load
from aleator.data.sets.views import views
from aleator.fields import Cameras


def test_every_camera_of_the_plaster_head_looks_at_its_middle(mirror):
    found = load("nerf-buddha")
    assert isinstance(found, Views)
    assert found.images.shape == (67, 192, 342, 1)
    assert found.test.tolist() == list(range(0, 67, 8))
    assert sorted([*found.train.tolist(), *found.test.tolist()]) == list(range(67))
    cameras = Cameras(found.poses, found.intrinsics, 192, 342)
    center = torch.tensor(found.center, dtype=torch.float64)
    for number in range(0, 67, 11):
        middle = cameras.rays(*(torch.tensor([at]) for at in (number, 96, 171)))
        towards = torch.nn.functional.normalize(center - middle.origins[0], dim=0)
        assert (towards @ middle.directions[0]).item() > math.cos(math.radians(15))
    with np.load(mirror / "nerf-buddha" / "buddha_342x192.npz") as archive:
        assert found.intrinsics[0, 2].item() == pytest.approx(archive["gray_K"][0, 2] + 0.5)  # centres at halves


def test_lego_is_in_front_of_white_and_split_as_published(mirror):
    found = load("nerf-lego-100")
    assert (len(found.train), len(found.test)) == (100, 25)
    colours = found.colours(found.test[:2])
    assert colours.shape == (2, 100, 100, 3)
    assert torch.equal(colours[:, 0, 0], torch.ones(2, 3))
    black = found.colours(found.test[:2], background=0.0)
    assert torch.equal(black[:, 0, 0], torch.zeros(2, 3))
    opaque = found.images[found.test[:2]][..., 3] == 255
    assert torch.equal(colours[opaque], black[opaque])
    assert any("tests only" in note for note in found.notes)


def test_pictures_are_read_by_name(mirror):
    pytest.importorskip("imageio", reason="needs the extra fields: pip install 'aleator[fields]'")
    found = load("images")
    assert isinstance(found, Pictures)
    shapes = {name: tuple(picture.shape) for name, picture in found.items()}
    assert shapes == {
        "astronaut": (512, 512, 3), "camera": (512, 512, 1), "chelsea": (300, 451, 3), "coffee": (400, 600, 3)
    }  # fmt: skip


def test_a_set_that_only_a_mirror_has_says_so(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"has no address to download it from; set ALEATOR_DATA to a folder"):
        load("nerf-buddha", tmp_path)
    with pytest.raises(ConnectionError, match=r"nerf-buddha/buddha_342x192\.npz$"):
        fetch("nerf-buddha", tmp_path)
    assert main(["data", "fetch", "nerf-lego-100", "--root", str(tmp_path)]) == 1
    assert "nerf-lego-100 has no address to download it from" in capsys.readouterr().err


@pytest.mark.plain
def test_a_file_that_is_no_file_of_views_is_one_line(tmp_path):
    info = dataclasses.replace(CATALOG["nerf-lego-100"])
    path = tmp_path / "lego.npz"
    np.savez(
        path, rgba=np.zeros((2, 3, 3, 4), np.uint8), c2w=np.full((2, 4, 4), np.nan), focal=[1.0], split=[b"test"] * 2
    )
    with pytest.raises(ValueError, match="is not an npz file of views: its poses are not one finite 4 x 4"):
        views(info, {path.name: path}, ())
    np.savez(path, rgba=np.zeros((2, 3, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="is not an npz file of views") as caught:
        views(info, {path.name: path}, ())
    assert "\n" not in str(caught.value)
