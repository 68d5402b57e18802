"""What learning cost: the loss on validation data against rounds, evaluations of the loss, and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aleator.experiment import Exhibit

_AXES = {
    "rounds": "Rounds",
    "forward_passes": "Forward passes on a batch, on this machine",
    "bytes_sent": "Bytes sent by this machine, headers included",
}


def costs(curve: Sequence[Mapping[str, float]]) -> list[Exhibit]:
    """Draw the loss on validation data against each cost."""
    losses = [point["loss"] for point in curve]
    shown = []
    for name, title in _AXES.items():
        trace = {"type": "scatter", "mode": "lines+markers", "x": [point[name] for point in curve], "y": losses}
        layout = {"xaxis": {"title": {"text": title}}, "yaxis": {"title": {"text": "Validation loss"}}}
        shown.append(
            Exhibit(
                f"Loss against {name.replace('_', ' ')}",
                f"Validation loss at {len(losses)} moments, the last {losses[-1]:.4g} after {curve[-1][name]:.0f}.",
                plot={"data": [trace], "layout": layout},
            )
        )
    return shown
