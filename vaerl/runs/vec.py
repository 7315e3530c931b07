"""The environments of a run: made by id, checked, monitored, with independent seeds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import vaerl.envs  # noqa: F401  (registers the environments, in worker processes too)
from vaerl.disk.errors import FOREIGN, EnvironmentFault, one_line, words_of
from vaerl.envs.batched import make_envpool
from vaerl.envs.making import check_env_options, find_spec, make_env
from vaerl.policies.spaces import check_action_space
from vaerl.runs.config import check_env_id
from vaerl.runs.monitor import monitored
from vaerl.runs.workers import TIMEOUT, Workers


class _SpacedSeeds:
    """Spawns the seeds of the copies from one; Stable-Baselines3 counts seed, seed + 1, ….

    With consecutive seeds, two runs seeded 0 and 1 share all but one of their environments.
    """

    num_envs: int
    _seeds: list[int | None]

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Give every copy its own seed, used at the next reset."""
        state = np.random.SeedSequence(seed).generate_state(self.num_envs)
        self._seeds = [int(word) for word in state]
        return self._seeds


class _Dummy(_SpacedSeeds, DummyVecEnv):
    """Copies in this process."""


class _Workers(_SpacedSeeds, Workers):
    """Copies in processes of their own."""


def make_vec(
    env_id: str,
    copies: int = 1,
    *,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    subprocess: bool = False,
    discrete: bool = False,
    limit: int | None = None,
    timeout: float = TIMEOUT,
    restarts: int = 0,
    envpool: bool = False,
) -> VecEnv:
    """Make `copies` of the environment, each under a Monitor, with spawned seeds.

    With `discrete`, discrete actions are legal besides a box: an agent that plans takes both.

    With `subprocess`, each copy has `timeout` seconds for an answer, and `restarts` copies that
    fail are begun anew.

    With `envpool`, EnvPool steps the copies; it must know the id and have the same spaces.

    With `limit`, an episode of an environment that declares no end is cut after so many steps.

    Raises ValueError for an unknown id, an unfit action space or options that do not fit;
    EnvironmentFault if the environment fails when it is made.

    >>> env = make_vec("Pendulum-v1", 2, seed=0)
    >>> env.num_envs, env.reset().shape
    (2, (2, 3))
    """
    check_env_id(env_id)
    spec, arguments = find_spec(env_id), dict(options or {})
    check_env_options(spec, arguments)
    try:
        first = _make_one(spec, arguments, limit)
        if arguments:  # some are first used by a reset
            first.reset()
    except FOREIGN as error:
        if not arguments:
            raise EnvironmentFault(f"env {env_id!r} cannot be made: {words_of(error)}") from error
        words = f"env_options: got {arguments} for {env_id!r}: {words_of(error)}"
        raise ValueError(one_line(words)) from error
    try:
        if not (discrete and isinstance(first.action_space, spaces.Discrete)):
            check_action_space(first.action_space)
        seen = first.observation_space
        if not isinstance(seen, spaces.Dict) and getattr(seen, "shape", None) is None:
            raise ValueError(
                f"observation_space: got {seen}, expected a Box, Discrete, MultiDiscrete or "
                "MultiBinary, or one flat Dict of them"
            )
    except ValueError as error:
        raise ValueError(f"env {env_id!r}: {error}") from error
    finally:
        first.close()
    if envpool:
        return _make_envpool(spec, copies, arguments, first, seed)
    make = [
        partial(_make_one, spec, arguments, limit, f" (copy {i})" if copies > 1 else "")
        for i in range(copies)
    ]
    names = [f"{env_id} (copy {i})" if copies > 1 else env_id for i in range(copies)]
    env: VecEnv = _Workers(make, names, timeout, restarts) if subprocess else _Dummy(make)  # type: ignore[arg-type]
    env.seed(seed)
    return env


def _make_envpool(
    spec: EnvSpec, copies: int, arguments: dict[str, Any], first: gymnasium.Env, seed: int | None
) -> VecEnv:
    env = make_envpool(spec.id, copies, **arguments)
    for name in ("observation_space", "action_space"):
        theirs, ours = getattr(env, name), getattr(first, name)
        if theirs.shape != ours.shape:
            env.close()
            raise ValueError(f"envpool: {name} is {theirs} for {spec.id!r}, expected {ours}")
    env.seed(seed)
    return env


def _make_one(
    spec: EnvSpec, arguments: dict[str, Any], limit: int | None, copy: str = ""
) -> gymnasium.Env:
    return monitored(make_env(spec, **arguments), f"{spec.id}{copy}", limit)


def spawn_seeds(seed: int, *names: str) -> dict[str, int]:
    """Spawn one seed a name from `seed`, each independent of the others.

    >>> spawn_seeds(0, "agent", "evaluation")
    {'agent': 3757552657, 'evaluation': 673228719}
    """
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {
        name: int(child.generate_state(1)[0]) for name, child in zip(names, children, strict=True)
    }
