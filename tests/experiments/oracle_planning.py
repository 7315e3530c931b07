"""Planners on known laws: the values that planning with a learned model is compared with.

Value iteration where the state is small (ghost grid, Wet-Chicken, BimodalWind), random shooting
where it is not (Acrobot).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.stats import norm

from tests.experiments.oracles import REFERENCES
from vaerl.envs import bimodal_wind, ghost_grid
from vaerl.envs.base import Array
from vaerl.envs.bimodal_wind import BimodalWindEnv
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.laws import MixedLaw, UniformLaw
from vaerl.envs.wet_chicken import SIZE, WetChickenEnv
from vaerl.experiments.dynamics.worth import Policy, StepFunction, wet_chicken_policy
from vaerl.names import check_name


def random_shooting(
    env: KnownLawEnv,
    step: StepFunction,
    *,
    sequences: int = 100,
    horizon: int = 10,
    seed: int = 0,
) -> Policy:
    """Give the policy that plays the first action of the best of random action sequences.

    Best by undiscounted return under `step` and the environment's reward; one particle a sequence.
    """
    rng = np.random.default_rng(seed)

    def policy(t: int, states: Array) -> NDArray:
        shape = (len(states), sequences)
        plans = [_random_actions(env, shape, rng) for _ in range(horizon)]
        now = np.repeat(states[:, None], sequences, axis=1)
        total, alive = np.zeros(shape), np.ones(shape, dtype=np.bool_)
        for actions in plans:
            after = now.copy()
            after[alive] = step(now[alive], actions[alive], rng)
            total += alive * env.reward(now, actions, after)
            alive &= ~env.terminated(now, actions, after)
            now = after
        return plans[0][np.arange(len(states)), total.argmax(axis=1)]

    return policy


def _random_actions(env: KnownLawEnv, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    space = env.action_space
    if hasattr(space, "n"):
        return rng.integers(int(space.n), size=shape)
    return rng.uniform(space.low, space.high, (*shape, *space.shape))


# The ghost grid


def ghost_grid_plan(gamma: float = 0.99) -> tuple[float, Policy]:
    """Give the exact value of the start state and an optimal policy, by value iteration."""
    cells = ghost_grid.CELLS
    count = len(cells)
    number = np.full((ghost_grid.SIDE, ghost_grid.SIDE), -1)
    number[cells[:, 0], cells[:, 1]] = np.arange(count)
    moved = np.empty((4, count), dtype=np.int64)
    ghosts = np.zeros((2, count, count))
    for a, move in enumerate(ghost_grid.MOVES):
        legal = ghost_grid.LEGAL[cells[:, 0], cells[:, 1], a]
        target = np.where(legal[:, None], cells + move, cells)
        moved[a] = number[target[:, 0], target[:, 1]]
        for which in (0, 1):
            chance = ghost_grid.CHANCES[which][cells[:, 0], cells[:, 1], a]
            ghosts[which][np.arange(count)[legal], moved[a][legal]] += chance[legal]
    same = np.eye(count, dtype=np.bool_)
    hit = same[:, :, None] | same[:, None, :]  # agent, ghost 1, ghost 2
    goal = number[ghost_grid.GOAL]

    def action_values(values: Array) -> Array:
        after = gamma * values
        after[goal] = 10.0
        after[hit] = -1.0
        expected = np.where(hit, -1.0, ghosts[0] @ after @ ghosts[1].T)
        return expected[moved]

    values = np.zeros((count, count, count))
    for _ in range(1000):
        best = action_values(values).max(axis=0)
        change = np.abs(best - values).max()
        values = best
        if change < 1e-8:
            break
    greedy = action_values(values).argmax(axis=0)

    def policy(t: int, states: Array) -> NDArray:
        whole = np.rint(states).astype(np.int64)
        agent, one, two = (number[whole[:, i], whole[:, i + 1]] for i in (0, 2, 4))
        return greedy[agent, one, two]

    start = ghost_grid.START
    return float(values[number[start[:2]], number[start[2:4]], number[start[4:]]]), policy


# Wet-Chicken


def wet_chicken_plan(
    kind: str = "true", *, points: int = 41, actions_per_axis: int = 5, gamma: float = 0.99
) -> Policy:
    """Give the best policy for a model of Wet-Chicken ("true", "gaussian", "mean").

    Value iteration on a grid of points², values linear between grid points and the law exact; the
    policy takes the action of the nearest grid point.
    """
    kind = check_name("kind", kind, REFERENCES)
    nodes = np.linspace(0.0, SIZE, points)
    line = np.linspace(-1.0, 1.0, actions_per_axis)
    actions = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    states = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 1, 2)
    law = cast(MixedLaw, WetChickenEnv().transition_distribution(states, actions))
    segment = cast(UniformLaw, law.rest)
    fall = law.probabilities[..., 0] if kind == "true" else np.zeros(law.batch_shape)
    if kind == "true":
        bank = law.probabilities[..., 1, None]
        x = hat_weights(nodes, ramp(segment.low[..., 0, None]))
        glide = hat_weights(nodes, uniform_ramp(segment.low[..., 1], segment.high[..., 1]))
        y = bank * np.eye(points)[0] + (1.0 - bank - fall[..., None]) * glide
    else:
        mean = law.mean()
        std = np.sqrt(np.diagonal(law.covariance(), axis1=-2, axis2=-1))
        if kind == "mean":
            x, y = (hat_weights(nodes, ramp(mean[..., i, None])) for i in (0, 1))
        else:
            x, y = (
                hat_weights(nodes, normal_ramp(mean[..., i], np.maximum(std[..., i], 1e-9)))
                for i in (0, 1)
            )
    reward = y @ nodes - SIZE  # a fall ends at y' = 0 and adds nothing to the first term
    values = np.zeros((points, points))
    for _ in range(2000):
        quality = reward + gamma * (((x @ values) * y).sum(axis=-1) + fall * values[0, 0])
        best = quality.max(axis=1).reshape(points, points)
        if np.ptp(best - values) < 1e-4:  # what is still missing is the same everywhere
            break
        values = best
    greedy = actions[quality.argmax(axis=1)]

    return wet_chicken_policy(greedy, points)


# A law on a line is given to `hat_weights` as its ramp t ↦ E max(t − X, 0).


def hat_weights(nodes: Array, ramp_at: Callable[[Array], Array]) -> Array:
    """Give the weights (*batch, n) with which a law uses values given at n equal-spaced nodes.

    E V(X) = Σ_j w_j V(t_j) for V linear between the nodes and constant beyond them: second
    differences of the ramp E max(t − X, 0).

    >>> hat_weights(np.array([0.0, 1.0, 2.0]), ramp(np.array([[1.25], [9.0]]))).tolist()
    [[0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    slope = np.diff(ramp_at(nodes), axis=-1) / (nodes[1] - nodes[0])
    ends = np.zeros_like(slope[..., :1])
    return np.diff(np.concatenate([ends, slope, ends + 1.0], axis=-1), axis=-1)


def ramp(point: Array) -> Callable[[Array], Array]:
    """Give the ramp of a point (*batch, 1)."""
    return lambda t: np.maximum(t - point, 0.0)


def uniform_ramp(low: Array, high: Array) -> Callable[[Array], Array]:
    """Give the ramp of a uniform law on [low, high], each (*batch,)."""
    low, width = low[..., None], np.maximum(high - low, 1e-9)[..., None]
    return lambda t: (
        np.clip(t - low, 0.0, width) ** 2 / (2.0 * width) + np.maximum(t - low - width, 0.0)
    )


def normal_ramp(mean: Array, std: Array) -> Callable[[Array], Array]:
    """Give the ramp of a Gaussian, mean and std (*batch,)."""
    mean, std = mean[..., None], std[..., None]

    def at(t: Array) -> Array:
        z = (t - mean) / std
        return (t - mean) * norm.cdf(z) + std * norm.pdf(z)

    return at


# BimodalWind


def bimodal_wind_plan(kind: str = "true", *, points: int = 201, num_actions: int = 9) -> Policy:
    """Give the best feedback policy for a model of BimodalWind ("true", "gaussian", "mean").

    Backward induction over the 13 moves on a grid of `points` × `points` (y, v), values linear
    between grid points; the policy takes the action of the nearest one.
    """
    kind = check_name("kind", kind, REFERENCES)
    y, v = np.linspace(-2.0, 2.0, points), np.linspace(-5.0, 5.0, points)
    y_step, v_step = y[1] - y[0], v[1] - v[0]
    actions = np.linspace(-1.0, 1.0, num_actions)
    height, speed = np.meshgrid(y, v, indexing="ij")
    states = np.stack([np.full_like(height, bimodal_wind.MOVES), height, speed], -1)
    values = np.asarray(BimodalWindEnv().reward(states, None, states))
    blows = np.abs(height) < bimodal_wind.GUST_HALF_WIDTH
    greedy = np.empty((bimodal_wind.MOVES, points, points))
    for t in reversed(range(bimodal_wind.MOVES)):
        noise = bimodal_wind.NOISE / np.array([y_step, v_step])
        calm = gaussian_filter(values, noise, mode="nearest")
        windy = calm
        if kind == "gaussian":
            windy = gaussian_filter1d(calm, bimodal_wind.GUST / v_step, axis=1, mode="nearest")
        gusts = bimodal_wind.GUST * np.array([1.0, -1.0] if kind == "true" else [0.0])
        quality = []
        for action in actions:
            place = (height + 0.1 * speed - y[0]) / y_step
            pace = (0.95 * speed + 0.3 * action - v[0]) / v_step
            value = _between(calm, place, pace)
            if t == bimodal_wind.GUST_TIME:
                blown = [_between(windy, place, pace + gust / v_step) for gust in gusts]
                value = np.where(blows, np.mean(blown, axis=0), value)
            quality.append(value)
        values = np.max(quality, axis=0)
        greedy[t] = actions[np.argmax(quality, axis=0)]

    def policy(t: int, states: Array) -> NDArray:
        nearest = np.rint((states[:, 1:] - [y[0], v[0]]) / [y_step, v_step]).astype(np.int64)
        i, j = np.clip(nearest, 0, points - 1).T
        return greedy[t, i, j][:, None]

    return policy


def _between(values: Array, row: Array, column: Array) -> Array:
    """Give the values at fractional indices, linear between and constant beyond the grid."""
    return map_coordinates(values, [row, column], order=1, mode="nearest")
