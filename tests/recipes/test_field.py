import math

import pytest
import torch

from aleator.cli import main
from aleator.data import load
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.fields import psnr
from aleator.losses import s3im
from aleator.random import Streams
from aleator.recipes.field import Field
from aleator.recipes.field.crops import Crops
from aleator.recipes.field.scenes import scene
from aleator.recipes.field.task import _spoilt

QUIET = RunOptions(trackers=(), log_every=1)
SMALL = {"size": 20, "resolution": 16, "samples": 24, "batch_size": 400}


def task(seed: int = 0, **options):
    streams = Streams(seed)
    with streams.scope("init"):
        return Field(**options).task(streams, make_accelerator(options.get("precision", "float32")))


def test_a_room_is_learned_and_shown_in_files(tmp_path):
    pytest.importorskip("imageio", reason="needs the extra fields: pip install 'aleator[fields]'")
    found = run(Field(**SMALL, steps=60, lr=0.3), tmp_path / "run", QUIET, name="field")["test"]
    constant = run(Field(model="constant", size=20), tmp_path / "constant", QUIET, name="field")["test"]
    assert found["psnr"] > constant["psnr"] + 3
    assert found["mse"] == pytest.approx(
        10 ** (-found["psnr"] / 10), rel=0.3
    )  # a mean of logarithms is not one of means
    assert 0 < found["depth_l1"] < constant["depth_l1"]
    assert {"views.png", "distances.png", "orbit.gif"} <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.usefixtures("mirror")
def test_a_picture_is_learned_from_half_of_its_pixels(tmp_path):
    pytest.importorskip("imageio", reason="needs the extra fields: pip install 'aleator[fields]'")
    options = {"data": "images", "picture": "chelsea", "size": 96}
    built = task(**options)
    every = torch.cat([built.train_pixels, *built.held_out.values()])
    assert torch.equal(every.sort().values, torch.arange(96 * 96))
    found = run(Field(**options, steps=80, lr=0.01), tmp_path / "run", QUIET, name="field")["test"]
    constant = run(Field(**options, model="constant"), tmp_path / "constant", QUIET, name="field")["test"]
    assert found["psnr"] > constant["psnr"] + 3
    assert (tmp_path / "run" / "picture.png").is_file()


def test_the_loss_is_the_squared_error_and_lambda_times_one_minus_s3im():
    built = task(**SMALL, steps=10, s3im_weight=0.5, s3im_repeats=1, s3im_height=16, s3im_rise=0.5)
    batch = next(built.train_batches())
    for expected in (0.0, 0.1, 0.2):  # λ of the first steps
        state = built.places.get_state()
        with torch.no_grad():
            colours = built._predicted(built._prepared(batch))
        built.places.set_state(state)
        truth = built.colours[batch]
        mse = torch.nn.functional.mse_loss(colours, truth).item()
        similarity = s3im(colours, truth, repeats=1, patch_height=16).item()
        metrics = built.train_step(batch).metrics
        assert metrics["mse"].item() == pytest.approx(mse, rel=1e-5)  # the error alone, whatever was added to it
        assert metrics["loss"].item() == pytest.approx(mse + expected * (1 - similarity), rel=1e-5)


def test_pixels_are_spoilt_once_and_as_said():
    colours = torch.full((20000, 3), 0.5)
    spoilt = _spoilt(colours, 0.1, 0.2, Streams(0).generator("spoil"))
    whole = (spoilt == 0).all(1) | (spoilt == 1).all(1)
    assert whole.float().mean().item() == pytest.approx(0.2, abs=0.012)  # four deviations
    assert (spoilt[whole][:, 0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.032)
    assert spoilt[~whole].std().item() == pytest.approx(0.1, abs=0.002)
    first, second = (task(**SMALL, corrupted=0.3).colours for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, task(**SMALL).colours)
    assert not torch.equal(first, task(seed=1, **SMALL, corrupted=0.3).colours)


def test_crops_are_squares_of_one_view():
    crops = Crops((3, 10, 12), 4, Streams(0).generator("crops")).batches(16)
    seen = set()
    for _ in range(40):
        pixels = next(crops)
        view, row, column = pixels // 120, pixels // 12 % 10, pixels % 12
        assert len(view.unique()) == 1
        assert torch.equal(row - row[0], torch.arange(4).repeat_interleave(4))
        assert torch.equal(column - column[0], torch.arange(4).repeat(4))
        seen.add(int(view[0]))
    assert seen == {0, 1, 2}


@pytest.mark.usefixtures("mirror")
def test_few_views_are_spread_over_all_and_none_is_in_two_parts():
    built = task(data="nerf-lego-100", shrink=5, views=7, batch_size=400)
    scene = built.scene
    assert len(scene.train) == 7
    parts = torch.cat([scene.train, scene.validation, scene.test])
    assert len(parts.unique()) == len(parts)
    assert scene.colours.shape[1:] == (20, 20, 3)
    rendered = built.evaluate("test")
    gray = torch.full_like(scene.colours[scene.test], 0.5)
    assert math.isfinite(rendered["psnr"])
    assert rendered["psnr"] != pytest.approx(psnr(gray, scene.colours[scene.test]).mean().item())


@pytest.mark.usefixtures("mirror")
def test_the_clip_of_photographs_is_upright_however_the_cameras_were_held():
    for data in ("nerf-buddha", "nerf-lego-100"):
        found, built = load(data), scene(Field(data=data))
        up = torch.tensor(found.up, dtype=torch.float64)
        assert up.norm().item() == pytest.approx(1, abs=1e-4)
        poses = built.orbit.poses
        assert (poses[:, :3, 0] @ up).abs().max() < 1e-6  # level
        assert (poses[:, :3, 1] @ up).min() > 0


def test_a_square_of_a_view_is_the_image_that_s3im_sees():
    built = task(**SMALL, sampling="crops", s3im_repeats=1, steps=10)
    assert built.s3im.settings["patch_height"] == 20


BAD = {
    "small": ({"size": 10}, "size must be at least 11, the window of SSIM, got 10"),
    "shrunk": (
        {"data": "nerf-buddha", "shrink": 18},
        "shrink must be at most 17, for images of 11 pixels a side, got 18",
    ),
    "nothing held out": (
        {"data": "images", "train_share": 0.9999},
        "train_share must leave 5 of 16384 pixels at least, some for validation and some for the test, got 0.9999",
    ),
    "more than there are": (
        {"size": 11, "views": 2},
        "batch_size must be at most the 242 pixels that train, got 1024",
    ),
    "noise": ({"noise": -0.1}, "noise must be finite and not negative, got -0.1"),
    "corrupted": ({"corrupted": 1.5}, r"corrupted must be in \[0, 1\], got 1.5"),
    "share": ({"data": "images", "train_share": 1.0}, r"train_share must be in \(0, 1\), got 1.0"),
    "picture": ({"picture": "coffee"}, "picture cannot be used with data room, got coffee"),
    "views": ({"data": "images", "views": 3}, "views cannot be used with data images, got 3"),
    "shrink": ({"shrink": 2}, "shrink cannot be used with data room, got 2"),
    "size": ({"data": "nerf-buddha", "size": 50}, "size cannot be used with data nerf-buddha, got 50"),
    "no s3im": ({"s3im_weight": 0.0, "s3im_repeats": 3}, "s3im_repeats cannot be used with s3im_weight 0, got 3"),
    "constant": ({"model": "constant", "lr": 0.1}, "lr cannot be used with model constant, got 0.1"),
    "fall": ({"s3im_rise": 0.5, "s3im_fall": 0.6}, r"s3im_fall must be in \[0, 0.5\], one minus s3im_rise, got 0.6"),
    "square": ({"sampling": "crops", "batch_size": 1000}, "batch_size must be a square with sampling crops, got 1000"),
    "crop": ({"sampling": "crops", "batch_size": 2500}, r"batch_size must be at most 40² with sampling crops, got 50²"),
    "patch": ({"batch_size": 8}, "batch_size must be at least 13 for s3im_height 32, got 8"),
}


@pytest.mark.plain
@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        task(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.plain
def test_a_batch_that_fills_no_patch_ends_the_command_before_a_step(tmp_path, capsys):
    assert main(["run", "field", "--batch-size", "8", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "batch_size must be at least 13 for s3im_height 32, got 8" in said
