"""Small tasks that a model is learned for: a walk on a line, in boxes and over choices."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Env, spaces


class Walk(Env):
    """s' = s + a/2 for a in [−2, 2] (or choices −1, 0, 1); the reward is −|s'|.

    An episode ends beyond ±4, and is cut off after `length` steps. With `known`, the environment
    gives its reward and its end as functions of batches.
    """

    def __init__(self, discrete: bool = False, length: int = 10) -> None:
        self.discrete, self.length, self.steps = discrete, length, 0
        self.observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
        box = spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.action_space: spaces.Space = spaces.Discrete(3) if discrete else box

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.at = self.np_random.uniform(-3.0, 3.0, 1).astype(np.float32)
        return self.at, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        move = float(action) - 1.0 if self.discrete else 0.5 * float(action[0])
        self.at = self.at + np.float32(move)
        self.steps += 1
        reward, ended = -abs(float(self.at[0])), bool(abs(self.at[0]) > 4.0)
        return self.at, reward, ended, self.steps >= self.length, {}


class KnownWalk(Walk):
    """The walk, whose reward and end are known functions."""

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """−|s'|, and a tenth of the action as the environment takes it."""
        return -abs(next_states[..., 0]) + 0.1 * actions[..., 0]

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Beyond ±4."""
        return abs(next_states[..., 0]) > 4.0
