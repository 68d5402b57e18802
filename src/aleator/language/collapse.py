"""Notice when a script has no boundaries any more.

A target rate that is too small, or a boundary loss that is too weak, can drive a predictor to where it never draws a
boundary: all its rows are one segment that nobody reads, and the language-model loss does not say so. Lower rates are
in more danger; starting the predictor at its target rate and weighting the boundary loss fully both help.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

logger = logging.getLogger(__name__)


class CollapseMonitor:
    """Warns, once for each script, when a script had no boundary in a whole window of its steps.

    Args:
        steps: length of a window, in steps in which the script occurs. Windows follow each other, and the device is
            waited for once in each, so a collapse is reported after fewer than two windows.

    Raises:
        ValueError: if ``steps`` is below 1.

    Example:
        >>> import torch
        >>> monitor = CollapseMonitor(steps=2)
        >>> for _ in range(2):
        ...     monitor.update({"latin": torch.tensor(0.2), "indic": torch.tensor(0.0)})
        >>> monitor.collapsed
        {'indic'}
    """

    def __init__(self, steps: int = 100) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps = steps
        self.collapsed: set[str] = set()
        self._windows: dict[str, tuple[int, Tensor]] = {}

    def update(self, rate: Mapping[str, Tensor]) -> None:
        """Take note of a step.

        Args:
            rate: boundaries per position of each script in the batch, `LossParts.rate`.
        """
        for name, value in rate.items():
            count, total = self._windows.pop(name, (0, value.new_zeros(())))
            count, total = count + 1, total + value.detach()
            if count < self.steps:
                self._windows[name] = (count, total)
            elif not float(total) and name not in self.collapsed:
                self.collapsed.add(name)
                logger.warning("script %s had no boundary in %d steps: its predictor has collapsed", name, count)
