"""When an episode of a Gymnasium MuJoCo task ends, as a function of its observations.

The tasks end by rules on their state (heights, angles) that are not methods of their environments.
This module reads the rules from each environment's settings, so that a model need not learn them:
falls are rare in the data but decide the return.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import torch
from torch import Tensor

Ends = Callable[[Tensor, Tensor, Tensor], Tensor]


def mujoco_ends(env: gymnasium.Env) -> Ends | None:
    """The rule of a task as terminated(states, actions, next_states), or None if it is unknown.

    Args:
        env: any environment, without wrappers. Known are those of Gymnasium's MuJoCo suite: Ant,
            HalfCheetah, Hopper, Humanoid, HumanoidStandup, InvertedDoublePendulum,
            InvertedPendulum, Pusher, Reacher, Swimmer and Walker2d.

    The rules see only the observation, whose velocities are clipped at ±10, so limits on faster
    ones never apply.

    >>> ends = mujoco_ends(gymnasium.make("Hopper-v5").unwrapped)
    >>> states = torch.zeros(2, 11)
    >>> states[0, 0] = 1.25  # height of the hopper, m; it falls below .7
    >>> ends(states, torch.zeros(2, 3), states)
    tensor([False,  True])
    """
    kind = type(env)
    if not kind.__module__.startswith("gymnasium.envs.mujoco."):
        return None
    rule = _RULES.get(kind.__name__)
    return None if rule is None else partial(_after, rule, env)


def _after(
    rule: Callable[[Any, Tensor], Tensor],
    env: Any,
    states: Tensor,
    actions: Tensor,
    next_states: Tensor,
) -> Tensor:
    return rule(env, next_states)


def _never(env: Any, states: Tensor) -> Tensor:
    return torch.zeros(states.shape[:-1], dtype=torch.bool, device=states.device)


def _posture(env: Any, states: Tensor, first: int) -> Tensor:
    """Positions from number `first` of the state on, where an observation may lack the first."""
    hidden = env._exclude_current_positions_from_observation
    return states[..., 0 if hidden else first :]


def _within(values: Tensor, limits: tuple[float, float]) -> Tensor:
    return (limits[0] < values) & (values < limits[1])


def _hopper(env: Any, states: Tensor) -> Tensor:
    posture = _posture(env, states, 1)
    rest = _within(posture[..., 1:], env._healthy_state_range).all(-1)
    return _walker(env, states) | (_unhealthy_ends(env) & ~rest)


def _walker(env: Any, states: Tensor) -> Tensor:
    posture = _posture(env, states, 1)
    height = _within(posture[..., 0], env._healthy_z_range)
    angle = _within(posture[..., 1], env._healthy_angle_range)
    return _unhealthy_ends(env) & ~(height & angle)


def _ant(env: Any, states: Tensor) -> Tensor:
    low, high = env._healthy_z_range
    height = _posture(env, states, 2)[..., 0]
    healthy = states.isfinite().all(-1) & (low <= height) & (height <= high)
    return _unhealthy_ends(env) & ~healthy


def _humanoid(env: Any, states: Tensor) -> Tensor:
    height = _posture(env, states, 2)[..., 0]
    return _unhealthy_ends(env) & ~_within(height, env._healthy_z_range)


def _unhealthy_ends(env: Any) -> bool:
    return bool(env._terminate_when_unhealthy)


def _pendulum(env: Any, states: Tensor) -> Tensor:
    return ~states.isfinite().all(-1) | (states[..., 1].abs() > 0.2)


def _double_pendulum(env: Any, states: Tensor) -> Tensor:
    """The tip is at or below 1 m: h + ℓ₁ cos q₁ + ℓ₂ cos(q₁ + q₂)."""
    model = env.model
    outer = int(model.site_bodyid[0])
    inner = int(model.body_parentid[outer])
    height, below = 0.0, inner
    while below:
        height += float(model.body_pos[below, 2])
        below = int(model.body_parentid[below])
    first, second = float(model.body_pos[outer, 2]), float(model.site_pos[0, 2])
    sines, cosines = states[..., 1:3], states[..., 3:5]
    both = cosines[..., 0] * cosines[..., 1] - sines[..., 0] * sines[..., 1]
    return height + first * cosines[..., 0] + second * both <= 1.0


_RULES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "AntEnv": _ant,
    "HalfCheetahEnv": _never,
    "HopperEnv": _hopper,
    "HumanoidEnv": _humanoid,
    "HumanoidStandupEnv": _never,
    "InvertedDoublePendulumEnv": _double_pendulum,
    "InvertedPendulumEnv": _pendulum,
    "PusherEnv": _never,
    "ReacherEnv": _never,
    "SwimmerEnv": _never,
    "Walker2dEnv": _walker,
}
