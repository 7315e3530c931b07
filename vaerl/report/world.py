"""The learned model of a run on steps that it was not fitted to.

The agent acts for the first steps of a new episode. The model predicts each step, and all of them
under the same actions. Predictions are compared with the outcomes, and with the true law if the
environment knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vaerl.dynamics import DynamicsModel, calibration_error, pit, predict, roll_out
from vaerl.envs.making import declared
from vaerl.report.dynamics_figures import (
    calibration_figure,
    fan_figure,
    transition_figure,
)
from vaerl.report.policies import RunPolicy
from vaerl.runs.evaluate import own_randomness
from vaerl.runs.monitor import watched

STEPS = 60  # of the episode
DRAWS = 200  # for each step
SHOWN = 3  # steps whose laws are drawn
PARTICLES = 60
HORIZON = 30  # steps of the roll-outs
SEED = 2_000_029  # of the episode, away from those of training


class WorldLook(NamedTuple):
    """Predictions and outcomes of the coordinate of the state that moves most."""

    name: str
    """Density of the model."""
    coordinate: int
    steps: list[int]
    """Steps whose laws are shown."""
    draws: NDArray[np.float32]
    """``(n, SHOWN)``."""
    outcomes: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    """Draws of the true law ``(n, SHOWN)``, if it is known."""
    pit: NDArray[np.float32]
    """Values of all steps and coordinates."""
    paths: NDArray[np.float32]
    """Roll-outs ``(T + 1, particles)``."""
    path: NDArray[np.float32]
    """The true path, ``(T + 1, 1)``."""


def world_of(agent: Any) -> DynamicsModel | None:
    """The model that an agent learns; None if it learns no model or has not fitted it yet."""
    world = getattr(agent, "world", None)
    return world if isinstance(world, DynamicsModel) and int(world.fits) else None


def look_at_world(policy: RunPolicy) -> WorldLook | None:
    """Act for some steps and let the model predict them; None without a fitted model."""
    world = world_of(policy.agent)
    if world is None:
        return None
    device = world.elites.device
    with (
        watched(policy.record.env, policy.record.env_options) as env,
        own_randomness(policy.agent, SEED),
        torch.no_grad(),
    ):
        states, raw = _act(env, policy.agent)
        generator = torch.Generator(device).manual_seed(SEED)
        s = torch.as_tensor(states, device=device)
        a = _stored(policy.agent.action_space, raw).to(device)
        draws = predict(world, s[:-1], a, DRAWS, generator)
        values = pit(draws, s[1:], generator)
        coordinate = int(np.abs(np.diff(states, axis=0)).mean(axis=0).argmax())
        shown = np.unique(np.linspace(0, len(raw) - 1, SHOWN).astype(int)).tolist()
        ahead = min(HORIZON, len(raw))
        paths = roll_out(world, s[0], a[:ahead], PARTICLES, generator)
        truth = _true_draws(env, states[shown], [raw[i] for i in shown], coordinate)
    return WorldLook(
        world.density_name,
        coordinate,
        shown,
        _numpy(draws[:, shown, coordinate]),
        states[1:][shown, coordinate],
        truth,
        _numpy(values),
        _numpy(paths[..., coordinate]),
        states[: ahead + 1, coordinate, None],
    )


def world_figures(look: WorldLook, label: str = "") -> Mapping[str, Figure]:
    """Draw the pictures "laws", "calibration" and "fan"."""
    label = label or look.name
    axis = f"state {look.coordinate + 1}"
    return {
        "laws": transition_figure(
            {label: look.draws},
            look.truth,
            names=[f"step {step}" for step in look.steps],
            outcomes=look.outcomes,
            axis=f"next {axis}",
        ),
        "calibration": calibration_figure({label: look.pit}),
        "fan": fan_figure({label: look.paths}, look.path, axis=axis),
    }


def world_numbers(look: WorldLook) -> dict[str, float]:
    """Numbers for trackers: the distance of the PIT values from uniform."""
    return {"model/calibration_error": calibration_error(torch.as_tensor(look.pit))}


def _act(env: Any, agent: Any) -> tuple[NDArray[np.float32], list[Any]]:
    """States ``(T + 1, S)`` and actions of at most `STEPS` steps of an episode."""
    observation, _ = env.reset(seed=SEED)
    states, actions = [observation], []
    carried: dict[str, Any] = {}
    for _ in range(STEPS):
        action, state = agent.predict(observation, **carried)
        carried = {} if state is None else {"state": state}
        observation, _, terminated, truncated, _ = env.step(action)
        states.append(observation)
        actions.append(action)
        if terminated or truncated:
            break
    return np.asarray(states, dtype=np.float32), actions


def _stored(space: spaces.Space, actions: list[Any]) -> Tensor:
    """Actions in the units of the model: a Box scaled to [−1, 1]."""
    array = np.asarray(actions)
    if not isinstance(space, spaces.Box):
        return torch.as_tensor(array).long()
    scaled = 2.0 * (array - space.low) / (space.high - space.low) - 1.0
    return torch.as_tensor(scaled, dtype=torch.float32)


def _true_draws(
    env: Any, states: NDArray[np.float32], actions: list[Any], coordinate: int
) -> NDArray[np.float32] | None:
    known = getattr(declared(env), "transition_distribution", None)
    if known is None:
        return None
    drawn = known(states, np.asarray(actions)).sample(DRAWS, np.random.default_rng(SEED))
    return drawn[..., coordinate].astype(np.float32)


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()
