"""HiddenFriction: whole episodes to learn from, and their NLL with or without a code an episode."""

from __future__ import annotations

import numpy as np
import torch

from vaerl.dynamics import DynamicsModel, Transitions, score
from vaerl.envs.noisy_pendulum import FRICTIONS, MAX_TORQUE, HiddenFrictionEnv
from vaerl.experiments.dynamics.models import as_transitions
from vaerl.experiments.dynamics.scores import nll

K = 512  # codes drawn for an episode at test


def record_episodes(
    env: HiddenFrictionEnv, episodes: int, steps: int, seed: list[int]
) -> Transitions:
    """Episodes with random torque, one after the other; friction is drawn once for each."""
    rng = np.random.default_rng(seed)
    states = env.start_states(episodes, rng)
    friction = rng.choice(FRICTIONS, size=episodes)
    columns = []
    for _ in range(steps):
        torque = rng.uniform(-MAX_TORQUE, MAX_TORQUE, (episodes, 1))
        after = env.step_batch(states, torque, rng, friction).next_states
        columns.append((states, torque, after))
        states = after
    parts = zip(*columns, strict=True)
    s, a, after = (np.stack(part, axis=1).reshape(episodes * steps, -1) for part in parts)
    return as_transitions(s, a, after, np.repeat(np.arange(episodes), steps))


def friction_score(world: DynamicsModel, data: Transitions) -> float:
    """NLL a step: of single steps, or of whole episodes where the model holds a code.

    The second is a bound with `K` codes; both are in nats of ω'.
    """
    if world.latent == "step":
        return nll(world, data)
    worst = score(world, data, k=K)
    return float(torch.as_tensor(worst)[world.elites].mean())
