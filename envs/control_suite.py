"""Tasks of DeepMind's Control Suite (Tassa et al. 2018) with vectors as observations (extra: dmc).

    gymnasium.make("dmc/walker-run-v0")

Shimmy makes them Gymnasium's. A step is one control step of the suite: actions are not repeated. An
episode has 1000 steps, each with a reward in [0, 1], and never ends by itself. Tables that count
frames with an action repeat of 2 count each of their steps twice.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

TASKS = (
    "acrobot-swingup",
    "cheetah-run",
    "dog-run",
    "dog-stand",
    "dog-trot",
    "dog-walk",
    "finger-turn_hard",
    "fish-swim",
    "hopper-hop",
    "humanoid-run",
    "humanoid-stand",
    "humanoid-walk",
    "pendulum-swingup",
    "quadruped-run",
    "reacher-hard",
    "walker-run",
)
"""Domain and task of those in WIMLE's table (2026)."""


def register_control_suite() -> None:
    """Register dmc/DOMAIN-TASK-v0 with Gymnasium; nothing is imported."""
    for name in TASKS:
        if (env_id := f"dmc/{name}-v0") not in gymnasium.registry:
            gymnasium.register(
                env_id, entry_point=f"{__name__}:make_control_suite", kwargs={"name": name}
            )


def make_control_suite(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """A task by domain and name, "walker-run".

    Observations are the suite's arrays one after the other, as float32; actions fill a float32 box.

    Raises:
        ValueError: the extra is missing.
    """
    try:
        from dm_control import suite
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0
    except ImportError as error:
        raise ValueError(
            f"env: dmc/{name}-v0 needs dm_control and shimmy ({error}): pip install 'vaerl[dmc]'"
        ) from None
    domain, task = name.split("-")
    env: Any = DmControlCompatibilityV0(suite.load(domain, task), render_mode=render_mode)
    return _Vectors(env)


class _Vectors(gymnasium.ObservationWrapper, gymnasium.utils.RecordConstructorArgs):
    """Observations and the box of actions as float32, the former in one row."""

    def __init__(self, env: gymnasium.Env) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(wrappers.FlattenObservation(env))
        box: Any = self.env.observation_space
        self.observation_space = spaces.Box(-np.inf, np.inf, box.shape, np.float32)
        limits: Any = self.env.action_space
        low, high = limits.low.astype(np.float32), limits.high.astype(np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        """The row."""
        return observation.astype(np.float32)
