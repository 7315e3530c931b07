"""What a training holds besides its agent's modules: its environments, and where they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from vaerl.checkpoint.objects import Lost, capture, restore
from vaerl.disk.errors import one_line

CARRIED = (
    *("_last_obs", "_last_original_obs", "_last_episode_starts"),
    *("ep_info_buffer", "ep_success_buffer"),
)
"""Attributes of every agent that go on from one roll-out to the next."""
SPACES = frozenset({"venv", "observation_space", "action_space", "class_attributes"})


def capture_loop(agent: BaseAlgorithm) -> dict[str, Any]:
    """Attributes that the agent carries on, and the state of its environments.

    "lost" names what cannot be saved of the environments; training then goes on with new episodes.
    """
    carried = {name: capture(getattr(agent, name, None)) for name in _names(agent)}
    state: dict[str, Any] = {"carried": carried, "wrappers": None, "envs": None, "lost": None}
    if (env := agent.get_env()) is None:
        return _tensors(state)
    wrappers, inner = _unwrap(env)
    try:
        state["wrappers"] = [capture(wrapper, SPACES) for wrapper in wrappers]
        state["envs"] = _capture_envs(inner)
    except Lost as error:
        state.update(wrappers=None, envs=None, lost=one_line(error, 200))
    return _tensors(state)


def restore_loop(agent: BaseAlgorithm, state: dict[str, Any]) -> str | None:
    """Undo `capture_loop`; a line if the environments could not be restored, and why.

    The environments are reset, so that their wrappers have what an episode needs; no random number
    of the agent is drawn.
    """
    state = _arrays(state)
    for name in _names(agent):
        if name in state["carried"]:
            setattr(agent, name, restore(getattr(agent, name, None), state["carried"][name]))
    reason = state["lost"]
    env = agent.get_env()
    if reason is None and agent._last_obs is None:
        reason = "training was stopped in the middle of a roll-out"
    if reason is None and env is not None and state["envs"] is not None:
        wrappers, inner = _unwrap(env)
        try:
            _check_same(len(state["envs"]), inner.num_envs, "environments")
            _check_same(len(state["wrappers"]), len(wrappers), "wrappers")
            env.reset()
            for wrapper, stored in zip(wrappers, state["wrappers"], strict=True):
                restore(wrapper, stored)
            _restore_envs(inner, state["envs"])
            return None
        except Lost as error:
            reason = one_line(error, 200)
    agent._last_obs = None  # learn() then resets the environments
    return reason


def _names(agent: BaseAlgorithm) -> tuple[str, ...]:
    return (*CARRIED, *getattr(agent, "carried", ()))


def _unwrap(env: VecEnv) -> tuple[list[VecEnvWrapper], VecEnv]:
    wrappers = []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(env)
        env = env.venv
    return wrappers, env


def _capture_envs(env: VecEnv) -> list[Any]:
    if isinstance(env, DummyVecEnv):
        return [capture(copy) for copy in env.envs]
    if not hasattr(env, "capture_states"):
        raise Lost(f"environments in a {type(env).__name__}")
    return env.capture_states()


def _restore_envs(env: VecEnv, states: list[Any]) -> None:
    if isinstance(env, DummyVecEnv):
        for copy, state in zip(env.envs, states, strict=True):
            restore(copy, state)
        return
    for index, state in enumerate(states):
        if (error := env.env_method("restore_state", state, indices=index)[0]) is not None:
            raise Lost(f"environment {index}: {error}")


def _check_same(stored: int, here: int, what: str) -> None:
    if stored != here:
        raise Lost(f"{here} {what}, {stored} were saved")


def _tensors(tree: Any) -> Any:
    """Arrays as tensors, which a checkpoint can hold."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(np.array(tree, order="C"))
    if isinstance(tree, dict):
        return {key: _tensors(value) for key, value in tree.items()}
    return [_tensors(item) for item in tree] if isinstance(tree, list) else tree


def _arrays(tree: Any) -> Any:
    """Tensors as arrays, which cross to other processes."""
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    if isinstance(tree, dict):
        return {key: _arrays(value) for key, value in tree.items()}
    return [_arrays(item) for item in tree] if isinstance(tree, list) else tree
