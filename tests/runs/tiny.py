"""Agents so small that a checkpoint of one is written and read in milliseconds."""

from __future__ import annotations

import hashlib
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import Env, spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import BitFlippingEnv

NET = {"net_arch": [8]}


class Corridor(Env[np.ndarray, np.ndarray]):
    """Walk on a line for 20 steps; the reward is minus the distance to the middle."""

    observation_space = spaces.Box(-5.0, 5.0, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.x = float(np.clip(self.x + 0.2 * float(action[0]), -5, 5))
        self.t += 1
        return self._observe(), -abs(self.x), False, self.t >= 20, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.x, self.t / 20], dtype=np.float32)


gymnasium.register("Corridor-v0", Corridor, order_enforce=False, disable_env_checker=True)
gymnasium.register(
    "BitFlipping-v0",
    BitFlippingEnv,
    order_enforce=False,
    disable_env_checker=True,
    kwargs={"n_bits": 3, "continuous": True},
)


def corridor() -> Env:
    """One that a checkpoint can make again by its id."""
    return gymnasium.make("Corridor-v0")


def make(name: str, **options: Any) -> BaseAlgorithm:
    """An untrained agent by the name its checkpoint carries."""
    if name == "sb3-sac":
        defaults = {"learning_starts": 10, "buffer_size": 200, "batch_size": 8}
        return SAC("MlpPolicy", corridor(), **{**defaults, "policy_kwargs": dict(NET), **options})
    if name == "sb3-ppo":
        defaults = {"n_steps": 16, "batch_size": 8, "n_epochs": 1}
        return PPO("MlpPolicy", corridor(), **{**defaults, "policy_kwargs": dict(NET), **options})
    assert name == "sb3-a2c", name
    return A2C("MlpPolicy", corridor(), **{"policy_kwargs": dict(NET), **options})


def trained(name: str, steps: int = 40, **options: Any) -> BaseAlgorithm:
    """The same, after a few steps, so that its optimizers have something to remember."""
    return make(name, **{"seed": 0, **options}).learn(steps)


def digest(agent: BaseAlgorithm) -> str:
    """SHA-256 of everything an agent has learned: parameters, buffers, optimizers, counters."""
    state: dict[str, Any] = {"n": agent.num_timesteps, "u": agent._n_updates}
    names, variables = agent._get_torch_save_params()
    for name in [*names, *variables]:
        part: Any = agent
        for attribute in name.split("."):
            part = getattr(part, attribute)
        state[name] = part if isinstance(part, torch.Tensor) else part.state_dict()
    return hashlib.sha256(repr(_plain(state)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (list(value.shape), str(value.dtype), value.detach().cpu().numpy().tobytes())
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def observations(count: int = 5) -> np.ndarray:
    """A fixed batch of observations."""
    return np.linspace(-1, 1, 2 * count, dtype=np.float32).reshape(count, 2)
