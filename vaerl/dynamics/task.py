"""The model of a Gymnasium task, built from its spaces and its known functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import torch
from gymnasium import spaces, wrappers
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor

from vaerl.densities.options import check_choice
from vaerl.dynamics.heads import LEARNED_REWARDS
from vaerl.dynamics.model import DynamicsModel
from vaerl.dynamics.mujoco_ends import mujoco_ends
from vaerl.dynamics.parts import Function
from vaerl.names import check_name

REWARDS = (*LEARNED_REWARDS, "known")
TERMINATIONS = ("learned", "known", "never")
KNOWN = {"reward": "reward", "termination": "terminated"}
"""Methods of an environment that are its known functions of (states, actions, next_states)."""
_UNITS = (
    gymnasium.ObservationWrapper,
    gymnasium.ActionWrapper,
    wrappers.NormalizeObservation,
    wrappers.FrameStackObservation,
    wrappers.MaxAndSkipObservation,
)
CHANGING: dict[str, tuple[type, ...]] = {
    "reward": (*_UNITS, gymnasium.RewardWrapper, wrappers.NormalizeReward),
    "termination": _UNITS,
}
"""Wrappers that change the numbers which the known functions take or return."""


def make_model(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    reward: str = "learned",
    termination: str = "learned",
    **options: Any,
) -> DynamicsModel:
    """A model of a task with these spaces, over actions as SB3 stores them (a Box in [−1, 1]).

    `options` are those of `DynamicsModel`. Raises ValueError: spaces that no model is for, an
    unknown option (with the nearest), in one line.
    """
    legal = inspect.signature(DynamicsModel.__init__).parameters.values()
    for option in options:
        check_name(
            "option of the model",
            option,
            [p.name for p in legal if p.kind is p.KEYWORD_ONLY and p.name != "discrete_actions"],
        )
    check_choice("reward", reward, REWARDS)
    check_choice("termination", termination, TERMINATIONS)
    state_dim = check_observation_space(observation_space)
    if isinstance(action_space, spaces.Discrete):
        if action_space.start != 0:
            raise ValueError(f"action_space: got {action_space}, expected Discrete from 0")
        action_dim, discrete = int(action_space.n), True
    elif isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        action_dim, discrete = action_space.shape[0], False
    else:
        raise ValueError(
            f"action_space: got {action_space}, expected a Box of shape (A,) or Discrete"
        )
    never = termination == "never"
    return DynamicsModel(
        state_dim,
        action_dim,
        discrete_actions=discrete,
        reward=reward if reward in LEARNED_REWARDS else _unbound("reward"),
        termination=None
        if never
        else "learned"
        if termination == "learned"
        else _unbound("termination"),
        **options,
    )


def check_observation_space(space: spaces.Space) -> int:
    """Size of the observations; a space that is not a vector of floats raises one line."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype.kind != "f":
        raise ValueError(f"observation_space: got {space}, expected a Box of floats of shape (S,)")
    return int(space.shape[0])


def check_model_env(env: VecEnv | None) -> None:
    """Raise one line for an environment whose observations are changed as it learns."""
    if env is not None and unwrap_vec_normalize(env) is not None:
        raise ValueError(
            "env: got one in VecNormalize, expected none: the model standardises by itself"
        )


def find_known(
    env: VecEnv | None, action_space: spaces.Space, parts: Mapping[str, str]
) -> dict[str, Function]:
    """The known functions that `parts` asks for, from the environment, by part.

    They are its methods `reward` and `terminated`, or those of a wrapper around it, over batches of
    torch tensors, with actions as the environment takes them; Gymnasium's MuJoCo tasks need no
    method `terminated` (`mujoco_ends`). Copies are assumed equal: the first one answers. Without an
    environment no function is known.

    Raises ValueError: an environment without such a method, or in another process, or with a
    wrapper around it that changes rewards, observations or actions, as far as that can be seen: a
    custom wrapper that keeps the size of the observations is trusted.
    """
    known: dict[str, Function] = {}
    if env is None:
        return known
    copies = getattr(env.unwrapped, "envs", None)
    for part, kind in parts.items():
        if kind != "known":
            continue
        if not copies:
            raise ValueError(
                f"{part}: got 'known', but the environment runs in another process; "
                f"use a DummyVecEnv, or {part}='learned'"
            )
        layer, method = _known_method(copies[0], part)
        inner, outer = layer.observation_space.shape, env.observation_space.shape
        if inner != outer:
            raise ValueError(
                f"{part}: got 'known', but a wrapper changes observations of shape {inner} to "
                f"{outer}; use {part}='learned', or a wrapper around it with "
                f"{KNOWN[part]}(states, actions, next_states)"
            )
        known[part] = _in_units_of(action_space, method)
    return known


def _known_method(env: gymnasium.Env, part: str) -> tuple[gymnasium.Env, Callable[..., Any]]:
    """The outermost wrapper that defines the method itself, or the environment, and the method."""
    layer: Any = env
    while True:
        own = layer if layer is env.unwrapped else type(layer)  # a wrapper may pass on others'
        method = getattr(layer, KNOWN[part], None) if hasattr(own, KNOWN[part]) else None
        if callable(method) and not isinstance(layer, gymnasium.RewardWrapper):
            return layer, method
        if isinstance(layer, CHANGING[part]):
            raise ValueError(
                f"{part}: got 'known', but {type(layer).__name__} changes what the environment's "
                f"own functions are about; use {part}='learned', or a wrapper around it with "
                f"{KNOWN[part]}(states, actions, next_states)"
            )
        if layer is env.unwrapped:
            ends = mujoco_ends(layer) if part == "termination" else None
            if ends is not None:
                return layer, ends
            raise ValueError(
                f"{part}: got 'known', but {type(layer).__name__} has no method "
                f"{KNOWN[part]}(states, actions, next_states); use {part}='learned'"
            )
        layer = layer.env


def _unbound(part: str) -> Function:
    def refuse(states: Tensor, actions: Tensor, next_states: Tensor) -> Tensor:
        raise ValueError(
            f"{part}: got 'known' and no environment to ask; build or load the agent with its env"
        )

    return refuse


def _in_units_of(space: spaces.Space, method: Callable[..., Any]) -> Function:
    """The method on stored actions."""
    if not isinstance(space, spaces.Box):
        return lambda s, a, after: torch.as_tensor(method(s, a, after))
    low, high = torch.as_tensor(space.low).float(), torch.as_tensor(space.high).float()

    def call(states: Tensor, actions: Tensor, next_states: Tensor) -> Tensor:
        unscaled = low.to(actions) + 0.5 * (actions + 1.0) * (high - low).to(actions)
        return torch.as_tensor(method(states, unscaled, next_states))

    return call
