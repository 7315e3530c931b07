"""Making an environment by its Gymnasium id."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium


def is_mujoco(env_id: str) -> bool:
    """Whether `env_id` is one of Gymnasium's MuJoCo environments.

    >>> is_mujoco("Hopper-v5"), is_mujoco("Pendulum-v1")
    (True, False)
    """
    return "gymnasium.envs.mujoco" in str(gymnasium.spec(env_id).entry_point)


def make_env(env_id: str, **arguments: Any) -> gymnasium.Env:
    """Make a registered environment, without MuJoCo's warnings about Gymnasium's model files.

    MuJoCo prints these for every copy and appends them to a file in the current folder. Only a
    registered id is made: `gymnasium.make` would import the module of an id like "module:Name-v0".

    Raises:
        gymnasium.error.Error: `env_id` is not registered.
    """
    if not is_mujoco(env_id):
        return gymnasium.make(env_id, **arguments)
    import mujoco

    before = mujoco.get_mju_user_warning()

    def show(text: str) -> None:
        if "deprecated" not in text:
            print(f"mujoco: {text}", file=sys.stderr)

    mujoco.set_mju_user_warning(show)
    try:
        return gymnasium.make(env_id, **arguments)
    finally:
        mujoco.set_mju_user_warning(before)
