"""Faces that a user's detector finds, and who they are."""

import math

import pytest
import torch

from aleator.video import Face, aligned_face, read_references, similarity_transform
from aleator.video.faces import TEMPLATE

imageio = pytest.importorskip("imageio.v3", reason="needs the extra fields: pip install 'aleator[fields]'")


class Encoder:
    """The mean colour of a face."""

    width = 3

    def __call__(self, faces):
        return faces.float().mean((1, 2))


class Detector:
    """One bright square is a small face, whose points are those of the template; a dark image has none."""

    def __call__(self, image):
        if int(image.max()) < 100:
            return []
        points = torch.tensor(TEMPLATE)
        return [Face((0, 0, 10, 10), points * 0.1), Face((0, 0, 96, 112), points)]


def test_a_similarity_is_found_from_points_that_it_moved():
    turn, scale, shift = 0.7, 2.5, torch.tensor([3.0, -4.0], dtype=torch.float64)
    matrix = scale * torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64
    )
    points = torch.tensor(TEMPLATE, dtype=torch.float64)
    found, offset = similarity_transform(points, points @ matrix.T + shift)
    assert torch.allclose(found, matrix, atol=1e-10, rtol=0)
    assert torch.allclose(offset, shift, atol=1e-9, rtol=0)
    mirrored = points * torch.tensor([-1.0, 1.0])
    assert float(torch.linalg.det(similarity_transform(points, mirrored)[0])) > 0  # a face is never mirrored


def test_the_largest_face_is_brought_to_the_template():
    image = torch.arange(112 * 96 * 3).view(112, 96, 3).remainder(251).to(torch.uint8)
    crop = aligned_face(image, Detector(), side=96)
    # The template is squeezed to a square; no similarity does that, so the fit is by least squares. Its middle stays.
    assert crop.shape == (96, 96, 3)
    target = torch.tensor(TEMPLATE, dtype=torch.float64) * torch.tensor([1.0, 96 / 112])
    matrix, offset = similarity_transform(target, torch.tensor(TEMPLATE, dtype=torch.float64))
    assert torch.allclose(matrix @ target.mean(0) + offset, torch.tensor(TEMPLATE, dtype=torch.float64).mean(0))


def test_a_photograph_is_shrunk_to_1024_pixels_before_a_face_is_looked_for():
    seen = []

    def detector(image):
        seen.append(image)
        return []

    for shape in ((1024, 700, 3), (4, 2048, 1)):
        with pytest.raises(ValueError, match="no face was found"):
            aligned_face(torch.full(shape, 200, dtype=torch.uint8), detector)
    assert [tuple(image.shape) for image in seen] == [(1024, 700, 3), (2, 1024, 3)]
    assert bool((seen[1] == 200).all())


@pytest.mark.parametrize("points", [torch.ones(5, 2), torch.full((5, 2), torch.nan), torch.rand(4, 2)])
@pytest.mark.plain
def test_a_face_without_five_points_is_refused(points):
    with pytest.raises(ValueError, match="a face must have five points that are finite and apart, got"):
        aligned_face(torch.zeros(9, 9, 3, dtype=torch.uint8), lambda image: [Face((0, 0, 9, 9), points)])


def test_a_photograph_without_a_face_is_named_and_the_others_go_on(tmp_path):
    for name, value in (("a", 200), ("dark", 10), ("b", 150)):
        imageio.imwrite(tmp_path / f"{name}.png", torch.full((112, 96, 3), value, dtype=torch.uint8).numpy())
    (tmp_path / "no.png").write_bytes(b"no picture")
    files = [tmp_path / f"{name}.png" for name in ("a", "dark", "no", "b")]
    found = read_references(files, Detector(), Encoder(), id_dim=3)
    assert found.files == (str(files[0]), str(files[3]))
    assert found.crops.shape == (2, 512, 512, 3)
    assert found.identity.shape == (2, 3)
    assert found.refused[str(files[1])] == f"{files[1]}: no face was found"
    assert "no.png" in found.refused[str(files[2])]
    assert read_references(files[1:2], Detector(), Encoder()).identity.shape == (0, 3)


@pytest.mark.plain
def test_refuses_an_embedder_of_another_width():
    with pytest.raises(ValueError, match="an identity vector must have the width 512, got an encoder of 3"):
        read_references([], Detector(), Encoder(), id_dim=512)
