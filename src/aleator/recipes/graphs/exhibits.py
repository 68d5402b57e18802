"""Drawings of generated graphs and molecules next to real ones.

Graphs are laid out so that distances on paper are like path lengths (scikit-learn's multidimensional scaling of
shortest paths); molecules are drawn by RDKit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import shortest_path
from torch import Tensor

from aleator.experiment import Exhibit

SHOWN, COLUMNS = 12, 6
_BARE: dict[str, Any] = {"showticklabels": False, "showgrid": False, "ticks": ""}


def graphs(generated: Sequence[Tensor], real: Sequence[Tensor], note: str) -> list[Exhibit]:
    """Draw the first generated graphs, and the first training graphs."""
    return [
        Exhibit("Generated graphs", f"The first {min(SHOWN, len(generated))}. {note}", plot=_sheet(generated[:SHOWN])),
        Exhibit("Training graphs", f"The first {min(SHOWN, len(real))} of {len(real)}.", plot=_sheet(real[:SHOWN])),
    ]


def molecules(generated: Sequence[str], real: Sequence[str], note: str) -> list[Exhibit]:
    """Draw the first generated molecules, after correction, and the first training molecules."""
    return [
        Exhibit(
            "Generated molecules",
            f"The first {min(SHOWN, len(generated))}, after correction. {note}",
            svg=_grid(generated[:SHOWN]),
        ),
        Exhibit("Training molecules", f"The first {min(SHOWN, len(real))} of {len(real)}.", svg=_grid(real[:SHOWN])),
    ]


def _sheet(matrices: Sequence[Tensor]) -> dict[str, Any]:
    """Return one plot of several graphs in rows: edges as lines with gaps, nodes as dots."""
    lines: dict[str, list[float | None]] = {"x": [], "y": []}
    dots: dict[str, list[float]] = {"x": [], "y": []}
    for index, matrix in enumerate(matrices):
        adjacency = matrix.cpu().numpy() > 0
        place = _layout(adjacency) + np.array([2.4 * (index % COLUMNS), -2.4 * (index // COLUMNS)])
        for axis, name in enumerate(("x", "y")):
            dots[name] += np.round(place[:, axis], 3).tolist()
            for u, v in np.argwhere(np.triu(adjacency, 1)):
                lines[name] += [*np.round(place[[u, v], axis], 3).tolist(), None]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            **lines,
            "line": {"width": 1},
            "hoverinfo": "skip",
            "meta": {"colour": "ink"},
        },
        {"type": "scatter", "mode": "markers", **dots, "marker": {"size": 6}, "hoverinfo": "skip"},
    ]
    axes = {"xaxis": dict(_BARE), "yaxis": {**_BARE, "scaleanchor": "x"}}
    return {"data": traces, "layout": {"height": 60 + 190 * -(-len(matrices) // COLUMNS), **axes}}


def _layout(adjacency: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return places of the nodes in [-1, 1]²."""
    if len(adjacency) == 1:
        return np.zeros((1, 2))
    from sklearn.manifold import MDS

    paths = shortest_path(adjacency.astype(float), directed=False, unweighted=True)
    paths[~np.isfinite(paths)] = paths[np.isfinite(paths)].max() + 1  # another component
    place = MDS(n_init=1, init="random", metric="precomputed", random_state=0).fit_transform(paths)
    place = place - place.mean(0)
    return place / max(float(np.abs(place).max()), 1e-9)  # type: ignore[no-any-return]


def _grid(smiles: Sequence[str]) -> str:
    from rdkit import Chem
    from rdkit.Chem import Draw

    drawing: Any = Draw

    molecules: list[Any] = [Chem.MolFromSmiles(text) for text in smiles]
    read = [molecule for molecule in molecules if molecule is not None]
    if not read:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    return str(drawing.MolsToGridImage(read, molsPerRow=COLUMNS, subImgSize=(160, 130), useSVG=True))
