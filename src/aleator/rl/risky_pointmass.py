"""RiskyPointMass-v0: a way through a circle where a step may cost ten, and a longer one around it.

    s ∈ [0, 1]²,    a ∈ [−1, 1]²,    s' = clip(s + 0.1 (a + slip), 0, 1),    slip ~ U(−0.02, 0.02)²
    r = −‖s‖ − 0.1 − 10 · 1[u < p(s)],    p = 0.1 exp(−4 d²/0.09) for d ≤ 0.3 from (½, ½), else 0

The episode ends in the corner, ‖s‖ < 0.05, and is cut off after 200 steps. Reward, risk and end are those of the state
before the move.

The authors' environment has defects that this one does not: the test that keeps starts out of the circle is always
true, so some lie in it; failures are drawn from NumPy's global generator, which ``reset`` does not seed; observations
are float64 where the space says float32. The slip moves by ±0.002, since it is scaled like the action, where the paper
says 0.02: so it is here, too, since the published runs have it.

U. Özalp, arXiv 2601.00737, section 5.4.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

ID = "RiskyPointMass-v0"
CENTRE, RADIUS = 0.5, 0.3
GOAL = 0.05
_PIXELS = 160

Array = npt.NDArray[Any]


def risky_pointmass_risk(state: Array) -> Array:
    """Return the probability that a step from here costs ten.

    Args:
        state: ``[..., 2]``.
    """
    state = np.asarray(state)
    squared = np.square(state - CENTRE).sum(-1)
    # By the square, so that a point on the circle is in it whatever the root rounds to.
    return np.where(squared <= RADIUS**2, 0.1 * np.exp(-4 * squared / 0.09), 0.0)


def risky_pointmass_step(state: Array, action: Array, slip: Array, u: float | Array) -> tuple[Array, Any, Any]:
    """Return the next state, the reward and whether the episode terminated: numbers for one state, else arrays.

    Args:
        state: ``[..., 2]`` in [0, 1]².
        action: ``[..., 2]`` in [−1, 1]².
        slip: ``[..., 2]`` in [−0.02, 0.02]².
        u: ``[...]`` uniform in [0, 1); a failure where it is below the risk.
    """
    state = np.asarray(state)
    distance = np.linalg.norm(state, axis=-1)
    reward = -distance - 0.1 - 10.0 * (np.asarray(u) < risky_pointmass_risk(state))
    following = np.clip(state + 0.1 * (np.asarray(action) + np.asarray(slip)), 0.0, 1.0)
    return following, reward, distance < GOAL


class RiskyPointMass(gymnasium.Env[Array, Array]):
    """See the module. Everything is drawn from the generator that ``reset(seed=…)`` seeds.

    Args:
        render_mode: None or ``"rgb_array"``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  # gymnasium's own way

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode
        self.state = np.ones(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin anywhere in [0.3, 1]² outside the circle."""
        super().reset(seed=seed)
        while True:
            self.state = self.np_random.uniform(0.3, 1.0, 2)
            if np.square(self.state - CENTRE).sum() > RADIUS**2:
                return self._obs(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move."""
        slip, u = self.np_random.uniform(-0.02, 0.02, 2), self.np_random.random()
        bounded = np.clip(action, -1.0, 1.0)
        self.state, reward, terminated = risky_pointmass_step(self.state, bounded, slip, u)
        return self._obs(), float(reward), bool(terminated), False, {}

    def render(self) -> Any:
        """Return a picture, [height, width, 3] bytes: the risk in red, the goal in green, the point in black."""
        axis = (np.arange(_PIXELS) + 0.5) / _PIXELS
        places = np.stack(np.meshgrid(axis, axis[::-1]), -1)
        risk = risky_pointmass_risk(places)[..., None] / 0.1
        picture = 255 - risk * np.array([40.0, 200.0, 200.0])
        picture[np.linalg.norm(places, axis=-1) < GOAL] = (60, 160, 80)
        picture[np.linalg.norm(places - self.state, axis=-1) < 0.02] = 0
        return picture.round().astype(np.uint8)

    def _obs(self) -> Array:
        return self.state.astype(np.float32)


def register() -> None:
    """Make it known to gymnasium, unless it is."""
    if ID not in gymnasium.registry:
        gymnasium.register(ID, entry_point="aleator.rl.risky_pointmass:RiskyPointMass", max_episode_steps=200)
