"""An environment with one fault, by name, and a short training in it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vaerl.runs.config import TrainConfig

ZERO = np.zeros(1, np.float32)
LAST = 8
"""Steps of an episode."""


class Odd(gymnasium.Env):
    """Episodes of `LAST` steps; a fault, by name, at step 12 counted over all episodes."""

    observation_space = action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, fault: str = "", render_mode: str | None = None) -> None:
        self.fault, self.render_mode, self.total, self.resets = fault, render_mode, 0, 0
        if fault == "raises when made":
            raise RuntimeError("no licence")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.resets = 0, self.resets + 1
        if self.resets == 2 and self.fault == "reset raises":
            raise RuntimeError("the door is shut")
        if self.fault == "reset returns no info":
            return ZERO
        return ZERO, self._info()

    def step(self, action: np.ndarray) -> Any:
        self.steps, self.total = self.steps + 1, self.total + 1
        over = self.steps == LAST and self.fault != "never ends"
        returned: list[Any] = [ZERO, 1.0, over, False, self._info()]
        if self.total == 12:
            match self.fault:
                case "step raises":
                    raise KeyError("left leg")
                case "a value error":
                    raise ValueError("not\na line")
                case "step returns four":
                    return returned[:4]
                case "step returns None":
                    return None
                case "reward None":
                    returned[1] = None
                case "reward NaN":
                    returned[1] = float("nan")
                case "observation inf":
                    returned[0] = np.full(1, np.inf, np.float32)
                case "another shape":
                    returned[0] = np.zeros(2, np.float32)
                case "exits in Python":
                    sys.exit(0)
                case "an error without words":
                    raise Wordless
                case "reward text":
                    returned[1] = "1"
                case "end None":
                    returned[2] = None
                case "observation text":
                    returned[0] = np.array(["x"])
                case "ragged":
                    returned[0] = [[1], [1, 2]]
                case "moves":
                    os.chdir("/")
                case "info None":
                    returned[4] = None
                case "exits":
                    os._exit(7)
                case "hangs":
                    time.sleep(600)
                case "info that cannot be sent":
                    returned[4] = {"lambda": lambda: 0}
        return tuple(returned)

    def _info(self) -> dict[str, Any]:
        match self.fault:
            case "words":
                self.num_modes, self.evaluation_episodes = "many", None
                words = {"goal": "home", "position": {"x": 1}, "episode": 3, "is_success": "yes"}
                return {**words, "TimeLimit.truncated": "no", "terminal_observation": 5}
        return {}

    def map_artist(self) -> None:
        raise AssertionError("not vaerl's")

    probe_observations = transition_distribution = map_artist

    def render(self) -> Any:
        match self.fault:
            case "render raises":
                raise ZeroDivisionError("no light")
            case "render returns text":
                return "a picture"
            case "render exits":
                sys.exit(4)
            case "render returns nothing":
                return np.zeros((0, 0, 3), np.uint8)
            case "render grows":
                return np.zeros((8 + self.steps, 8, 3), np.uint8)
        return None

    def close(self) -> None:
        if self.fault == "close raises":
            raise OSError("stuck")
        if self.fault == "close exits":
            sys.exit(0)


class Wordless(Exception):
    """An error whose own words fail."""

    def __str__(self) -> str:
        raise ValueError("no words")


def odd_id(fault: str) -> str:
    """The environment with this fault, which is registered at the first call."""
    name = f"test/Odd-{fault.replace(' ', '-')}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, Odd, disable_env_checker=True, kwargs={"fault": fault})
    return name


def odd(out: Path, fault: str, agent: str = "ppo", **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    if agent == "sac":
        options = {"learning_starts": 10, "batch_size": 8, "buffer_size": 50}
    fields: dict[str, Any] = {
        "env": odd_id(fault),
        "agent": agent,
        "density": "gaussian",
        "steps": 32,
        "eval_every": 16,
        "eval_episodes": 1,
        "final_episodes": 2,
        "out": str(out),
        "device": "cpu",
        "agent_options": {**options, "policy_kwargs": {"net_arch": [8]}},
    }
    return TrainConfig(**{**fields, **changes})
