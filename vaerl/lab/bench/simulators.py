"""Stepping four copies of an environment: SB3's processes, Gymnasium's, and EnvPool's threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from vaerl.envs.batched import from_vector, make_envpool
from vaerl.lab.bench.timing import Case, Goal, Group

SUBPROC, ENVPOOL = "SubprocVecEnv", "EnvPool"
COPIES, STEPS = 4, 50


def simulators(task: str, device: str) -> Group:
    """Steps of all copies with actions of zero; no device has a part in it."""
    make: list[Any] = [partial(gymnasium.make, task)] * COPIES
    envs: dict[str, Any] = {
        SUBPROC: SubprocVecEnv(make),
        "DummyVecEnv": DummyVecEnv(make),
        "gymnasium AsyncVectorEnv": from_vector(AsyncVectorEnv(make)),
    }
    missing: dict[str, str] = {}
    try:
        envs[ENVPOOL] = make_envpool(task, COPIES)
    except ValueError as error:
        missing[ENVPOOL] = str(error)
    for env in envs.values():
        env.reset()
    cases = [Case(name, partial(_step, env), COPIES * STEPS) for name, env in envs.items()]
    goals = [] if missing else [Goal(ENVPOOL, 1.5, SUBPROC)]
    return Group(
        "simulators", f"{COPIES} copies of {task}", "step of a copy", cases, goals, missing
    )


def _step(env: Any) -> None:
    actions = np.zeros((COPIES, *env.action_space.shape), np.float32)
    for _ in range(STEPS):
        env.step(actions)
