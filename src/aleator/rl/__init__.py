"""Reinforcement learning: agents that act, and learn from how random what came of it was.

`STAC` and its siblings `SAC`, `ESTAC` and `DSAC` are used like agents of Stable-Baselines3. Importing this package
registers `RiskyPointMass-v0` with gymnasium; ``gymnasium.make("aleator.rl:RiskyPointMass-v0")`` does both.
"""

try:
    from aleator.rl.risky_pointmass import register, risky_pointmass_risk, risky_pointmass_step
except ModuleNotFoundError as error:
    if error.name != "gymnasium":
        raise
    raise ModuleNotFoundError("aleator.rl needs gymnasium: pip install 'aleator[rl]'", name="gymnasium") from error

from typing import TYPE_CHECKING

from aleator.later import later

if TYPE_CHECKING:
    from aleator.losses import gaussian_head
    from aleator.rl.agent import Agent
    from aleator.rl.algorithms import DSAC, ESTAC, SAC, STAC
    from aleator.rl.callbacks import KeepBest
    from aleator.rl.collector import Collector, learn_when_due
    from aleator.rl.dropout import dropout_masks
    from aleator.rl.evaluation import Evaluation, Evaluator, value_error
    from aleator.rl.members import Members
    from aleator.rl.normalizer import ObservationNormalizer
    from aleator.rl.policy import squashed_gaussian
    from aleator.rl.replay import Batch, Replay
    from aleator.rl.settings import AgentSettings, published_settings
    from aleator.rl.spaces import vectorised
    from aleator.rl.temperature import Temperature, temperature_step

__all__ = [
    "DSAC",
    "ESTAC",
    "SAC",
    "STAC",
    "Agent",
    "AgentSettings",
    "Batch",
    "Collector",
    "Evaluation",
    "Evaluator",
    "KeepBest",
    "Members",
    "ObservationNormalizer",
    "Replay",
    "Temperature",
    "dropout_masks",
    "gaussian_head",
    "learn_when_due",
    "published_settings",
    "risky_pointmass_risk",
    "risky_pointmass_step",
    "squashed_gaussian",
    "temperature_step",
    "value_error",
    "vectorised",
]

register()

# Who makes the environment waits for no torch.
_MODULES = {
    **dict.fromkeys(("DSAC", "ESTAC", "SAC", "STAC"), "algorithms"),
    **dict.fromkeys(("AgentSettings", "published_settings"), "settings"),
    **dict.fromkeys(("Batch", "Replay"), "replay"),
    **dict.fromkeys(("Collector", "learn_when_due"), "collector"),
    **dict.fromkeys(("Evaluation", "Evaluator", "value_error"), "evaluation"),
    **dict.fromkeys(("Temperature", "temperature_step"), "temperature"),
    "Agent": "agent",
    "KeepBest": "callbacks",
    "Members": "members",
    "ObservationNormalizer": "normalizer",
    "dropout_masks": "dropout",
    "gaussian_head": "policy",
    "squashed_gaussian": "policy",
    "vectorised": "spaces",
}
__getattr__ = later(__name__, _MODULES)
