"""Planning in a learned model; the true law gives the value of the plan.

Value iteration over draws from the model on a grid (Wet-Chicken), on the cells (ghost grid), a
planned sequence (BimodalWind), a choice (Fork). What comes out is played in the true environment.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter

from vaerl.dynamics import DynamicsModel, predict
from vaerl.envs import bimodal_wind, ghost_grid
from vaerl.envs.base import Array
from vaerl.envs.bimodal_wind import BimodalWindEnv
from vaerl.envs.fork import ForkEnv
from vaerl.envs.ghost_grid import GhostGridEnv
from vaerl.envs.wet_chicken import SIZE, WetChickenEnv
from vaerl.experiments.dynamics.worth import Policy, open_loop, wet_chicken_policy, worth
from vaerl.planning import Model, make_planner

GAMMA = 0.99
SMOOTHING = 1.5  # standard deviation in grid points


def fork_return(world: DynamicsModel, generator: torch.Generator, draws: int = 4000) -> float:
    """True value of the action that the model likes best."""
    env = ForkEnv()
    states, actions = torch.zeros(2, 1), torch.arange(2)
    after = predict(world, states, actions, draws, generator)
    believed = env.reward(states, actions, after).mean(0)
    rng = np.random.default_rng(0)
    truth = env.step_batch(np.zeros((20_000, 1)), np.full(20_000, int(believed.argmax())), rng)
    return float(truth.rewards.mean())


def wind_return(world: Model, generator: torch.Generator, population: int = 256) -> float:
    """True value of a sequence planned from the start, 13 moves by iCEM with 32 particles."""
    env = BimodalWindEnv()
    planner = make_planner(
        "icem",
        env.action_space,
        horizon=bimodal_wind.MOVES,
        population=population,
        iterations=8,
        elites=max(2, population // 12),
        particles=32,
    )
    start = torch.as_tensor(env.start_states(1, np.random.default_rng(0))).float()
    plan = planner.plan(
        world, start, reward=env.reward, termination=env.terminated, generator=generator
    )
    policy = open_loop(plan.actions[0].numpy())
    return worth(env, policy, episodes=4000, steps=bimodal_wind.MOVES, seed=1).mean


def wet_chicken_return(
    world: DynamicsModel,
    generator: torch.Generator,
    points: int = 41,
    draws: int = 128,
    episodes: int = 1000,
) -> float:
    """True reward per step of the policy that is best in the model.

    Value iteration with γ = .99 over `draws` outcomes of each pair on a grid of points² and 25
    actions, values linear between the grid points, those of an action smoothed over neighbours so
    that the best of 25 is not the luckiest; 200 steps an episode.
    """
    env = WetChickenEnv()
    nodes = np.linspace(0.0, SIZE, points)
    line = np.linspace(-1.0, 1.0, 5)
    actions = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    states = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    s, a = _pairs(states, actions)
    after = predict(world, s, a, draws, generator).numpy().astype(np.float64).clip(0.0, SIZE)
    reward = (after[..., 1] - SIZE).mean(0)
    chances = _on_grid(after, points)
    values = np.zeros(points * points)
    quality = reward.reshape(-1, len(actions))
    for _ in range(2000):
        drawn = (reward + GAMMA * (chances @ values)).reshape(points, points, len(actions))
        quality = gaussian_filter(drawn, SMOOTHING, axes=(0, 1)).reshape(-1, len(actions))
        best = quality.max(axis=1)
        if np.ptp(best - values) < 1e-4:
            break
        values = best
    greedy = actions[quality.argmax(axis=1)]

    return _per_step(env, wet_chicken_policy(greedy, points), episodes)


def ghost_grid_return(
    world: DynamicsModel, generator: torch.Generator, draws: int = 16, episodes: int = 2000
) -> float:
    """True value of the start under the policy that is best in the model, γ = .99, 400 steps.

    Value iteration over all states, `draws` outcomes of each pair, rounded to the nearest cells.
    """
    env = GhostGridEnv()
    cells, number = ghost_grid.CELLS, _nearest_cells()
    count = len(cells)
    every = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), -1).reshape(-1, 3)
    states = cells[every].reshape(-1, 6).astype(np.float64)
    running = np.flatnonzero(env.legal(states))
    s, a = _pairs(states[running], np.arange(4))
    total, moved, going = np.zeros(len(s)), [], []
    for _ in range(draws):
        after = np.rint(predict(world, s, a, 1, generator)[0].numpy().astype(np.float64))
        after = after.clip(0, ghost_grid.SIDE - 1)
        total += env.reward(s, a, after)
        going.append(~env.terminated(s, a, after))
        place = [number[after[:, i].astype(int), after[:, i + 1].astype(int)] for i in (0, 2, 4)]
        moved.append((place[0] * count + place[1]) * count + place[2])
    rows = np.tile(np.arange(len(s)), draws)
    weight = np.concatenate(going) / draws
    chances = sparse.csr_array((weight, (rows, np.concatenate(moved))), shape=(len(s), len(states)))
    reward, values = total / draws, np.zeros(len(states))
    quality = reward.reshape(-1, 4)
    for _ in range(400):
        quality = (reward + GAMMA * (chances @ values)).reshape(-1, 4)
        change = np.abs(quality.max(axis=1) - values[running]).max()
        values[running] = quality.max(axis=1)
        if change < 1e-4:
            break
    greedy = np.zeros(len(states), dtype=np.int64)
    greedy[running] = quality.argmax(axis=1)

    def policy(t: int, states: Array) -> NDArray:
        whole = np.rint(states).astype(np.int64)
        place = [number[whole[:, i], whole[:, i + 1]] for i in (0, 2, 4)]
        return greedy[(place[0] * count + place[1]) * count + place[2]]

    return worth(env, policy, episodes=episodes, steps=400, gamma=GAMMA, seed=1).mean


def _pairs(states: Array, actions: NDArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Every state with every action, actions innermost."""
    s = torch.as_tensor(np.repeat(states, len(actions), axis=0)).float()
    a = torch.as_tensor(np.tile(actions, (len(states), *(1,) * (actions.ndim - 1))))
    return s, a.float() if actions.ndim > 1 else a


def _on_grid(after: Array, points: int) -> sparse.csr_array:
    """Mean weights (pairs, points²) with which outcomes (draws, pairs, 2) use values on a grid."""
    draws, pairs = after.shape[:2]
    place = after / SIZE * (points - 1)
    low = np.clip(place.astype(np.int64), 0, points - 2)
    part = place - low
    rows, columns, weights = [], [], []
    for dx in (0, 1):
        for dy in (0, 1):
            x = part[..., 0] if dx else 1.0 - part[..., 0]
            y = part[..., 1] if dy else 1.0 - part[..., 1]
            weights.append((x * y / draws).ravel())
            columns.append(((low[..., 0] + dx) * points + low[..., 1] + dy).ravel())
            rows.append(np.tile(np.arange(pairs), draws))
    parts = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(parts, shape=(pairs, points * points))


def _nearest_cells() -> NDArray[np.int64]:
    """Index of the nearest free cell for every cell, walls too."""
    side = np.arange(ghost_grid.SIDE)
    places = np.stack(np.meshgrid(side, side, indexing="ij"), -1)
    distance = np.abs(places[..., None, :] - ghost_grid.CELLS).sum(axis=-1)
    return distance.argmin(axis=-1)


def _per_step(env: WetChickenEnv, policy: Policy, episodes: int, steps: int = 200) -> float:
    return worth(env, policy, episodes=episodes, steps=steps, seed=1).mean / steps
