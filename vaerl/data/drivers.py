"""Who drives an environment while it is recorded: an agent, a function, an expert, or chance.

A driver is called at the start of each episode, after the reset, with a random generator, the
environment and the episode's number. It gives a function from observation to action.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from vaerl.data.demonstrations import Array
from vaerl.envs.making import declared
from vaerl.names import check_name

Act = Callable[[Any], Array]
Driver = Callable[[np.random.Generator, gymnasium.Env, int], Act]


def expert(rng: np.random.Generator, env: gymnasium.Env, number: int) -> Act:
    """The environment's own expert: its method ``expert(rng, episode)``.

    Raises ValueError if the environment has none.
    """
    own = getattr(declared(env), "expert", None)
    if own is None:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        raise ValueError(
            f"expert: {name!r} has none; expected an environment that declares "
            "vaerl_interface and a method expert(rng, episode), or another driver"
        )
    return own(rng, number)


def chance(rng: np.random.Generator, env: gymnasium.Env, number: int) -> Act:
    """Actions drawn from the action space."""
    env.action_space.seed(int(rng.integers(2**31)))
    return lambda observation: env.action_space.sample()


DRIVERS: dict[str, Driver] = {"expert": expert, "random": chance}


def as_driver(policy: Any) -> Driver:
    """A driver from what `collect` takes as its policy.

    Args:
        policy: "expert" or "random"; anything with Stable-Baselines3's `predict`; or a function of
            one argument (observation → action), two (rng, env) or three (rng, env, number); the
            last two give a function from observation to action.

    >>> as_driver(lambda observation: np.zeros(1))(None, None, 0)("seen")
    array([0.])
    """
    if isinstance(policy, str):
        return DRIVERS[check_name("policy", policy, DRIVERS)]
    if hasattr(policy, "predict"):
        return partial(follow, policy)
    if not callable(policy):
        raise ValueError(f"policy: got {policy!r}, expected an agent, a function or {[*DRIVERS]}")
    forms: dict[int, Driver] = {
        1: lambda rng, env, number: policy,
        2: lambda rng, env, number: policy(rng, env),
        3: policy,
    }
    needed = [
        p
        for p in inspect.signature(policy).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) not in forms:
        raise ValueError(
            f"policy: got a function of {len(needed)} arguments, expected (observation), "
            "(rng, env) or (rng, env, number)"
        )
    return forms[len(needed)]


def follow(
    agent: Any,
    rng: np.random.Generator,
    env: gymnasium.Env,
    number: int,
    deterministic: bool = False,
) -> Act:
    """An agent with `predict`; its random streams are seeded at the start of each episode."""
    if hasattr(agent, "set_random_seed"):
        agent.set_random_seed(int(rng.integers(2**31)))
    state: Any = None
    start = np.ones(1, dtype=bool)

    def act(observation: Any) -> Array:
        nonlocal state
        batch = (
            {key: np.asarray(value)[None] for key, value in observation.items()}
            if isinstance(observation, dict)
            else np.asarray(observation)[None]
        )
        carried = {} if state is None else {"state": state, "episode_start": start.copy()}
        action, state = agent.predict(batch, deterministic=deterministic, **carried)
        start[:] = False
        return action[0]

    return act
