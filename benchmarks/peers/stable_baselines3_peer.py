"""Updates of Stable-Baselines3's SAC on transitions drawn at random; see the package for the protocol.

Runs in the peer's environment. Its arguments are the widths of observation, action and hidden layers, the batch and how
many updates are taken each time. The replay holds as many transitions as ours, of the same distribution.
"""

import importlib.metadata
import json
import sys
import time

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

obs, act, width, batch, updates = map(int, sys.argv[1:])
torch.set_num_threads(1)


class World(gymnasium.Env):
    """Spaces, and nothing that happens in them."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (act,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Begin."""
        return np.zeros(obs, np.float32), {}

    def step(self, action):
        """Do nothing."""
        return np.zeros(obs, np.float32), 0.0, False, False, {}


net = {"net_arch": [width] * 2}
agent = SAC("MlpPolicy", World(), batch_size=batch, buffer_size=5000, device="cpu", seed=0, policy_kwargs=net)
agent.set_logger(Logger(None, []))
draw = np.random.default_rng(0)
for _ in range(5000):
    row = draw.standard_normal((2, 1, obs)).astype(np.float32)
    action = draw.uniform(-1, 1, (1, act)).astype(np.float32)
    ended = draw.random(1) < 0.01
    agent.replay_buffer.add(row[0], row[1], action, draw.standard_normal(1), ended, [{}])

agent.train(gradient_steps=updates, batch_size=batch)
print(json.dumps({"version": importlib.metadata.version("stable-baselines3")}), flush=True)
for _ in sys.stdin:
    begin = time.process_time()
    agent.train(gradient_steps=updates, batch_size=batch)
    print(json.dumps({"seconds": time.process_time() - begin}), flush=True)
