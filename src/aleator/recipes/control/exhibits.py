"""Exhibits of an agent: curves of what it earned and how wrong its critic was, and an episode to watch.

Pictures come from the environment's own ``rgb_array`` and are written by Pillow. MuJoCo draws without a display through
EGL, which it is told unless ``MUJOCO_GL`` says otherwise. An environment that cannot be drawn costs the pictures and
nothing else.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aleator.experiment import Exhibit
from aleator.rl import Agent, Evaluator
from aleator.rl.spaces import maker

_log = logging.getLogger("aleator.recipes")

FRAMES, STRIP, HEIGHT = 80, 8, 160
"""Pictures of a clip at most, pictures of a strip, and pixels of their height."""

Curves = Sequence[Mapping[str, float]]


def returns(curves: Curves) -> Exhibit | None:
    """Draw mean and median return against environment steps."""
    return _curves(curves, {"mean": "return", "median": "median_return"}, "Return", "The return of an episode")


def errors(curves: Curves) -> Exhibit | None:
    """Draw the median value error against environment steps; None where none was measured."""
    names = {"median": "value_error"}
    return _curves(curves, names, "Value error", "By how much the critic's values were above what came")


def rollout(env: str, agent: Agent, key: int) -> list[Exhibit]:
    """Return an episode as a clip and as a film strip; nothing where the environment cannot be drawn."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # of pygame, which looks for a display that nobody needs
    try:
        from PIL import Image

        evaluator = Evaluator(maker(env, render_mode="rgb_array"), 1)
        pictures: list[npt.NDArray[np.uint8]] = []
        found = evaluator(agent, key, watch=lambda world: pictures.append(_small(world.render())))
        evaluator.close()
        every = -(-len(pictures) // FRAMES)
        shown = [Image.fromarray(picture) for picture in pictures[::every]]
        rate = evaluator.envs[0].metadata.get("render_fps", 30)
        clip = _gif(shown, max(20, 1000 * every // rate))
        strip = _png(np.concatenate([pictures[place] for place in _spread(len(pictures))], 1))
    except Exception as error:
        _log.warning("%s could not be drawn: %s", env, error)
        return []
    told = f"{found.lengths[0]} steps of {env} by the mean of the policy; its return is {found.returns[0]:.1f}."
    return [
        Exhibit("An episode", f"A clip of {told}", picture=clip, file="rollout.gif"),
        Exhibit("Film strip", f"{STRIP} moments, from left to right, of {told}", picture=strip, file="film-strip.png"),
    ]


def _curves(curves: Curves, names: Mapping[str, str], title: str, description: str) -> Exhibit | None:
    kept = {label: name for label, name in names.items() if curves and name in curves[0]}
    if not kept:
        return None
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label,
            "x": [point["steps"] for point in curves],
            "y": [point[name] for point in curves],
            "meta": {"colour": index},
        }
        for index, (label, name) in enumerate(kept.items())
    ]
    layout = {"xaxis": {"title": {"text": "Environment steps"}}, "yaxis": {"title": {"text": title}}}
    return Exhibit(title, f"{description}, over {len(curves)} validations.", plot={"data": traces, "layout": layout})


def _spread(count: int) -> list[int]:
    return [round(place * (count - 1) / (STRIP - 1)) for place in range(STRIP)]


def _small(picture: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    image = Image.fromarray(picture)
    width = max(1, round(image.width * HEIGHT / image.height))
    return np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR))


def _gif(frames: Sequence[Any], milliseconds: int) -> bytes:
    file = io.BytesIO()
    first, *others = [frame.quantize(64) for frame in frames]
    first.save(file, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=True)
    return file.getvalue()


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()
