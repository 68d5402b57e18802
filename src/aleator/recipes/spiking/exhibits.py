"""Exhibits of a spiking classifier: its fields, its spikes, its answers, and maps of its activity.

Maps are t-SNE (van der Maaten and Hinton, JMLR 9 (2008)) as scikit-learn computes it, of the spike counts of the hidden
and of the class cells, and of the pixels themselves. The silhouette says how well the classes part before the map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aleator.experiment import Exhibit
from aleator.spiking import Responses, SymSTDPClassifier

CELLS_SHOWN = 100
IMAGES_MAPPED = 500
IMAGES_REPLAYED = 5
_BARE: dict[str, Any] = {"showticklabels": False, "showgrid": False, "ticks": ""}


def growth(accuracies: Sequence[Sequence[float]]) -> Exhibit:
    """Draw validation accuracy against training samples."""
    samples, values = zip(*accuracies, strict=True) if accuracies else ((), ())
    trace = {"type": "scatter", "mode": "lines+markers", "x": list(samples), "y": [100 * value for value in values]}
    layout = {
        "xaxis": {"title": {"text": "Training samples seen"}},
        "yaxis": {"title": {"text": "Validation accuracy, %"}},
    }
    return Exhibit(
        "Accuracy against samples seen",
        f"Validation accuracy at {len(values)} moments of the training.",
        plot={"data": [trace], "layout": layout},
    )


def fields(weights_in: Tensor) -> Exhibit:
    """Draw the input weights of the first hidden cells, each as the image that it answers to."""
    shown = min(CELLS_SHOWN, weights_in.shape[1])
    side = math.isqrt(weights_in.shape[0])
    columns = math.ceil(math.sqrt(shown))
    rows = math.ceil(shown / columns)
    sheet = np.full((rows * (side + 1), columns * (side + 1)), np.nan)
    weights = weights_in[:, :shown].cpu().numpy()
    for cell in range(shown):
        top, left = (cell // columns) * (side + 1), (cell % columns) * (side + 1)
        field = weights[:, cell].reshape(side, side)
        sheet[top : top + side, left : left + side] = field / max(field.max(), 1e-12)
    pixels = np.round(sheet, 3).tolist()
    trace = {"type": "heatmap", "z": pixels, "hoverinfo": "skip", "meta": {"colour": "ink"}}
    layout = {
        "height": 620,
        "xaxis": {**_BARE, "constrain": "domain"},
        "yaxis": {**_BARE, "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"},
    }
    return Exhibit(
        f"What {shown} hidden cells answer to",
        f"Input weights of {shown} of {weights_in.shape[1]} hidden cells as images, each divided by its largest.",
        plot={"data": [trace], "layout": layout},
    )


def raster(classifier: SymSTDPClassifier, greys: Tensor, labels: Tensor) -> Exhibit:
    """Replay the first images and draw every spike of hidden and class cells."""
    constants = classifier.constants
    count = min(IMAGES_REPLAYED, len(greys))
    spikes = classifier.rasters(greys[:count])
    seen_by = {"hidden cells": [each.hidden for each in spikes], "class cells": [each.classes for each in spikes]}
    traces = []
    offset = 0
    for colour, (name, rasters) in enumerate(seen_by.items()):
        seen = torch.cat(rasters)
        time, cell = (axis.numpy() for axis in seen.nonzero(as_tuple=True))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": np.round(time * constants.dt, 1).tolist(),
                "y": (cell + offset).tolist(),
                "marker": {"symbol": "line-ns-open", "size": 5},
                "hovertemplate": "%{x} ms, cell %{y}",
                "meta": {"colour": colour},
            }
        )
        offset += seen.shape[1] + 5
    length = constants.stimulus + constants.rest
    shown = ", ".join(str(int(label)) for label in labels[:count])
    layout = {"xaxis": {"title": {"text": f"Time, ms: {length:g} for each of the images of class {shown}"}}}
    return Exhibit(
        "Spikes while the first test images are shown",
        "Every spike of the hidden cells, and above them of the class cells, against time.",
        plot={"data": traces, "layout": layout | {"yaxis": {"title": {"text": "Cell"}}}},
    )


def confusion(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], classes: Sequence[str]) -> Exhibit:
    """Draw how often each class was answered for each; the last column counts images without an answer."""
    names = [*classes, "silent"]
    counts = np.zeros((len(classes), len(names)), int)
    np.add.at(counts, (labels, np.where(answers < 0, len(classes), answers)), 1)
    trace = {
        "type": "heatmap",
        "z": np.round(counts / np.maximum(counts.sum(1, keepdims=True), 1), 4).tolist(),
        "x": names,
        "y": list(classes),
        "text": counts.tolist(),
        "texttemplate": "%{text}",
        "hovertemplate": "%{y} answered as %{x}: %{text}<extra></extra>",
    }
    layout = {
        "height": 480,
        "xaxis": {"title": {"text": "Answer"}, "type": "category"},
        "yaxis": {"title": {"text": "Class"}, "type": "category", "autorange": "reversed"},
    }
    right = int(counts.trace())
    return Exhibit(
        "Answers, class by class",
        f"{right} of {counts.sum()} test images on the diagonal, {counts[:, -1].sum()} silent.",
        plot={"data": [trace], "layout": layout},
    )


def maps(
    responses: Responses, greys: Tensor, labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> Iterator[Exhibit]:
    """Map the first images by what hidden cells, class cells and pixels make of them."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    count = min(IMAGES_MAPPED, len(labels))
    known = labels[:count]
    activities = {
        "hidden cells": responses.hidden[:count],
        "class cells": responses.classes[:count],
        "pixels": greys[:count].numpy(),
    }
    for name, activity in activities.items():
        points = activity.astype(np.float64)
        if count < 10 or len(np.unique(known)) < 2 or len(np.unique(points, axis=0)) < 10:
            continue  # nothing to part, or nothing to map
        place = TSNE(perplexity=min(30, count // 4), random_state=0, init="random").fit_transform(points)
        traces = [
            {
                "type": "scatter",
                "mode": "text",
                "x": np.round(place[known == c, 0], 2).tolist(),
                "y": np.round(place[known == c, 1], 2).tolist(),
                "text": [str(c)] * int((known == c).sum()),
                "name": classes[c],
                "hovertemplate": f"{classes[c]}<extra></extra>",
                "meta": {"colour": int(c) % 7},
            }
            for c in np.unique(known)
        ]
        parted = silhouette_score(points, known)
        yield Exhibit(
            f"Map of {count} test images by their {name}",
            f"t-SNE of the activity of the {name}; each image is the number of its class. Silhouette {parted:.2f}.",
            plot={"data": traces, "layout": {"height": 460, "xaxis": dict(_BARE), "yaxis": dict(_BARE)}},
        )
