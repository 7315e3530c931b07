"""Demonstrations of Avoiding by its scripted expert, equally many of each of the 24 ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaerl.envs.avoiding import (
    FULL_SPEED,
    NUM_MODES,
    SLOWEST,
    TIME_LIMIT,
    AvoidingEnv,
    scripted_expert,
)
from vaerl.envs.base import Array, Observation


class Demonstration(NamedTuple):
    """One recorded episode: observations (T + 1, 4), actions (T, 2), and how it ended."""

    mode: int
    observations: Observation
    actions: Observation
    success: bool


def record_demonstrations(
    per_mode: int = 4,
    *,
    seed: int = 0,
    vary_speed: bool = True,
    dead_zone: bool = True,
    tracking: float = 0.5,
) -> list[Demonstration]:
    """Record `per_mode` episodes of each of the 24 modes (D3IL: 4, so 96), failures included.

    `vary_speed` draws each episode's speed from U(0.7, 1) of full speed.

    >>> demonstrations = record_demonstrations(1)
    >>> len(demonstrations), all(d.success for d in demonstrations)
    (24, True)
    """
    if per_mode < 1:
        raise ValueError(f"per_mode: got {per_mode!r}, expected 1 or more")
    rng = np.random.default_rng(seed)
    env = AvoidingEnv(tracking=tracking)
    demonstrations = []
    for mode in range(NUM_MODES):
        for _ in range(per_mode):
            speed = FULL_SPEED * (rng.uniform(SLOWEST, 1.0) if vary_speed else 1.0)
            policy = scripted_expert(mode, rng, speed=speed, dead_zone=dead_zone)
            demonstrations.append(_record(env, mode, policy))
    return demonstrations


def _record(env: AvoidingEnv, mode: int, policy: Callable[[Observation], Array]) -> Demonstration:
    observation, info = env.reset()
    observations, actions = [observation], []
    for _ in range(TIME_LIMIT):
        action = policy(observation).astype(np.float32)
        observation, _, terminated, _, info = env.step(action)
        observations.append(observation)
        actions.append(action)
        if terminated:
            break
    return Demonstration(mode, np.stack(observations), np.stack(actions), info["goal"] == mode)
