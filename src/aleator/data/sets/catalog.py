"""The data sets that `load`, `fetch` and `verify` know by name.

To add a data set: an entry in `aleator.data.sets.entries_images`, `aleator.data.sets.entries_texts`,
`aleator.data.sets.entries_graphs`, `aleator.data.sets.entries_views` or `aleator.data.sets.entries_faces`, and its name
here. A new file format is a new
value of ``entries.Reader`` and a reader in ``images._READERS``, ``text_readers._READERS`` or beside its kind of data.
To add another kind of data: a new value of ``entries.Kind``, a module beside `aleator.data.sets.texts` for its
dataclass, and its line in ``load.load``. This module imports nothing heavy, so that data sets can be
listed without torch.
"""

from __future__ import annotations

import difflib

from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.entries_faces import GRID_FACES, OLIVETTI
from aleator.data.sets.entries_graphs import COMMUNITY_SMALL, EGO_SMALL, ENZYMES, GRID, QM9, ZINC250K
from aleator.data.sets.entries_images import CIFAR10, CIFAR10H, DIGITS, FASHION_MNIST, MNIST
from aleator.data.sets.entries_texts import (
    TICO19,
    TINY_SHAKESPEARE,
    UD_ENGLISH_EWT,
    UD_GALICIAN_TREEGAL,
    UDHR2,
    WIKITEXT2,
)
from aleator.data.sets.entries_views import IMAGES, NERF_BUDDHA, NERF_LEGO_100

CATALOG: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        *(DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR10H),
        *(TINY_SHAKESPEARE, WIKITEXT2, UDHR2, TICO19),
        *(UD_ENGLISH_EWT, UD_GALICIAN_TREEGAL),
        *(COMMUNITY_SMALL, EGO_SMALL, ENZYMES, GRID, QM9, ZINC250K),
        *(NERF_BUDDHA, NERF_LEGO_100, IMAGES),
        *(GRID_FACES, OLIVETTI),
    )
}


def lookup(name: str) -> DatasetInfo:
    """Return the entry of a data set.

    Raises:
        ValueError: if no data set has this name.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"name must be one of {', '.join(CATALOG)}, got {name!r}{hint}")
