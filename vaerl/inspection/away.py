"""How many draws lie away from the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from vaerl.data.demonstrations import Demonstrations
from vaerl.policies.density_policy import DensityPolicy
from vaerl.policies.rows import flatten_rows

Array = NDArray[np.float64]
NEAREST = 256
"""Moments of the demonstrations, nearest in observation, that a state is compared with."""
LEVEL = 0.99
"""Share of what the data themselves would count as near."""


def share_away(draws: Array, data: Array, groups: Sequence[int] | None = None) -> float | None:
    """Share of draws ``(N, X)`` farther from all data ``(M, X)`` than data are from each other.

    The limit is the distance within which `LEVEL` of the data have their nearest neighbour from
    another group (an episode; each row is one if None). So new data are away in about 1 % of cases.
    None where all data are of one group.
    """
    group = np.arange(len(data)) if groups is None else np.asarray(groups)
    other = group[:, None] != group
    if not other.any():
        return None
    gaps = np.where(other, cdist(data, data), np.inf).min(1)
    limit = np.quantile(gaps[np.isfinite(gaps)], LEVEL)
    return float((_nearest(draws, data) > limit).mean())


def _nearest(draws: Array, data: Array) -> Array:
    return np.concatenate([cdist(part, data).min(1) for part in np.array_split(draws, 8)])


class DataNear:
    """The actions that demonstrations took where the observation was nearly the same.

    Args:
        demonstrations: of the task of the policy.
        policy: gives the number of actions in an event, and its units.
    """

    def __init__(self, demonstrations: Demonstrations, policy: DensityPolicy) -> None:
        observations, chunks, episodes = [], [], []
        for number, episode in enumerate(demonstrations):
            steps = len(episode)
            plan = (np.arange(steps)[:, None] + np.arange(policy.chunk)).clip(max=steps - 1)
            observations.append(flatten_rows(episode.observations)[:steps])
            chunks.append(episode.actions.reshape(steps, -1)[plan])
            episodes.append(np.full(steps, number))
        seen = np.concatenate(observations)
        scale = seen.std(0)
        self._scale = np.where(scale > 1e-6, scale, 1.0)
        self._observations = seen / self._scale
        self._events = policy.to_events(np.concatenate(chunks)).astype(np.float64)
        self._episodes = np.concatenate(episodes)

    def share_away(self, observation: Any, draws: Array) -> float | None:
        """As `share_away`, of draws at an observation."""
        place = flatten_rows(observation, batched=False) / self._scale
        rows = cdist(place, self._observations)[0].argsort(kind="stable")[:NEAREST]
        return share_away(draws, self._events[rows], self._episodes[rows])
