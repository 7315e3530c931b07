"""How the preferred way of a policy is blocked, and how it learns on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vaerl.envs.metrics import goal_counts
from vaerl.envs.point_maze import PointMazeEnv
from vaerl.runs.evaluate import EvalResult
from vaerl.runs.vec import make_vec

WARM = 50
"""First steps of the adaptation, which only collect."""


def remove_goal(result: EvalResult) -> dict[str, Any]:
    """Options of the environment without the goal that most episodes reached."""
    return {"removed_goals": [_preferred_goal(result)]}


def build_wall(result: EvalResult) -> dict[str, Any]:
    """Options of the point mass with a wall before the goal that most episodes reached."""
    return {"obstacles": [_preferred_goal(result)]}


def close_door(result: EvalResult) -> dict[str, Any]:
    """Options of the simple maze whose cell `o` that most episodes passed is a wall."""
    doors = PointMazeEnv("simple").door_positions
    passed = [
        [(np.abs(trace - door).max(axis=1) < 0.5).any() for door in doors]
        for trace in result.traces
    ]
    return {"obstacles": [int(np.sum(passed, axis=0).argmax())]}


def _preferred_goal(result: EvalResult) -> int:
    return int(goal_counts(result.goals, result.num_modes).argmax())


def go_on(
    agent: Any,
    env: str,
    env_options: Mapping[str, Any],
    steps: int,
    *,
    seed: int,
    rate: float,
    updates: int,
    anew: bool = False,
) -> None:
    """Train an agent further in an environment with other options.

    It begins with an empty replay buffer and a constant learning rate, and takes `updates` after
    one step of all copies.

    Args:
        anew: whether schedules of the temperature and of the improvement step begin again;
            otherwise they stay near their ends.
    """
    agent.set_env(make_vec(env, agent.n_envs, options=env_options))
    agent.set_random_seed(seed)
    agent.replay_buffer.reset()
    agent.learning_starts = WARM if anew else agent.num_timesteps + WARM
    agent.gradient_steps = updates
    agent.lr_schedule = lambda remaining: rate
    agent.learn(steps, reset_num_timesteps=anew)
