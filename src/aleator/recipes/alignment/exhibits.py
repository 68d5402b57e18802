"""Pictures of an alignment: its course, and samples before and after it next to real ones."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aleator.experiment import Exhibit

SHOWN, SIDE = 12, 48
"""Samples of a row; pixels of a sample's sides at least."""
_GAP, _FRAME = 4, 150  # pixels between samples, milliseconds of a frame

_ROWS = "12 samples of the flow before alignment above, of the aligned flow in the middle, and real ones below"


def curve(points: Sequence[tuple[int, float]], threshold: float) -> Exhibit:
    """Draw the share of rewarded samples over iterations, with the threshold."""
    at, shares = [point[0] for point in points], [point[1] for point in points]
    traces = [
        {"type": "scatter", "mode": "lines+markers", "name": "rewarded", "x": at, "y": shares, "meta": {"colour": 0}},
        {
            "type": "scatter", "mode": "lines", "name": "threshold", "x": [0, at[-1]], "y": [threshold] * 2,
            "line": {"dash": "dot"}, "meta": {"colour": "ink"},
        },
    ]  # fmt: skip
    layout = {"xaxis": {"title": {"text": "Iteration"}}, "yaxis": {"title": {"text": "Share of rewarded samples"}}}
    return Exhibit(
        "Rewarded samples",
        f"Share of 500 samples by the ODE without guidance, from {shares[0]:.1%} to {shares[-1]:.1%}.",
        plot={"data": traces, "layout": layout},
    )


def images(before: Tensor, after: Tensor, real: Tensor) -> Exhibit:
    """Show images."""
    rows = [_cells(part[:SHOWN, 0]) for part in (before, after, real)]
    return Exhibit("Samples", f"{_ROWS}.", picture=_written([_sheet(rows)], "PNG"), file="samples.png")


def clips(before: Tensor, after: Tensor, real: Tensor) -> Exhibit:
    """Show clips side by side, all at once."""
    parts = [part[:SHOWN, 0] for part in (before, after, real)]
    frames = [_sheet([_cells(part[:, t]) for part in parts]) for t in range(parts[0].shape[1])]
    return Exhibit("Clips", f"{_ROWS}, as clips.", picture=_written(frames, "GIF"), file="samples.gif")


def single_clips(made: Tensor) -> list[Exhibit]:
    """Show clips of the aligned flow, each in a file of its own."""
    return [
        Exhibit(
            f"Clip {number}", f"The aligned flow's sample {number}, {clip.shape[1]} frames.",
            picture=_written([_enlarged(frame, 2 * SIDE) for frame in _bytes(clip[0])], "GIF"),
            file=f"clip-{number}.gif",
        )
        for number, clip in enumerate(made, 1)
    ]  # fmt: skip


def _bytes(samples: Tensor) -> npt.NDArray[np.uint8]:
    return ((samples.float().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def _cells(samples: Tensor) -> list[npt.NDArray[np.uint8]]:
    return [_enlarged(each, SIDE) for each in _bytes(samples)]


def _enlarged(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    times = max(1, -(-side // image.shape[0]))
    return image.repeat(times, 0).repeat(times, 1)


def _sheet(rows: Sequence[Sequence[npt.NDArray[np.uint8]]]) -> npt.NDArray[np.uint8]:
    """Return images in rows on white; a short row ends in white."""
    height, width = rows[0][0].shape
    sheet = np.full(
        (len(rows) * (height + _GAP) - _GAP, max(map(len, rows)) * (width + _GAP) - _GAP), 255, dtype=np.uint8
    )
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            top, left = row * (height + _GAP), column * (width + _GAP)
            sheet[top : top + height, left : left + width] = cell
    return sheet


def _written(frames: Sequence[npt.NDArray[np.uint8]], kind: str) -> bytes:
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    more = {"save_all": True, "append_images": others, "duration": _FRAME, "loop": 0} if kind == "GIF" else {}
    first.save(file, kind, optimize=True, **more)
    return file.getvalue()
