import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aleator.losses import S3IM, s3im, s3im_weight
from aleator.losses.s3im import _image_shape
from aleator.losses.windowed_ssim import places_of, window

SMALL = {"patch_height": 8, "patch_width": 8}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours(rays: int, seed: int = 0, channels: int = 3) -> tuple[Tensor, Tensor]:
    return tuple(torch.rand(2, rays, channels, generator=generator(seed), dtype=torch.float64))


def orders(rays: int, count: int, seed: int = 1) -> Tensor:
    return torch.stack([torch.randperm(rays, generator=generator(seed + i)) for i in range(count)])


def looped(a, b, index, kernel, stride, height, padding, bell):
    """SSIM of one image of the rays in the order ``index``, window by window and pixel by pixel."""
    width = len(index) // height
    pad = (kernel - 1) // 2 if padding == "official" else 0
    scores = []
    for top in range(-pad, height + pad - kernel + 1, stride):
        for left in range(-pad, width + pad - kernel + 1, stride):
            sums = np.zeros((5, a.shape[1]))
            for i in range(kernel):
                for j in range(kernel):
                    row, column = top + i, left + j
                    if 0 <= row < height and 0 <= column < width:
                        x, y = a[index[row * width + column]], b[index[row * width + column]]
                        sums += bell[i] * bell[j] * np.stack([x, y, x * x, y * y, x * y])
            ma, mb, aa, bb, ab = sums
            luminance = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
            scores.append(luminance * (2 * (ab - ma * mb) + 9e-4) / (aa - ma**2 + bb - mb**2 + 9e-4))
    return np.mean(scores)


@pytest.mark.parametrize("layout", ["super", "separate"])
@pytest.mark.parametrize("padding", ["official", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 4), (3, 2), (2, 3), (1, 1), (5, 1)])
def test_value_is_that_of_a_loop_over_windows(layout, padding, kernel, stride):
    a, b = colours(64)
    given = orders(64, 2)
    found = s3im(
        a, b, given, kernel_size=kernel, stride=stride, repeats=3, patch_height=8, padding=padding, layout=layout
    )
    every = [np.arange(64), *given.numpy()]
    images = [np.concatenate(every)] if layout == "super" else every
    bell = window(kernel, 1.5).numpy()
    expected = np.mean([looped(a.numpy(), b.numpy(), index, kernel, stride, 8, padding, bell) for index in images])
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_value_differs_from_the_official_float32_window_by_its_rounding():
    a, b = colours(64)
    bell = window(4, 1.5, torch.float32).double().numpy()
    official = looped(a.numpy(), b.numpy(), np.arange(64), 4, 4, 8, "official", bell)
    assert s3im(a, b, repeats=1, **SMALL).item() == pytest.approx(official, abs=5e-7)
    assert s3im(a.float(), b.float(), repeats=1, **SMALL).item() == pytest.approx(official, abs=5e-7)


def test_even_window_is_off_centre_with_the_weights_of_the_sheet():
    bell = window(4, 1.5)
    torch.testing.assert_close(
        bell / bell.max(), torch.tensor([0.4111, 0.8007, 1, 0.8007], dtype=torch.float64), atol=5e-5, rtol=0
    )
    assert bell.sum().item() == pytest.approx(1, abs=1e-15)


def test_default_sizes_have_2560_windows_and_leave_out_the_last_row_and_column():
    shape = _image_shape(4096, 10, 64, None, "super", 4)
    assert shape == _image_shape(4096, 10, 64, 64, "super", 4) == (1, 64, 640)
    places = places_of(4096, 10, 4, 4, 1.5, "official", shape, torch.float64, torch.device("cpu"))
    assert places.of_window.shape == (2560, 16)
    uncovered = (places.of_position == 2560).all(2).view(64, 640)
    expected = torch.zeros(64, 640, dtype=torch.bool)
    expected[63] = expected[:, 639] = True
    assert torch.equal(uncovered, expected)


def test_a_ray_has_no_gradient_exactly_where_no_window_has_it_in_any_order():
    a, b = colours(64)
    a.requires_grad_()
    one, two = orders(64, 2).tolist()
    (gradient,) = torch.autograd.grad(
        s3im(a, b, torch.tensor([one, two]), repeats=2, include_identity=False, layout="separate", **SMALL), a
    )
    edge = {row * 8 + 7 for row in range(8)} | {56 + column for column in range(8)}  # of an image of 8 x 8
    nowhere = {one[place] for place in edge} & {two[place] for place in edge}
    assert nowhere
    assert {ray for ray in range(64) if not gradient[ray].any()} == nowhere


@pytest.mark.parametrize("layout", ["super", "separate"])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 4), (3, 1), (1, 1), (3, 4)])
def test_gradient_in_both_arguments_is_the_derivative(layout, kernel, stride):
    a, b = (x.requires_grad_() for x in colours(64))
    given = orders(64, 1)

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        return s3im(x, y, given, kernel_size=kernel, stride=stride, repeats=2, patch_height=8, layout=layout)

    assert torch.autograd.gradcheck(similarity, (a, b))


@given(
    st.sampled_from([1, 2, 3, 4, 7]), st.integers(1, 5), st.integers(1, 3), st.sampled_from(["super", "separate"]),
    st.integers(60, 70),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_equal_colours_have_loss_and_gradient_0_and_the_loss_is_symmetric(kernel, stride, repeats, layout, rays):
    a, b = colours(rays)
    a.requires_grad_()
    loss = S3IM(kernel, stride, repeats, patch_height=8, layout=layout)
    given = orders(rays, repeats - 1) if repeats > 1 else None
    zero = loss(a, a.detach(), given)
    (gradient,) = torch.autograd.grad(zero, a)
    assert abs(zero.item()) <= 1e-12
    assert gradient.abs().max().item() <= 1e-12
    there, back = loss(a, b, given).item(), loss(b, a.detach(), given).item()
    assert there == pytest.approx(back, abs=1e-14)
    assert 0 <= there <= 2


def test_windows_of_one_pixel_are_the_closed_form_in_any_order():
    a, b = colours(64)
    expected = ((2 * a * b + 1e-4) / (a * a + b * b + 1e-4)).mean().item()
    for seed in (0, 1):
        found = s3im(a, b, kernel_size=1, stride=1, repeats=3, patch_height=8, generator=generator(seed))
        assert found.item() == pytest.approx(expected, abs=1e-12)
    plain = torch.full((64, 1), 0.3, dtype=torch.float64), torch.full((64, 1), 0.7, dtype=torch.float64)
    flat = S3IM(1, 1, 1, 8)(*plain).item()
    assert flat == pytest.approx(1 - (2 * 0.21 + 1e-4) / (0.09 + 0.49 + 1e-4), abs=1e-12)


def test_an_order_given_is_the_batch_in_that_order():
    a, b = colours(64)
    (order,) = orders(64, 1)
    given = s3im(a, b, order[None], repeats=1, include_identity=False, **SMALL)
    assert given.item() == s3im(a[order], b[order], repeats=1, **SMALL).item()


def test_one_repeat_with_the_identity_draws_nothing():
    a, b = colours(64)
    source = generator()
    before = source.get_state()
    assert s3im(a, b, repeats=1, generator=source, **SMALL) == s3im(a, b, repeats=1, **SMALL)
    assert torch.equal(source.get_state(), before)


def test_data_range_scales_with_the_colours():
    a, b = colours(64)
    given = orders(64, 1)
    one = s3im(a, b, given, repeats=2, **SMALL).item()
    scaled = s3im(255 * a, 255 * b, given, repeats=2, data_range=255.0, **SMALL).item()
    assert scaled == pytest.approx(one, abs=1e-12)
    assert s3im(255 * a, 255 * b, given, repeats=2, **SMALL).item() != pytest.approx(one, abs=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 255.0, 1e15])
def test_in_float32_the_loss_is_that_of_float64_at_any_scale(scale):
    generator = torch.Generator().manual_seed(3)
    pred, target = scale * torch.rand(2, 256, 3, generator=generator, dtype=torch.float64)
    orders = torch.stack([torch.randperm(256, generator=generator) for _ in range(9)])
    exact, found = (
        S3IM(patch_height=8, data_range=scale)(pred.to(dtype), target.to(dtype), orders)
        for dtype in (torch.float64, torch.float32)
    )
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("data_range", [0.3, 1.0, 7.0, 255.0])
@pytest.mark.parametrize("grey", [0.0, 1e-7, 0.3, 1.0])
def test_equal_flat_colours_have_loss_0_to_the_bit(grey, data_range):
    flat = torch.full((256, 3), grey)
    assert S3IM(patch_height=8, data_range=data_range, generator=torch.Generator().manual_seed(0))(flat, flat) == 0


def test_a_mask_drops_rays_and_their_gradient():
    a, b = colours(70)
    mask = torch.ones(70, dtype=torch.bool)
    mask[[3, 40, 41, 50, 60, 69]] = False
    broken = torch.where(mask[:, None], a, torch.nan).requires_grad_()
    masked = s3im(broken, b, orders(64, 1), mask, repeats=2, **SMALL)
    assert masked.item() == s3im(a[mask], b[mask], orders(64, 1), repeats=2, **SMALL).item()
    (gradient,) = torch.autograd.grad(masked, broken)
    assert not gradient[~mask].any()
    assert gradient[mask].any()


@pytest.mark.parametrize("layout", ["super", "separate"])
def test_any_number_of_rays_fills_a_patch_without_a_width(layout):
    a, b = colours(67)
    given = orders(67, 2)
    found = s3im(a, b, given, repeats=3, patch_height=8, layout=layout)
    every = [np.arange(67), *given.numpy()]
    images = [np.concatenate(every)[: 25 * 8]] if layout == "super" else [order[:64] for order in every]
    bell = window(4, 1.5).numpy()
    expected = np.mean([looped(a.numpy(), b.numpy(), index, 4, 4, 8, "official", bell) for index in images])
    assert found.item() == pytest.approx(expected, abs=1e-12)


def drawn(a: Tensor, b: Tensor, repeats: int, count: int, seed: int) -> Tensor:
    loss = S3IM(4, 4, repeats, 8, 8, include_identity=False, layout="separate", generator=generator(seed))
    return torch.stack([loss(a, b) for _ in range(count)])


def test_without_the_identity_the_expectation_does_not_depend_on_the_given_order():
    """Two means over 1 000 draws; they differ by 4 standard errors in one of 16 000 runs, and the seed is fixed."""
    a, b = colours(64)
    b = (a + 0.2 * b).clamp(max=1)
    by_brightness = a.sum(1).argsort()
    one, two = drawn(a, b, 1, 1000, 5), drawn(a[by_brightness], b[by_brightness], 1, 1000, 6)
    error = math.sqrt((one.var() + two.var()).item() / 1000)
    assert abs(one.mean() - two.mean()).item() < 4 * error
    with_identity = S3IM(4, 4, 1, 8, 8)
    assert abs(with_identity(a, b) - with_identity(a[by_brightness], b[by_brightness])).item() > 10 * error


def test_ten_orders_have_the_deviation_of_one_divided_by_root_ten():
    """Over 400 draws the ratio is within 25 % of √10 in all but one of 10⁵ runs, and the seed is fixed."""
    a, b = colours(64)
    b = (a + 0.2 * b).clamp(max=1)
    ratio = (drawn(a, b, 1, 400, 7).std() / drawn(a, b, 10, 400, 8).std()).item()
    assert ratio == pytest.approx(math.sqrt(10), rel=0.25)


def test_under_autocast_the_loss_is_that_of_float32():
    a, b = (x.float() for x in colours(256))
    loss = S3IM(repeats=1, patch_height=16)
    exact = loss(a, b)
    halves = a.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(halves, b.bfloat16())
        (gradient,) = torch.autograd.grad(found, halves)
    assert found.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert found.item() == pytest.approx(exact.item(), abs=1e-2)
    assert found.item() == loss(a.bfloat16().float(), b.bfloat16().float()).item()


def test_constant_half_precision_colours_have_a_finite_loss_and_gradient():
    a = torch.full((64, 3), 0.7, dtype=torch.float16, requires_grad=True)
    loss = S3IM(repeats=1, **SMALL)(a, torch.full((64, 3), 0.3, dtype=torch.float16))
    loss.backward()
    assert math.isfinite(loss.item())
    assert a.grad.isfinite().all()


def test_a_generator_put_back_draws_the_same_orders_and_a_copy_has_its_own():
    a, b = colours(64)
    loss = S3IM(repeats=2, generator=generator(3), **SMALL)
    state = loss.generator.get_state()
    first, second = loss(a, b), loss(a, b)
    assert first != second
    loss.generator.set_state(state)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other(a, b) == first
    assert loss(a, b) == first
    assert loss(a, b) == second
    assert not loss.state_dict()


def test_a_value_made_in_inference_mode_leaves_no_tensor_that_training_cannot_use():
    a, b = colours(90)
    with torch.inference_mode():
        s3im(a, b, repeats=1, patch_height=9)
    a.requires_grad_()
    s3im(a, b, repeats=1, patch_height=9).backward()
    assert a.grad.any()


BAD = {
    "shapes": (lambda a, b: s3im(a, b[1:], repeats=1), r"target must have the shape of pred, \[64, 3\], got \[63, 3\]"),
    "rays": (
        lambda a, b: s3im(a, b, repeats=1, patch_height=8, patch_width=9),
        "8 . 9 = 72 rays, got 64; patch_width=None takes any number of at least 32",
    ),
    "few": (lambda a, b: s3im(a, b, repeats=2), "at least 128 rays to fill 64 rows of 4 pixels with 2 orders, got 64"),
    "kernel": (lambda a, b: s3im(a, b, kernel_size=9, patch_height=8), "patch_height must be at least kernel_size, 9"),
    "repeats": (lambda a, b: s3im(a, b, repeats=0), "repeats must be a whole number of at least 1, got 0"),
    "half a window": (
        lambda a, b: s3im(a, b, kernel_size=2.5),
        "kernel_size must be a whole number of at least 1, got 2.5",
    ),
    "half a row": (lambda a, b: s3im(a, b, patch_height=8.0), "patch_height must be a whole number, got 8.0"),
    "stride": (lambda a, b: s3im(a, b, stride=0), "stride must be a whole number of at least 1, got 0"),
    "integers": (lambda a, b: s3im(a.long(), b), "pred must be floating point, got torch.int64"),
    "generator": (lambda a, b: s3im(a, b, patch_height=8), "generator must be given where orders have to be drawn"),
    "orders": (
        lambda a, b: s3im(a, b, torch.zeros(1, 64, dtype=torch.int64), repeats=2, **SMALL),
        "permutations must each hold every number from 0 to 63 once",
    ),
    "number of orders": (
        lambda a, b: s3im(a, b, orders(64, 2), repeats=2, **SMALL),
        r"permutations must be int64 of shape \[1, 64\], got torch.int64 \[2, 64\]",
    ),
    "not finite": (
        lambda a, b: s3im(a.index_fill(0, torch.tensor([5, 9]), math.nan), b, repeats=1, **SMALL),
        "pred must be finite, got 2 rays that are not, the first ray 5",
    ),
    "mask": (lambda a, b: s3im(a, b, None, torch.ones(63, dtype=torch.bool)), r"mask must be bool of shape \[64\]"),
    "range": (lambda a, b: s3im(a, b, data_range=0.0), "data_range must be positive and finite, got 0.0"),
    "layout": (lambda a, b: s3im(a, b, layout="rows"), "layout must be super or separate, got 'rows'"),
}


@pytest.mark.plain
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        call(*colours(64))
    assert "\n" not in str(caught.value)


def test_weight_rises_stays_and_falls():
    found = [s3im_weight(step, 10, 2.0, rise=0.2, fall=0.5) for step in range(11)]
    assert found == pytest.approx([0, 1, 2, 2, 2, 2, 1.6, 1.2, 0.8, 0.4, 0])
    assert [s3im_weight(step, 10, 2.0) for step in (0, 10)] == [2.0, 2.0]
    with pytest.raises(ValueError, match=r"fall must be in \[0, 0.5\], one minus rise, got 0.6"):
        s3im_weight(0, 10, rise=0.5, fall=0.6)
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        s3im_weight(0, 0, rise=0.5)


def test_shares_of_one_in_all_are_taken_whatever_their_rounding():
    for percent in range(1, 100):
        assert s3im_weight(50, 100, rise=percent / 100, fall=(100 - percent) / 100) <= 1
