"""The entries of views with their cameras and of single pictures, for neural fields.

The two scenes were made smaller for a local mirror and are published only in other sizes and forms, so they have no
address to fetch them from.
"""

from __future__ import annotations

from aleator.data.sets.entries import DatasetInfo, RemoteFile

_SCIKIT_IMAGE = (
    "https://raw.githubusercontent.com/scikit-image/scikit-image/cd0a3d22b9f359f05618d75d5c7a29b91b4951ca/"
    "src/_skimage2/data/"
)

NERF_BUDDHA = DatasetInfo(
    name="nerf-buddha",
    title="a plaster head on a table, 67 grey photographs of 342x192 with cameras",
    kind="views",
    reader="views",
    files=(),
    licence="CC BY 4.0",
    terms="open",
    mirror_files=(
        RemoteFile(
            "buddha_342x192.npz", (), "d98365532b2d208bc2acabd8bf7a3154539175187f865068ca775336dea2c760", 4_481_720
        ),
    ),
    notes=(
        "Credit S. Gasparini, F. Castan, Y. Lanthony, Buddha Dataset (Version 1.0), doi 10.5281/zenodo.1203283; "
        "changed: shrunk by averaging 8 x 8 pixels, projection matrices split.",
        "The split is ours: every eighth view is for testing. The cube around the head is ours as well, and the far "
        "end, which is behind the room.",
    ),
)

NERF_LEGO_100 = DatasetInfo(
    name="nerf-lego-100",
    title="the Lego of the NeRF synthetic set, 100 + 25 views of 100x100 with cameras",
    kind="views",
    reader="views",
    files=(),
    licence="CC BY-NC, for tests only",
    terms="non-commercial",
    mirror_files=(
        RemoteFile(
            "lego_100x100.npz", (), "59b1f273e7a746cf48660120ec40c2a2c517f1f329470953ea4940c079c588f1", 1_408_446
        ),
    ),
    notes=(
        "For tests only: the Blender model by Heinzelnisse is CC BY-NC, as the NeRF synthetic set says; do not put it, "
        "or what was rendered from it, into a release.",
        "Shrunk four times by averaging; the test part is every eighth view of the published one.",
    ),
)

IMAGES = DatasetInfo(
    name="images",
    title="four natural pictures: astronaut, chelsea and coffee in colour, camera in grey",
    kind="pictures",
    reader="png",
    files=tuple(
        RemoteFile(f"{name}.png", (f"{_SCIKIT_IMAGE}{name}.png",), sha256, size)
        for name, sha256, size in (
            ("astronaut", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", 791_555),
            ("camera", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a", 139_512),
            ("chelsea", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", 240_512),
            ("coffee", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", 466_706),
        )
    ),
    licence="public domain and CC0",
    terms="open",
    notes=(
        "astronaut: NASA, public domain; chelsea: S. van der Walt, camera: L. Varshney, coffee: R. Michetti, all CC0.",
        "Reading them needs the extra fields.",
    ),
)
