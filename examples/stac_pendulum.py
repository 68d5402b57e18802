"""Swing up a pendulum with one critic that knows how noisy its targets are: ``python examples/stac_pendulum.py``.

Needs the extra rl: pip install 'aleator[rl]'. About a minute on one core; ``… 2000`` learns for fewer steps.
"""

import sys

import gymnasium
import numpy as np

from aleator.rl import STAC, Evaluator

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000

env = gymnasium.make("Pendulum-v1")
agent = STAC(
    env.observation_space, env.action_space, beta=0.5, actor_dropout=0.0, critic_dropout=0.0,
    net_arch=(64, 64), lr=1e-3, batch_size=128, learning_starts=500, capacity=steps,
)  # fmt: skip
evaluator = Evaluator("Pendulum-v1", episodes=8)

before = evaluator(agent, key=0)
agent.learn(env, steps)
after = evaluator(agent, key=0)
print(f"median return {np.median(before.returns):.0f} before, {np.median(after.returns):.0f} after {steps} steps")
print(f"median value error {np.median(after.value_errors):+.1f}: below 0 is a critic that expects too little")

obs, _ = env.reset(seed=1)
action = agent.act(obs, deterministic=True)  # in the environment's units
mean, std = agent.value(obs, action)
print(f"at the first observation: torque {action[0]:+.2f}, value {mean:.1f}, one-step deviation {std:.2f}")
