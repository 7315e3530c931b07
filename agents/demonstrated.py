"""Batches of which half are demonstrations, the other half own steps (RLPD, Ball et al. 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

from vaerl.agents.from_data import check_fit
from vaerl.data import Demonstrations, Episode
from vaerl.policies.actor import DensityActor
from vaerl.policies.rows import flatten_rows

EDGE = 0.999
"""Largest scaled action that an actor is fitted to: its density ends at 1."""


def demonstration_buffer(data: Demonstrations, agent: Any) -> ReplayBuffer:
    """The steps of demonstrations in a replay buffer like the agent's.

    A last step without an observation after it is left out unless it ends the episode.

    Raises:
        ValueError: demonstrations without any reward; a buffer that changes goals afterwards.
    """
    check_fit(data, agent.observation_space, agent.action_space)
    if not any(np.any(episode.rewards) for episode in data):
        raise ValueError(
            "data: got demonstrations without reward, expected some: SAC values their steps by it"
        )
    kind = type(agent.replay_buffer)
    if issubclass(kind, HerReplayBuffer):
        raise ValueError("data: got demonstrations with HerReplayBuffer, expected another buffer")
    buffer = kind(
        data.steps,
        agent.observation_space,
        agent.action_space,
        device=agent.device,
        **agent.replay_buffer_kwargs,
    )
    for episode in data:
        _add(buffer, episode, agent.policy)
    return buffer


def _add(buffer: ReplayBuffer, episode: Episode, policy: Any) -> None:
    steps = len(episode)
    seen = episode.observations
    count = len(next(iter(seen.values()))) if isinstance(seen, dict) else len(seen)
    scaled = policy.scale_action(episode.actions)

    def row(place: int) -> Any:
        place = min(place, count - 1)
        if isinstance(seen, dict):
            return {key: part[None, place] for key, part in seen.items()}
        return seen[None, place]

    for step in range(steps):
        last = step == steps - 1
        if last and count == steps and not episode.terminated:
            continue
        assert episode.rewards is not None
        buffer.add(
            row(step),
            row(step + 1),
            scaled[None, step],
            np.asarray(episode.rewards)[None, step],
            np.array([last]),
            [{"TimeLimit.truncated": last and not episode.terminated}],
        )


def half_and_half(own: ReplayBuffer, shown: ReplayBuffer, size: int, env: Any) -> Any:
    """A batch: `size` // 2 rows of demonstrations after the own ones."""
    half = size // 2
    ours, theirs = own.sample(size - half, env=env), shown.sample(half, env=env)
    return type(ours)(*(_joined(a, b) for a, b in zip(ours, theirs, strict=True)))


def _joined(own: Any, shown: Any) -> Any:
    if own is None:
        return None
    if isinstance(own, dict):
        return {key: torch.cat([part, shown[key]]) for key, part in own.items()}
    return torch.cat([own, shown])


def fit_to_clone(
    actor: DensityActor, clone: Any, data: Demonstrations, updates: int = 1000, batch: int = 256
) -> None:
    """Fit an actor's density to what a clone draws at the observations of demonstrations."""
    seen = np.concatenate([flatten_rows(episode.observations) for episode in data])
    seen = seen.reshape(len(seen), *(actor.observation_space.shape or ()))
    optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    for _ in range(updates):
        generator = actor.noise.generator("cpu")
        rows = seen[torch.randint(len(seen), (batch,), generator=generator).numpy()]
        actions = actor.scale_action(clone.predict(rows)[0]).reshape(batch, -1)
        drawn = torch.as_tensor(actions, device=actor.device).clamp(-EDGE, EDGE)
        obs, _ = actor.obs_to_tensor(rows)
        losses, _ = actor.density.loss(
            actor.context(obs),
            drawn,
            diagnostics=False,
            generator=actor.noise.generator(actor.device),
        )
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
