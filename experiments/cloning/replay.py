"""Nearest-neighbour replay: the floor of success that the observation allows without learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from vaerl.data import Demonstrations
from vaerl.policies.rows import flatten_rows


class Replay:
    """Plays the next actions of one of the nearest demonstrated moments.

    Args:
        demonstrations: to replay.
        execute: actions carried out before the next look.
        neighbours: moments among which one is drawn.
        seed: of the draws.
    """

    def __init__(
        self, demonstrations: Demonstrations, execute: int, neighbours: int = 8, seed: int = 0
    ) -> None:
        rows = [flatten_rows(e.observations)[: len(e)] for e in demonstrations]
        plans = [
            e.actions[(np.arange(len(e))[:, None] + np.arange(execute)).clip(max=len(e) - 1)]
            for e in demonstrations
        ]
        seen = np.concatenate(rows)
        self.mean, self.scale = seen.mean(0), seen.std(0)
        self.scale[self.scale == 0.0] = 1.0
        self.tree = cKDTree((seen - self.mean) / self.scale)
        self.plans = np.concatenate(plans)
        self.execute = execute
        self.neighbours = min(neighbours, len(seen))
        self.rng = np.random.default_rng(seed)

    def predict(
        self, observation: np.ndarray, state: Any = None, episode_start: np.ndarray | None = None
    ) -> tuple[np.ndarray, Any]:
        """Actions for a batch of observations ``(B, …)``; the state is that of the last call."""
        flat = flatten_rows(observation)
        rows = np.arange(len(flat))
        shape = (len(flat), *self.plans.shape[1:])
        plans, done = (
            (np.zeros(shape), np.full(len(flat), self.execute)) if state is None else state
        )
        due = done >= self.execute
        if episode_start is not None:
            due = due | np.asarray(episode_start, bool)
        if due.any():
            _, near = self.tree.query((flat[due] - self.mean) / self.scale, self.neighbours)
            near = near.reshape(due.sum(), -1)
            pick = self.rng.integers(near.shape[1], size=len(near))
            plans = plans.copy()
            plans[due] = self.plans[near[np.arange(len(near)), pick]]
        done = np.where(due, 0, done)
        return plans[rows, done], (plans, done + 1)
