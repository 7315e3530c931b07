"""Making an environment by its Gymnasium id."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from vaerl.disk.errors import FOREIGN, words_of

LONGEST = 100_000  # steps of an episode that an environment may declare
MUJOCO = {"frame_skip": 1000, "width": 4096, "height": 4096}
"""Greatest numbers among the options of Gymnasium's MuJoCo environments."""


def find_spec(env_id: str) -> EnvSpec:
    """The registered environment of an id; nothing is imported.

    An id may name the module that registers it, "module:Name-v0", which must be imported already:
    `gymnasium.make` would import whatever module the file of a run names.

    Raises:
        gymnasium.error.Error: `env_id` is not registered, or its module is not imported.

    >>> find_spec("Pendulum-v1").max_episode_steps
    200
    """
    module, _, name = env_id.rpartition(":")
    if module and module not in sys.modules:
        raise gymnasium.error.UnregisteredEnv(
            f"module {module!r} is not imported; import it first, or allow it with "
            f"--allow-module {module}"
        )
    return gymnasium.spec(name)


def check_env_options(spec: EnvSpec, options: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line for options that would keep an environment busy for ever.

    >>> check_env_options(find_spec("Pendulum-v1"), {"max_episode_steps": -1})
    Traceback (most recent call last):
    ValueError: env_options: max_episode_steps: got -1, expected a whole number from 1 to 100,000
    """
    if options.get("render_mode") is not None:
        raise ValueError(
            f"env_options: render_mode: got {options['render_mode']!r:.60}, expected none: a video "
            "and a picture choose it"
        )
    limits = {"max_episode_steps": LONGEST, **(MUJOCO if _uses_mujoco(spec) else {})}
    for name, most in limits.items():
        value = options.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
        if value is not None and not whole:
            raise ValueError(
                f"env_options: {name}: got {value!r:.60}, expected a whole number from 1 to "
                f"{most:,}"
            )
    for name, value in options.items():
        if isinstance(value, str) and _is_endless(value):
            raise ValueError(f"env_options: {name}: got {value!r:.60}, expected a plain file")


def _is_endless(path: str) -> bool:
    """Whether a text is the path of a device or a pipe."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def import_environments(module: str) -> None:
    """Import a module that the user names, from the current folder too, to register environments.

    Raises:
        ValueError: in one line, if it cannot be imported.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        import_module(module)
    except FOREIGN as error:  # the module runs its own code
        reason = words_of(error)
        raise ValueError(f"module: got {module!r}, which cannot be imported: {reason}") from error


def is_mujoco(env_id: str) -> bool:
    """Whether `env_id` is one of Gymnasium's MuJoCo environments.

    >>> is_mujoco("Hopper-v5"), is_mujoco("Pendulum-v1")
    (True, False)
    """
    return _uses_mujoco(find_spec(env_id))


def _uses_mujoco(spec: EnvSpec) -> bool:
    return "gymnasium.envs.mujoco" in str(spec.entry_point)


def make_env(env: str | EnvSpec, **arguments: Any) -> gymnasium.Env:
    """Make a registered environment, without MuJoCo's warnings about Gymnasium's model files.

    MuJoCo prints these for every copy and appends them to a file in the current folder.

    Args:
        env: an id, as `find_spec` takes it, or what that found, which a worker process can make
            without having it registered.
        arguments: of `gymnasium.make`.

    Raises:
        gymnasium.error.Error: as `find_spec`.
    """
    spec = find_spec(env) if isinstance(env, str) else env
    check_env_options(spec, {**arguments, "render_mode": None})
    if not _uses_mujoco(spec):
        return gymnasium.make(spec, **arguments)
    import mujoco

    before = mujoco.get_mju_user_warning()

    def show(text: str) -> None:
        if "deprecated" not in text:
            print(f"mujoco: {text}", file=sys.stderr)

    mujoco.set_mju_user_warning(show)
    try:
        return gymnasium.make(spec, **arguments)
    finally:
        mujoco.set_mju_user_warning(before)


def declared(env: Any) -> Any:
    """The bare environment, or its class, if it declares vaerl's interface, otherwise None.

    >>> declared(make_env("vaerl/MultiGoal-v0")).num_modes, declared(make_env("Pendulum-v1"))
    (4, None)
    """
    bare = env if isinstance(env, type) else getattr(env, "unwrapped", env)
    return bare if getattr(bare, "vaerl_interface", False) is True else None
