"""Small spaces, nets and environments that the tests of policies and agents share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Env, spaces

from vaerl.densities import density_names
from vaerl.policies import ActorCriticPolicy, SACPolicy

DENSITIES = density_names()
OBS = spaces.Box(-1.0, 1.0, (3,), np.float32)
ACT = spaces.Box(-2.0, 2.0, (2,), np.float32)
DICT_OBS = spaces.Dict({"a": OBS, "b": spaces.Box(-1.0, 1.0, (2,), np.float32)})
SPACES = {"box": OBS, "dict": DICT_OBS}


def schedule(_: float) -> float:
    """A constant learning rate."""
    return 3e-4


def sac_policy(density: str = "cvae", obs: Any = OBS, act: Any = ACT, **kwargs: Any) -> SACPolicy:
    """A tiny off-policy policy, the same at every call."""
    torch.manual_seed(0)
    return SACPolicy(obs, act, schedule, net_arch=[16], density=density, **kwargs)


def ac_policy(
    density: str = "cvae", obs: Any = OBS, act: Any = ACT, **kwargs: Any
) -> ActorCriticPolicy:
    """A tiny on-policy policy, the same at every call."""
    torch.manual_seed(0)
    return ActorCriticPolicy(obs, act, schedule, net_arch=[16], density=density, **kwargs)


def observations(space: spaces.Space, count: int, seed: int = 0) -> Any:
    """A batch of observations as tensors."""
    space.seed(seed)
    rows = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {k: torch.as_tensor(np.stack([row[k] for row in rows])) for k in space.spaces}
    return torch.as_tensor(np.stack(rows))


class TinyEnv(Env):
    """Ten steps; the reward is −Σ|a − s|, so that acting like the observation is best."""

    def __init__(self, dict_obs: bool = False, length: int = 10) -> None:
        self.dict_obs, self.length, self.steps = dict_obs, length, 0
        self.action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.observation_space = DICT_OBS if dict_obs else spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _observe(self) -> Any:
        self.goal = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        if self.dict_obs:
            return {"a": np.append(self.goal, 0.0).astype(np.float32), "b": self.goal}
        return self.goal

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        reward = -float(np.abs(action - self.goal).sum())
        self.steps += 1
        return self._observe(), reward, False, self.steps >= self.length, {}
