import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.fields import (
    Cameras,
    FourierField,
    Rays,
    VoxelField,
    box_range,
    psnr,
    ray_weights,
    render,
    ssim,
    trilinear,
)
from aleator.random import Streams


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def field(resolution: int = 6, channels: int = 3, low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0)) -> VoxelField:
    made = VoxelField(resolution, low, high, channels).double()
    with torch.no_grad():
        made.table.copy_(torch.randn(made.table.shape, generator=generator(), dtype=torch.float64))
    return made


def rays(count: int) -> Rays:
    """Rays from a sphere of radius 3 to points near the middle."""
    origins = 3 * F.normalize(torch.randn(count, 3, generator=generator(1), dtype=torch.float64), dim=1)
    targets = 0.5 * torch.randn(count, 3, generator=generator(2), dtype=torch.float64)
    return Rays(origins, F.normalize(targets - origins, dim=1))


# --- the grid


def test_interpolation_is_that_of_grid_sample_forwards_and_backwards():
    shape, channels, points = (4, 5, 6), 3, 200
    table = torch.randn(4 * 5 * 6, channels, generator=generator(), dtype=torch.float64, requires_grad=True)
    unit = torch.rand(3, points, generator=generator(1), dtype=torch.float64)
    unit[:, :5] = torch.tensor([0.0, 1.0, -0.3, 1.4, 0.5])  # on the edge, beyond it
    x, y, z = (u * (n - 1) for u, n in zip(unit, shape, strict=True))
    volume = table.T.reshape(1, channels, 6, 5, 4)
    places = (2 * unit - 1).T.view(1, 1, 1, points, 3)
    plain = F.grid_sample(volume, places, align_corners=True, padding_mode="border").view(channels, points).T
    ours = trilinear(table, shape, x, y, z)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)
    weights = torch.randn(points, channels, generator=generator(2), dtype=torch.float64)
    gradients = [torch.autograd.grad((weights * out).sum(), table)[0] for out in (ours, plain)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_interpolation_says_what_it_needs():
    table = torch.zeros(8, 2)
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="a row for each node of 2 x 2 x 3, at least 2 along each axis, got 8 rows"):
        trilinear(table, (2, 2, 3), x, x, x)
    with pytest.raises(ValueError, match="points must not require gradients"):
        trilinear(table, (2, 2, 2), x, x, torch.zeros(1, requires_grad=True))


def test_a_voxel_begins_with_the_opacity_that_was_asked_for():
    made = VoxelField(11, (-1, -1, -1), (1, 1, 1), opacity=0.3)
    density, colour = made.at(torch.zeros(1, 3))
    assert 1 - math.exp(-density.item() * 0.2) == pytest.approx(0.3, abs=1e-6)
    assert colour.tolist() == [[0.5] * 3]


def test_points_on_rays_are_the_points_themselves():
    made = field(low=(-1, -2, -1), high=(1, 0, 3))
    some, distances = rays(5), torch.rand(5, 7, generator=generator(), dtype=torch.float64) * 4
    density, colour = made(*some, distances)
    points = some.origins[:, None] + distances[..., None] * some.directions[:, None]
    each_density, each_colour = made.at(points.flatten(0, 1))
    torch.testing.assert_close(density.flatten(), each_density, atol=1e-10, rtol=0)
    torch.testing.assert_close(colour.flatten(1).T, each_colour, atol=1e-10, rtol=0)


def test_an_endless_field_has_its_box_in_the_middle_half_and_the_rest_of_space_around_it():
    made = VoxelField(9, (-2, -2, -2), (2, 2, 2), 1, endless=True).double()
    with torch.no_grad():  # a colour that says where in the grid a point is, along x
        made.table[:, 1] = torch.arange(9.0).repeat(81)
    place = torch.tensor([[0.0, 0, 0], [2, 0, 0], [-2, 1, 1], [8, 0, 0], [1e9, 5, 5], [0, 8, 0]], dtype=torch.float64)
    _, colour = made.at(place)
    # in grid units: the middle 4, the faces of the box 6 and 2, four half sides away (2 - 1/4) * 2 beyond the middle
    assert torch.logit(colour[:, 0]).tolist() == pytest.approx([4, 6, 2, 7.5, 8, 4], abs=1e-6)
    density, _ = made.at(place[:1])  # 4 nodes over the 4 units of the box
    assert 1 - math.exp(-density.item() * 1.0) == pytest.approx(0.05, abs=1e-6)


# --- rays through it


class Fog:
    """The same density and colour everywhere in a box."""

    low, high = torch.full((3,), -1.0, dtype=torch.float64), torch.full((3,), 1.0, dtype=torch.float64)

    def __init__(self, density: float, colour: float) -> None:
        self.density, self.colour = density, colour

    def __call__(self, origins: Tensor, directions: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(distances, self.density), torch.full_like(distances, self.colour).unsqueeze(0)


def test_fog_dims_what_is_behind_it_by_beers_law_up_to_the_stated_end():
    straight = Rays(*torch.tensor([[[-3.0, 0.2, 0.1]], [[1.0, 0.0, 0.0]]], dtype=torch.float64))
    for far, length in ((10.0, 2.0), (3.5, 1.5)):  # where the box ends, or before
        seen = render(Fog(0.7, 0.2), straight, 0.0, far, samples=3000, background=1.0)
        left = math.exp(-0.7 * length)
        assert seen.opacity.item() == pytest.approx(1 - left, abs=1e-12)
        assert seen.colour.item() == pytest.approx(0.2 * (1 - left) + left, abs=1e-12)
        # ∫ t σ e^{−σ (t − 2)} dt over the fog, and what is left sees the end
        mean = 2 + (1 - left * (1 + 0.7 * length)) / 0.7 + left * length
        assert seen.distance.item() == pytest.approx(mean, abs=1e-6)


def test_pieces_of_equal_inverse_distance_end_where_they_should():
    class Everywhere(Fog):
        low, high = (torch.full((3,), sign * torch.inf, dtype=torch.float64) for sign in (-1, 1))

    straight = Rays(*torch.tensor([[[0.0, 0.2, 0.1]], [[1.0, 0.0, 0.0]]], dtype=torch.float64))
    seen = render(Everywhere(0.1, 0.2), straight, 0.5, 20.0, 64, spacing="inverse")
    assert seen.opacity.item() == pytest.approx(1 - math.exp(-0.1 * 19.5), abs=1e-12)
    with pytest.raises(ValueError, match="near must be positive with spacing inverse, got 0"):
        render(Everywhere(0.1, 0.2), straight, 0, 20.0, spacing="inverse")


def test_pieces_of_equal_inverse_distance_have_their_samples_where_they_should():
    class Where(Fog):
        low, high = (torch.full((3,), sign * torch.inf, dtype=torch.float64) for sign in (-1, 1))

        def __call__(self, origins: Tensor, directions: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
            self.distances = distances
            return super().__call__(origins, directions, distances)

    fog, straight = Where(0.1, 0.2), Rays(*torch.tensor([[[0.0, 0.2, 0.1]], [[1.0, 0.0, 0.0]]], dtype=torch.float64))
    render(fog, straight, 1.0, 4.0, 3, spacing="inverse")
    edges = [1, 4 / 3, 2, 4]  # 1 / t = 1, 3/4, 1/2, 1/4
    assert fog.distances[0].tolist() == pytest.approx([(a + b) / 2 for a, b in itertools.pairwise(edges)], abs=1e-12)
    render(fog, straight, 1.0, 4.0, 3, spacing="inverse", places=torch.tensor([[0.0, 0.25, 1.0]], dtype=torch.float64))
    assert fog.distances[0].tolist() == pytest.approx([1, 4 / 3 + 1 / 6, 4], abs=1e-12)


def test_a_ray_beside_the_box_sees_the_background_at_the_far_end():
    beside = Rays(*torch.tensor([[[-3.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]]], dtype=torch.float64))
    seen = render(Fog(5.0, 0.2), beside, 0.5, 4.0, background=0.9)
    assert seen.colour.tolist() == [[0.9]]
    assert (seen.opacity.item(), seen.distance.item()) == (0.0, 4.0)


def test_a_ray_begins_and_ends_where_it_crosses_the_box():
    origins = torch.tensor([[-3.0, 0, 0], [0, 0, 0], [-3, 1, 0], [-3, 0.5, 0], [-3, 0, 1]], dtype=torch.float64)
    directions = torch.tensor([[1.0, 0, 0], [0, -1, 0], [1, 0, 0], [0.6, 0.8, 0], [1, -0.0, -0.0]], dtype=torch.float64)
    begin, end = box_range(Rays(origins, directions), Fog.low, Fog.high, 0.1, 9.0)
    assert begin.tolist() == [
        2.0,
        0.1,
        2.0,
        9.0,
        2.0,
    ]  # from outside, from inside, along a face, beside, along a face with −0
    assert end.tolist() == [4.0, 1.0, 4.0, 9.0, 4.0]


def test_weights_are_the_product_of_what_is_let_through_and_their_derivative_is_exact():
    density = torch.rand(3, 5, generator=generator(), dtype=torch.float64).requires_grad_()
    piece = torch.tensor([[0.5], [2.0], [0.0]], dtype=torch.float64)
    opacity = 1 - torch.exp(-density * piece)
    through = torch.cumprod(torch.cat([torch.ones(3, 1), 1 - opacity], 1), 1)[:, :-1]
    torch.testing.assert_close(ray_weights(density, piece), opacity * through, atol=1e-14, rtol=0)
    assert torch.autograd.gradcheck(lambda d: ray_weights(d, piece), (density,))


def test_weights_of_thin_air_keep_their_digits():
    thin = torch.full((1, 4), 1e-6)
    torch.testing.assert_close(ray_weights(thin, torch.ones(1, 1)), thin, rtol=1e-5, atol=0)


def test_a_step_through_the_field_has_the_gradient_of_plain_autograd():
    made, some = field(channels=2), rays(9)
    places = torch.rand(9, 12, generator=generator(5), dtype=torch.float64)
    seen = render(made, some, 0.0, 10.0, samples=12, background=0.3, places=places)
    goal = torch.rand(9, 2, generator=generator(6), dtype=torch.float64)
    (ours,) = torch.autograd.grad((seen.colour - goal).square().sum(), made.table)

    begin, end = box_range(some, made.low, made.high, 0.0, 10.0)
    piece = ((end - begin) / 12)[:, None]
    distances = begin[:, None] + (torch.arange(12) + places) * piece
    points = some.origins[:, None] + distances[..., None] * some.directions[:, None]
    volume = made.table.T.reshape(1, 3, 6, 6, 6)
    rows = F.grid_sample(volume, points[None, None], align_corners=True, padding_mode="border")[0, :, 0]
    opacity = 1 - torch.exp(-F.softplus(rows[0] + made.shift) * (5 / 2) * piece)
    through = torch.cumprod(torch.cat([torch.ones(9, 1), 1 - opacity], 1), 1)
    weights = opacity * through[:, :-1]
    colour = (weights * torch.sigmoid(rows[1:])).sum(2).T + 0.3 * through[:, -1:]
    torch.testing.assert_close(seen.colour, colour, atol=1e-12, rtol=0)
    (plain,) = torch.autograd.grad((colour - goal).square().sum(), made.table)
    torch.testing.assert_close(ours, plain, atol=1e-11, rtol=0)


def test_samples_are_in_the_middle_of_their_pieces_unless_placed():
    made, some = field(), rays(4)
    middle = render(made, some, 0.0, 9.0, 4).colour
    assert torch.equal(
        middle, render(made, some, 0.0, 9.0, 4, places=torch.full((4, 4), 0.5, dtype=torch.float64)).colour
    )
    assert not torch.equal(
        middle, render(made, some, 0.0, 9.0, 4, places=torch.zeros(4, 4, dtype=torch.float64)).colour
    )


@pytest.mark.plain
def test_rays_that_are_not_finite_and_ranges_that_are_none_are_refused_in_a_line():
    made, some = field(), rays(6)
    broken = Rays(some.origins.index_fill(0, torch.tensor([2, 4]), math.nan), some.directions)
    with pytest.raises(ValueError, match=r"rays must be finite, got 2 of 6 that are not, the first is 2$"):
        render(made, broken, 0.0, 5.0)
    with pytest.raises(ValueError, match=r"near and far must be 0 <= near < far, got 2\.0 and 1\.0"):
        render(made, some, 2.0, 1.0)
    with pytest.raises(ValueError, match="resolution must be at least 2, got 1"):
        VoxelField(1)
    with pytest.raises(ValueError, match=r"opacity must be in \(0, 1\), got 1.0"):
        VoxelField(4, opacity=1.0)


# --- cameras


def test_a_pixels_ray_meets_the_point_that_projects_onto_it():
    angle = 0.4
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    cameras = Cameras(pose[None], torch.tensor([[50.0, 40.0, 31.0, 22.0]], dtype=torch.float64), 48, 64)
    found = cameras.rays(*(torch.tensor([number]) for number in (0, 10, 45)))
    point = found.origins[0] + 7.0 * found.directions[0]
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    assert (-50 * x / z + 31).item() == pytest.approx(45.5)  # right of the image is right in the scene
    assert (40 * y / z + 22).item() == pytest.approx(10.5)  # up is up
    assert z.item() < 0
    assert found.directions.norm().item() == pytest.approx(1, abs=1e-12)
    everything = cameras.image_rays(0)
    torch.testing.assert_close(everything.directions[10 * 64 + 45], found.directions[0])
    half = cameras.shrunk(2)
    assert (half.height, half.width) == (24, 32)
    four = everything.directions.view(24, 2, 32, 2, 3)[5, :, 7].flatten(0, 1).mean(0)
    torch.testing.assert_close(half.image_rays(0).directions[5 * 32 + 7], F.normalize(four, dim=0), atol=1e-4, rtol=0)


@pytest.mark.plain
def test_cameras_that_are_none_are_refused():
    eye, lens = torch.eye(4).repeat(3, 1, 1), torch.ones(3, 4)
    broken = eye.clone()
    broken[1, 0, 0] = math.nan
    with pytest.raises(ValueError, match="poses must be finite, got those of camera 1"):
        Cameras(broken, lens, 4, 4)
    with pytest.raises(ValueError, match="orthonormal rotations, got one of camera 0 that is off by 3"):
        Cameras(2 * eye, lens, 4, 4)
    with pytest.raises(ValueError, match="focal lengths must be positive, got -1"):
        Cameras(eye, -lens, 4, 4)
    mirror = eye.clone()
    mirror[2, 1, 1] = -1
    with pytest.raises(ValueError, match="poses must not mirror, got that of camera 2, which does"):
        Cameras(mirror, lens, 4, 4)


# --- measures and the plane


def test_psnr_and_ssim_are_their_formulas():
    image, truth = torch.rand(2, 2, 14, 13, 3, generator=generator())
    assert psnr(image, truth)[1].item() == pytest.approx(-10 * math.log10((image[1] - truth[1]).square().mean()), 1e-6)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    a, b = image[1].double().numpy(), truth[1].double().numpy()
    scores = []
    for row in range(4):
        for column in range(3):
            for channel in range(3):
                x, y = (v[row : row + 11, column : column + 11, channel] for v in (a, b))
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                c = (weights * (x - mx) * (y - my)).sum()
                scores.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(image, truth)[1].item() == pytest.approx(np.mean(scores), abs=1e-12)
    assert ssim(image, image).tolist() == pytest.approx([1, 1], abs=1e-12)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels for SSIM, got 10 x 13"):
        ssim(image[:, :10], truth[:, :10])


@pytest.mark.plain
@pytest.mark.parametrize("measure", [psnr, ssim])
def test_bytes_are_not_taken_for_colours_between_0_and_1(measure):
    image, colours = torch.full((12, 12, 3), 200, dtype=torch.uint8), torch.rand(12, 12, 3, generator=generator())
    with pytest.raises(ValueError, match=r"truth must be floating point, with colours in \[0, 1\], got torch.uint8"):
        measure(colours, image)


def test_a_fourier_field_is_its_formula_and_its_frequencies_come_from_the_generator():
    with Streams(0).scope("init"):
        made = FourierField(2, 1, features=5, scale=3.0, width=4, generator=generator(9))
        again = FourierField(2, 1, features=5, scale=3.0, width=4, generator=generator(9))
    assert torch.equal(made.frequencies, again.frequencies)
    drawn = 3.0 * torch.randn(5, 2, generator=generator(9))
    place = torch.tensor([[0.3, 0.8]])
    phase = 2 * math.pi * (place @ drawn.T)
    expected = made.layers(torch.cat([torch.cos(phase), torch.sin(phase)], 1))
    torch.testing.assert_close(made(place), expected)


def test_a_fourier_field_keeps_its_phases_under_autocast():
    with Streams(0).scope("init"):
        made = FourierField(2, 3, generator=generator(9))
    many = torch.rand(200, 2, generator=generator(1))
    given = []
    made.layers.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].float()))
    made(many)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made(many)
    torch.testing.assert_close(given[1], given[0], atol=1e-2, rtol=0)  # phases in bfloat16 are off by two radians
