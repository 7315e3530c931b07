"""The value of a policy in the true dynamics.

A policy here is a function (t, states (E, D)) → actions of E episodes side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.wet_chicken import SIZE

Policy = Callable[[int, Array], NDArray]
StepFunction = Callable[[Array, NDArray, np.random.Generator], Array]


class Worth(NamedTuple):
    """Mean over episodes of the (discounted) return, its standard error; mean length."""

    mean: float
    standard_error: float
    length: float


def worth(
    env: KnownLawEnv,
    policy: Policy,
    *,
    episodes: int,
    steps: int,
    gamma: float = 1.0,
    step: StepFunction | None = None,
    seed: int = 0,
) -> Worth:
    """Roll out a policy in the true dynamics, or in a model's: what it is worth, or believed to be.

    >>> from vaerl.envs.ghost_grid import GhostGridEnv
    >>> worth(GhostGridEnv(), lambda t, s: np.full(len(s), 3), episodes=50, steps=5).length > 4
    True
    """
    if step is None:
        step = lambda s, a, rng: env.step_batch(s, a, rng).next_states  # noqa: E731
    rng = np.random.default_rng(seed)
    states = env.start_states(episodes, rng)
    returns, lengths = np.zeros(episodes), np.zeros(episodes)
    running = np.arange(episodes)
    for t in range(steps):
        actions = policy(t, states)
        after = step(states, actions, rng)
        returns[running] += gamma**t * env.reward(states, actions, after)
        lengths[running] += 1
        goes_on = ~env.terminated(states, actions, after)
        running, states = running[goes_on], after[goes_on]
        if not len(running):
            break
    error = returns.std() / math.sqrt(episodes)
    return Worth(float(returns.mean()), float(error), float(lengths.mean()))


def open_loop(plan: ArrayLike) -> Policy:
    """Give the policy that plays a plan (T, …) whatever happens."""
    actions = np.asarray(plan)
    return lambda t, states: np.broadcast_to(actions[t], (len(states), *actions.shape[1:]))


def wet_chicken_policy(greedy: NDArray, points: int) -> Policy:
    """Act as decided at the nearest of `points` × `points` places: `greedy` is ``(points², 2)``."""

    def policy(t: int, states: Array) -> NDArray:
        index = np.rint(states / SIZE * (points - 1)).astype(np.int64)
        return greedy[index[:, 0] * points + index[:, 1]]

    return policy
