"""Demonstrations as single transitions (s, a, r, s', d), for learning with reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaerl.data.demonstrations import Array, Demonstrations, Observations


class Transitions(NamedTuple):
    """N transitions; D numbers of an observation, A of an action.

    The value of s' counts unless the task ended there: an episode that was cut, for example by a
    time limit, goes on after s' in principle (Pardo et al. 2018).
    """

    #: s, (N, D)
    observations: Array
    #: a in units of the box, (N, A)
    actions: Array
    #: r, (N,)
    rewards: Array
    #: s', (N, D)
    next_observations: Array
    #: whether the task ended at s', (N,)
    terminated: Array


def transitions(
    demonstrations: Demonstrations, flatten: Callable[[Observations], Array]
) -> Transitions:
    """All transitions; `flatten` gives the rows ``(T, D)`` of an episode's observations.

    Where the last observation of an episode was not recorded, its last transition is left out
    unless the task ended there: s' is not asked for then.

    >>> box = [np.zeros((3, 1))], [np.zeros((2, 1))]
    >>> transitions(Demonstrations.from_arrays(*box), np.asarray).rewards.shape
    (2,)
    """
    parts: list[tuple[Array, ...]] = []
    for episode in demonstrations:
        seen = np.asarray(flatten(episode.observations), np.float32)
        steps = len(episode)
        if not episode.complete:
            if episode.terminated:
                seen = np.concatenate([seen, seen[-1:]])
            else:
                steps -= 1
        ended = np.zeros(steps, np.float32)
        if steps and episode.terminated:
            ended[-1] = 1.0
        assert episode.rewards is not None, "checked demonstrations have rewards"
        parts.append(
            (
                seen[:steps],
                episode.actions[:steps].reshape(steps, -1).astype(np.float32),
                episode.rewards[:steps].astype(np.float32),
                seen[1 : steps + 1],
                ended,
            )
        )
    found = Transitions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    if not len(found.rewards):
        raise ValueError(
            "data: got no transition with an observation after it, expected at least one"
        )
    return found
