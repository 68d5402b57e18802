"""A callback for `Agent.learn`: evaluate now and then, and keep the agent that did best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aleator.rl.agent import Agent
from aleator.rl.collector import Collector
from aleator.rl.evaluation import Choice, Evaluation, Evaluator


class KeepBest:
    """Evaluate an agent every so many steps, always on the same episodes, and save the one with the best mean return.

    Args:
        env: the name of an environment, or a function that makes one.
        folder: where the best agent is saved, see `Agent.save`.
        every: environment steps between evaluations.
        episodes: of an evaluation.
        key: of the episodes' beginnings.
        actions: how the agent acts in them.

    Attributes:
        history: environment steps and what the evaluation there gave.
        best: the best mean return so far.

    Example:
        >>> agent.learn("Pendulum-v1", 20_000, callback=KeepBest("Pendulum-v1", "best", every=1000))
    """

    def __init__(
        self,
        env: str | Callable[[], Any],
        folder: str | Path,
        *,
        every: int = 10_000,
        episodes: int = 8,
        key: int = 0,
        actions: Choice = "mean",
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.folder, self.every, self.key, self.actions = Path(folder), every, key, actions
        self.evaluator = Evaluator(env, episodes)
        self.history: list[tuple[int, Evaluation]] = []
        self.best = -np.inf
        self._before: int | None = None

    def __call__(self, agent: Agent, collector: Collector, metrics: Mapping[str, Tensor]) -> None:
        """Evaluate if it is time."""
        before, self._before = self._before, collector.steps
        if (before or 0) // self.every == collector.steps // self.every:
            return
        found = self.evaluator(agent, self.key, actions=self.actions)
        self.history.append((collector.steps, found))
        if found.returns.mean() > self.best:
            self.best = float(found.returns.mean())
            agent.save(self.folder)
