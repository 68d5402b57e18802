"""The entries of faces, for exhibits of identity-preserving generation: clips of talking heads, pictures of people."""

from __future__ import annotations

from aleator.data.sets.entries import DatasetInfo, RemoteFile

GRID_FACES = DatasetInfo(
    name="grid-faces",
    title="eleven clips of ten people who speak, 75 frames of 64x64 in colour",
    kind="faces",
    reader="faces",
    files=(),
    licence="CC BY 4.0",
    terms="open",
    mirror_files=(
        RemoteFile(
            "grid_faces_64.npz", (), "34ffdab1a829102435b613e5e51e4e3c71b211461dd54d5768862657bfe3cd8e", 7_255_660
        ),
    ),
    notes=(
        "From the GRID corpus of Cooke, Barker, Cunningham and Shao, 2006, doi 10.5281/zenodo.3625687; changed: the "
        "middle of each frame, shrunk by averaging. Check the deposit before you pass it on.",
        "The faces are of real people: generate others' likeness with their consent only.",
    ),
)

OLIVETTI = DatasetInfo(
    name="olivetti",
    title="Olivetti faces: 40 people, 10 grey pictures of 64x64 each",
    kind="faces",
    reader="faces",
    files=(),
    licence="none stated; for tests only",
    terms="not stated",
    mirror_files=(
        RemoteFile(
            "olivetti_faces.npz", (), "24131265cce108e2807f77bc84b769ee4708fb788219ea614e2e342f8ef82234", 1_412_909
        ),
    ),
    notes=(
        "Credit AT&T Laboratories Cambridge; do not put the pictures into a release.",
        "The faces are of real people: generate others' likeness with their consent only.",
    ),
)
