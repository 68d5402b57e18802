"""S3IM (Xie et al., arXiv 2308.07032): does a structural similarity of random pixels help a neural field?

The paper reports more than 90 % less squared error on eight rooms of Replica, which cannot be had here, and gains with
few views and with spoilt pictures. No gain of a size is claimed in advance for these scenes: two pilots of this project
saw small ones early, of either sign at the end, and in two dimensions a loss of PSNR. The direction is the claim: at
least 0, in each setting, of the paired difference between a run with S3IM and the same run without. Room, field,
learning rate and schedule were fixed in a commit before any run with S3IM. In the room a third of the steps is a row as
well, and so is SSIM of squares of one view at as many pixels, which the paper says does not help. A constant colour is
a row everywhere. Thirty percent less squared error are 1.55 dB.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

SSIM, DEPTH = Headline("ssim", "max"), Headline("depth_l1", "min")
MSE_ALONE, WITH, CONSTANT = "mse:s3im_weight=0", "s3im:s3im_weight=1", "constant:model=constant"
GPU_RUN = ("--size", "200", "--steps", "10000", "--batch-size", "4096")


def _arguments(options: tuple[str, ...], cells: tuple[str, ...]) -> tuple[str, ...]:
    variants = tuple(word for cell in cells for word in ("--variant", cell))
    return ("field", *options, "--seeds", "3", "--evaluate-every", "100000", *variants)


def _claims(*, depth: bool = True, psnr: float = 0.0) -> tuple[Claim, ...]:
    """Return what is claimed of S3IM beside the squared error, and of both beside a constant."""
    by = f" by {psnr:g} dB" if psnr else ""
    claims = [
        Claim(f"S3IM raises the PSNR of held-out views{by}", "s3im", "mse", "at least", psnr),
        Claim("S3IM raises their SSIM", "s3im", "mse", "at least", 0.0, SSIM),
    ]
    if depth:
        claims.append(Claim("S3IM lowers the error of distances", "s3im", "mse", "at least", 0.0, DEPTH))
    claims.append(Claim("The squared error alone beats a constant colour", "mse", "constant", "at least", 0.0))
    return tuple(claims)


def _scene(name: str, data: str, options: tuple[str, ...], *, depth: bool = True) -> Experiment:
    return Experiment(name, data, _arguments(options, (MSE_ALONE, WITH, CONSTANT)), _claims(depth=depth))


def _on_gpu(
    name: str, data: str, options: tuple[str, ...], samples: int, *, depth: bool = True, psnr: float = 0.0
) -> Experiment:
    grid = f"resolution=128,samples={samples}"
    cells = (f"{MSE_ALONE},{grid}", f"{WITH},s3im_height=64,{grid}", CONSTANT)
    return Experiment(name, data, _arguments(options, cells), _claims(depth=depth, psnr=psnr), "gpu")


def _picture(share: float) -> Experiment:
    percent = f"{100 * share:g}"
    return Experiment(
        f"picture-{percent}",
        f"128 x 128 pixels of astronaut, {percent} % of them train, Fourier features, 400 steps of 1 024",
        _arguments(("--data", "images", "--train-share", str(share)), (MSE_ALONE, WITH, CONSTANT)),
        (
            Claim("In two dimensions S3IM lowers the PSNR of held-out pixels", "mse", "s3im", "at least", 0.0),
            Claim("It raises the SSIM of the picture", "s3im", "mse", "at least", 0.0, SSIM),
            Claim("The squared error alone beats a constant colour", "mse", "constant", "at least", 0.0),
        ),
    )


EXPERIMENTS = (
    Experiment(
        "room",
        "the room, 20 views of 40 x 40, 600 steps of 1 024 rays; six held-out views",
        _arguments(
            (),
            (
                *(MSE_ALONE, WITH, CONSTANT),
                *("mse-third:s3im_weight=0,steps=200", "s3im-third:s3im_weight=1,steps=200"),
                "one-order:s3im_repeats=1",
                *("crops-mse:sampling=crops,s3im_weight=0", "crops-ssim:sampling=crops,s3im_repeats=1"),
            ),
        ),
        (
            *_claims(),
            Claim("After a third of the steps S3IM raises the PSNR", "s3im-third", "mse-third", "at least", 0.0),
            Claim("After a third of the steps it raises the SSIM", "s3im-third", "mse-third", "at least", 0.0, SSIM),
            Claim("Ten orders are better than one", "s3im", "one-order", "at least", 0.0),
            Claim(
                "SSIM of squares of one view does not help at equal pixels", "crops-mse", "crops-ssim", "at least", 0.0
            ),
        ),
    ),
    _scene("room-sparse", "the room, 8 views of 40 x 40, 400 steps of 1 024 rays", ("--views", "8", "--steps", "400")),
    _scene("room-dense", "the room, 40 views of 40 x 40, 800 steps of 1 024 rays", ("--views", "40", "--steps", "800")),
    _scene(
        "room-noise",
        "the room, 20 views, noise of deviation 0.1 on training colours, 400 steps of 1 024 rays",
        ("--noise", "0.1", "--steps", "400"),
    ),
    _scene(
        "room-corrupted",
        "the room, 20 views, a tenth of the training pixels black or white, 400 steps of 1 024 rays",
        ("--corrupted", "0.1", "--steps", "400"),
    ),
    _picture(0.25),
    _picture(0.5),
    _scene(
        "lego",
        "Lego of the NeRF synthetic set, 95 views of 100 x 100 on white, 1 000 steps of 1 024 rays",
        ("--data", "nerf-lego-100"),
        depth=False,
    ),
    _scene(
        "buddha",
        "a plaster head, 55 grey photographs of 114 x 64, 1 000 steps of 1 024 rays",
        ("--data", "nerf-buddha"),
        depth=False,
    ),
    _on_gpu(
        "gpu-room",
        "the room, 100 views of 200 x 200, 10 000 steps of 4 096 rays, a grid of 128³",
        (*GPU_RUN, "--views", "100"),
        128,
    ),
    _on_gpu(
        "gpu-room-sparse",
        "the room, 30 views of 200 x 200, 10 000 steps of 4 096 rays, a grid of 128³",
        (*GPU_RUN, "--views", "30"),
        128,
        psnr=1.55,
    ),
    _on_gpu(
        "gpu-room-corrupted",
        "the room, 100 views of 200 x 200, a tenth of the training pixels black or white, 10 000 steps of 4 096 rays",
        (*GPU_RUN, "--views", "100", "--corrupted", "0.1"),
        128,
        psnr=1.55,
    ),
    _on_gpu(
        "gpu-lego",
        "Lego of the NeRF synthetic set, 95 views of 100 x 100, 30 000 steps of 4 096 rays, as in the paper's TensoRF",
        ("--data", "nerf-lego-100", "--steps", "30000", "--batch-size", "4096"),
        192,
        depth=False,
    ),
)
