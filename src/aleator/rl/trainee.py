"""What a loop needs of something that learns in environments, be it one agent or several side by side.

`Collector` acts and remembers, `learn_when_due` updates; both `Agent.learn` and the recipe ``control`` do nothing else:

    collector.step() × train_freq,    then, behind learning_starts,    update × gradient_steps
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aleator.rl.replay import Replay
from aleator.rl.settings import AgentSettings


@runtime_checkable
class Trainee(Protocol):
    """An agent, or members side by side.

    Attributes:
        settings: of it, or of all members.
        replay: what it remembers.
        members: how many it is.
    """

    settings: AgentSettings
    replay: Replay

    @property
    def members(self) -> int:
        """How many agents these are."""
        ...

    def episode_key(self, env: int, envs: int, episode: int) -> int:
        """Return the seed of an episode: of which environment of how many, and the how many-eth there."""
        ...

    def explore(self, obs: npt.NDArray[np.floating[Any]], *, at_random: bool) -> Tensor:
        """Return actions in [−1, 1], ``[members, environments of each, action]``, for observations in that order."""
        ...

    def to_env(self, action: Tensor) -> npt.NDArray[np.floating[Any]]:
        """Return actions in the environment's own units, one row for each."""
        ...

    def observe(self, obs: npt.NDArray[np.floating[Any]]) -> None:
        """Take note of observations, for their normalisation."""
        ...

    def update_from_replay(self) -> dict[str, Tensor]:
        """Take one update on transitions drawn from the replay."""
        ...
