"""A scripted expert for Avoiding: one way-point route for each of the 24 modes.

D3IL's demonstrations were steered by a gamepad whose axes are zeroed near the middle, so each
component of an action is 0 or at least 0.005: the action law has an atom at 0. `dead_zone` and
`vary_speed` imitate that; without them a scripted set flatters latent-variable models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaerl.envs.avoiding import MAX_ACTION, NUM_MODES, TIME_LIMIT, AvoidingEnv, mode_gaps
from vaerl.envs.base import Array, Observation

FULL_SPEED = 1.0 / 120.0  # metres a step at full stick
SLOWEST = 0.7  # share of FULL_SPEED, under `vary_speed`
DEAD_ZONE = 0.005
_ROUTE_Y = (-0.14, -0.07, 0.045, 0.115, 0.22, 0.30, 0.37)
_ROUTE_X = ((0.44, 0.56), (0.36, 0.50, 0.64), (0.285, 0.425, 0.575, 0.715))
_ROUTE_ROW = (0, 0, 1, 1, 2, 2, 2)
_JITTER = 0.006
_NOISE = 0.0007
_SWITCH = 0.012


class Demonstration(NamedTuple):
    """One recorded episode: observations (T + 1, 4), actions (T, 2), and how it ended."""

    mode: int
    observations: Observation
    actions: Observation
    success: bool


def scripted_expert(
    mode: int,
    rng: np.random.Generator,
    *,
    speed: float = FULL_SPEED,
    dead_zone: bool = False,
) -> Callable[[Observation], Array]:
    """Return a policy for one episode: observation (4,) → action (2,), aiming at gap after gap.

    It steers the desired point to the next of seven way-points (x jittered by N(0, 0.006²), drawn
    here) by min(speed, distance), goes on to the one after it within 0.012, and adds N(0, 0.0007²).

    >>> policy = scripted_expert(0, np.random.default_rng(0))
    >>> action = policy(np.array([0.525, -0.28, 0.525, -0.28], dtype=np.float32))
    >>> bool(action[0] < 0 < action[1])
    True
    """
    if not 0.0 < speed <= MAX_ACTION:
        raise ValueError(f"speed: got {speed!r}, expected above 0 and at most {MAX_ACTION}")
    gaps = mode_gaps(mode)
    route = np.array(
        [
            (_ROUTE_X[row][gaps[row]] + _JITTER * rng.normal(), y)
            for row, y in zip(_ROUTE_ROW, _ROUTE_Y, strict=True)
        ]
    )
    reached = 0
    owed = np.zeros(2)  # movement wanted so far that the dead zone has kept back

    def act(observation: Observation) -> Array:
        nonlocal reached, owed
        desired = np.asarray(observation, dtype=np.float64)[:2]
        while reached < len(route) - 1 and math.dist(desired, route[reached]) < _SWITCH:
            reached += 1
        way = route[reached] - desired
        distance = float(np.hypot(*way))
        step = way * (min(speed, distance) / max(distance, 1e-12)) + _NOISE * rng.normal(size=2)
        if dead_zone:
            owed = owed + step
            step = np.where(np.abs(owed) < DEAD_ZONE, 0.0, np.clip(owed, -FULL_SPEED, FULL_SPEED))
            owed = owed - step
        return np.clip(step, -MAX_ACTION, MAX_ACTION)

    return act


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
