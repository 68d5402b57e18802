"""The task behind the recipe ``control``: an agent, or members side by side, in environments.

A step of the task is the environment steps up to the next updates, and these updates: what `aleator.rl.Agent.learn`
does, too. The budget counts environment steps of each member.

An evaluation plays episodes whose beginnings are always the same, those of the test being others. Its figures are the
returns and by how much the critic's values were above what came, per episode. A few episodes that fail move a mean far
and a median not at all, so both are given. ``late_value_error`` of the test is the median over the episodes of the last
four validations.

Streams: every member has streams of its own, of the key ``member``, which are saved with the task; the keys
``validation`` and ``test`` make the beginnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from accelerate import Accelerator
from torch import nn

from aleator.experiment import Budget, Exhibit, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.control import exhibits as control_exhibits
from aleator.rl import DSAC, ESTAC, SAC, STAC, Agent, Evaluation, Evaluator, Members, learn_when_due, vectorised

if TYPE_CHECKING:
    from aleator.recipes.control.options import Control

ALGORITHMS: dict[str, type[Agent]] = {"stac": STAC, "sac": SAC, "estac": ESTAC, "dsac": DSAC}
LATE = 4  # validations
FAR_OFF = 20.0  # a value error above which an episode is counted as one that the critic did not expect


class ControlTask:
    """Agents in training; see `aleator.experiment.Task`."""

    headline = Headline("return", "max")

    def __init__(self, options: Control, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.streams = options, streams
        try:
            made = gymnasium.make(options.env)
        except gymnasium.error.Error as error:
            raise ValueError(f"env must be an environment of gymnasium, got {options.env!r}: {error}") from error
        device = accelerator.device
        self.agents = [
            ALGORITHMS[options.algorithm](
                made.observation_space,
                made.action_space,
                seed=Streams(streams.key("member", member), device),
                device=device,
                **options.agent_settings(member),
            )
            for member in range(options.count)
        ]
        made.close()
        self.trainee: Agent | Members = self.agents[0] if options.count == 1 else Members(self.agents)
        self.collector = self.trainee.collector(vectorised(options.env, options.count * options.n_envs))
        self.budget = Budget(options.steps, "environment steps")
        self.evaluate_every = max(1, options.steps // 14)
        self._evaluators: dict[int, Evaluator] = {}
        self.curves: list[dict[str, float]] = []
        self._late: list[list[list[float]]] = []  # of the last validations, the members' value errors
        self._tested = False

    @property
    def model(self) -> nn.Module:
        """The agent, or all of them."""
        return self.agents[0] if len(self.agents) == 1 else nn.ModuleList(self.agents)

    def train_batches(self) -> Iterator[int]:
        """Yield how many steps were taken; what is learned from is drawn in the step."""
        while True:
            yield self.collector.steps

    def train_step(self, batch: int) -> StepResult:
        """Act up to the next updates, and learn if it is time."""
        steps, metrics = learn_when_due(self.trainee, self.collector)
        # Before learning starts there is nothing to report.
        return StepResult({name: value.mean() for name, value in metrics.items()}, progress=steps, examples=steps)

    def totals(self) -> dict[str, float]:
        """Return the episodes so far and the mean return of the last hundred; losses must have been finite."""
        self.trainee.check_finite()
        counts = {"episodes": float(self.collector.episodes.sum())}
        returns = self.collector.returns
        return {**counts, "train_return": float(np.mean(returns))} if returns else counts

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return returns and value errors of episodes that nothing is learned from."""
        self.trainee.check_finite()
        options = self.options
        count = options.test_episodes if split == "test" else options.episodes
        if count not in self._evaluators:
            self._evaluators[count] = Evaluator(options.env, count)
        evaluator = self._evaluators[count]
        found = [evaluator(agent, self.streams.key(split), actions=options.actions) for agent in self.agents]
        metrics = figures(found) | {"alpha": float(np.mean([float(agent.alpha) for agent in self.agents]))}
        if split == "validation":
            self.curves.append({"steps": float(self.collector.steps), **metrics})
            self._late = [*self._late, [each.value_errors.tolist() for each in found]][-LATE:]
        else:
            self._tested = True
            metrics |= self._late_errors(slice(None))
        for member, beta in enumerate(options.betas):
            own = figures([found[member]])
            if split == "test":
                own |= self._late_errors(slice(member, member + 1))
            metrics |= {f"{name}_beta_{beta:g}": value for name, value in own.items()}
        return {**metrics, "examples": count * len(self.agents)}

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the curves of return and value error, and an episode of the first agent to watch."""
        if not self._tested:
            return []
        curves = [control_exhibits.returns(self.curves), control_exhibits.errors(self.curves)]
        return [*(curve for curve in curves if curve is not None), *self._rollout()]

    def state_dict(self) -> dict[str, Any]:
        """Return agents, replay, streams, and the environments as their seeds and the actions since."""
        return {
            "trainee": self.trainee.training_state(),
            "streams": [agent.streams.state_dict() for agent in self.agents],
            "collector": self.collector.state_dict(),
            "curves": self.curves,
            "late": self._late,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.trainee.load_training_state(state["trainee"])
        for agent, streams in zip(self.agents, state["streams"], strict=True):
            agent.streams.load_state_dict(streams)
        self.collector.load_state_dict(state["collector"])
        self.curves, self._late = state["curves"], state["late"]

    def _late_errors(self, members: slice) -> dict[str, float]:
        errors = np.array([each[members] for each in self._late]).ravel()
        return {} if not len(errors) or np.isnan(errors).any() else {"late_value_error": float(np.median(errors))}

    def _rollout(self) -> list[Exhibit]:
        return control_exhibits.rollout(self.options.env, self.agents[0], self.streams.key("rollout"))


def figures(found: Sequence[Evaluation]) -> dict[str, float]:
    """Return the figures of evaluations, over the episodes of all."""
    returns = np.concatenate([each.returns for each in found])
    errors = np.concatenate([each.value_errors for each in found])
    metrics = {
        "return": float(returns.mean()),
        "median_return": float(np.median(returns)),
        "low_return": float(np.quantile(returns, 0.05)),
        "length": float(np.concatenate([each.lengths for each in found]).mean()),
    }
    if not np.isnan(errors).any():
        metrics["value_error"] = float(np.median(errors))
        metrics["mean_value_error"] = float(errors.mean())
        metrics["far_off"] = float((errors > FAR_OFF).mean())
    return metrics
