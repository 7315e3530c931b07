"""Demonstrations out of a replay buffer of Stable-Baselines3, or of a run that holds one."""

from __future__ import annotations

from typing import Any

import numpy as np

from vaerl.data.demonstrations import Array, Demonstrations, Episode, Observations


def from_replay_buffer(buffer: Any, *, env: str = "") -> Demonstrations:
    """The episodes in a `ReplayBuffer` or `DictReplayBuffer`, oldest first.

    The buffer holds actions scaled to [−1, 1]; they are given back in units of the action box. The
    parts of episodes that the ring has overwritten, and those still running, count as truncated.
    With ``optimize_memory_usage`` the last observation of an episode is not kept and is left out.

    Raises ValueError for an empty buffer, and for anything that is none.
    """
    if not hasattr(buffer, "dones"):
        got = " ".join(repr(buffer).split())
        raise ValueError(f"data: got {got:.80}, expected demonstrations, a replay buffer or a path")
    size = buffer.buffer_size if buffer.full else buffer.pos
    if not size:
        raise ValueError("buffer: got an empty replay buffer, expected at least one step")
    order = np.arange(buffer.pos, buffer.pos + size) % size if buffer.full else np.arange(size)
    episodes: list[Episode] = []
    for copy in range(buffer.n_envs):
        dones = buffer.dones[order, copy].astype(bool)
        cut = buffer.timeouts[order, copy].astype(bool)
        ends = np.flatnonzero(dones | (order == (buffer.pos - 1) % size))
        start = 0
        for end in ends.tolist():
            rows = order[start : end + 1]
            start = end + 1
            episodes.append(
                Episode(
                    _observations(buffer, rows, copy),
                    _unscaled(buffer, buffer.actions[rows, copy]),
                    buffer.rewards[rows, copy],
                    terminated=bool(dones[end] and not cut[end]),
                    truncated=bool(cut[end] or not dones[end]),
                )
            )
    return Demonstrations(
        episodes,
        buffer.observation_space,
        buffer.action_space,
        env=env,
        names=[f"replay buffer, episode {i}" for i in range(len(episodes))],
    )


def _observations(buffer: Any, rows: Array, copy: int) -> Observations:
    def joined(now: Any, after: Any) -> Array:
        own = now[rows, copy]
        return own if after is None else np.concatenate([own, after[rows[-1:], copy]])

    after = getattr(buffer, "next_observations", None)
    if isinstance(buffer.observations, dict):
        return {
            key: joined(now, None if after is None else after[key])
            for key, now in buffer.observations.items()
        }
    return joined(buffer.observations, after)


def _unscaled(buffer: Any, actions: Array) -> Array:
    space = buffer.action_space
    shaped = actions.reshape(len(actions), *space.shape)
    return space.low + 0.5 * (shaped + 1.0) * (space.high - space.low)
