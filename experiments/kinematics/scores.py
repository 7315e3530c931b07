"""What a trained arm contributes to the table: its distance from the posterior, and a knock-out."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np

from vaerl.envs.base import Array
from vaerl.envs.inverse_kinematics import InverseKinematicsEnv, Posterior, depth
from vaerl.experiments.demo.scores import compare
from vaerl.experiments.demo.tasks import TARGET

TARGETS = 5  # drawn as in training
DRAWS = 2000
RADIUS = 0.05  # of the disc that blocks
CLEAR = 0.3  # distance of the disc from the target, and of its left edge from the rail

Disc = tuple[float, float, float]


def score_policy(agent: Any, env: InverseKinematicsEnv) -> dict[str, float]:
    """Means of `vaerl.experiments.demo.scores.compare` over targets that are drawn as in training.

    A target is drawn with its noise, so none is out of reach.
    """
    scores = []
    for seed in range(TARGETS):
        target, _ = env.reset(seed=seed)
        scores.append(compare(agent, env.posterior(target))[0])
    return {name: fmean(score[name] for score in scores) for name in scores[0]}


def postures(agent: Any, env: InverseKinematicsEnv, seed: int = 0) -> Array:
    """Postures (n, joints) that the policy takes at the target of the knock-out."""
    observation = np.tile(np.array(TARGET, dtype=np.float32), (DRAWS, 1))
    agent.policy.set_training_mode(False)
    agent.set_random_seed(seed)
    actions, _ = agent.predict(observation, deterministic=False)
    return env.postures(actions)


def preferred_place(task: Posterior, x: Array) -> Disc:
    """The disc that most of the postures (n, joints) pass that reach the target.

    Centres lie on a grid of 0.05, clear of the target and of the rail.
    """
    reaching = x[reaches(task, x)]
    grid = np.arange(-1.2, 2.21, 0.05)
    centres = [
        (float(a), float(b))
        for a in grid[grid > RADIUS + CLEAR]
        for b in grid[np.abs(grid) <= 1.2]
        if np.hypot(a - task.target[0], b - task.target[1]) > RADIUS + CLEAR
    ]
    discs = [(*centre, RADIUS) for centre in centres]
    passing = [np.count_nonzero(hits(task, reaching, disc)) for disc in discs]
    return discs[int(np.argmax(passing))]


def reaches(task: Posterior, x: Array) -> Any:
    """Whether the tips of postures (n, joints) are at the target, as a success of the episode."""
    return task.miss(x) <= 3.0 * task.sigma


def hits(task: Posterior, x: Array, disc: Disc) -> Any:
    """Whether arms in postures (n, joints) enter a disc."""
    return depth(task.arm.points(x), disc) > 0.0


def free_share(task: Posterior, x: Array, disc: Disc) -> float:
    """Share of postures (n, joints) that reach the target and keep clear of the disc."""
    return float((reaches(task, x) & ~hits(task, x, disc)).mean())
