"""Statistics of a VecNormalize wrapper: without them the policy sees another world after a load."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from vaerl.checkpoint.tensors import Tensors
from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.jsonio import take

_FLAGS = ("training", "norm_obs", "norm_reward")
_NUMBERS = ("clip_obs", "clip_reward", "gamma", "epsilon")


def capture_normalizer(wrapper: VecNormalize) -> tuple[Tensors, dict[str, Any]]:
    """Running statistics, and the discounted returns that the reward scale is made of."""
    tensors = {"returns": torch.from_numpy(np.array(wrapper.returns, dtype=np.float64))}
    for name, statistics in _statistics(wrapper).items():
        tensors[f"{name}/mean"] = torch.from_numpy(np.array(statistics.mean, dtype=np.float64))
        tensors[f"{name}/var"] = torch.from_numpy(np.array(statistics.var, dtype=np.float64))
        tensors[f"{name}/count"] = torch.tensor(float(statistics.count), dtype=torch.float64)
    data: dict[str, Any] = {name: bool(getattr(wrapper, name)) for name in _FLAGS}
    data |= {name: float(getattr(wrapper, name)) for name in _NUMBERS}
    keys = wrapper.norm_obs_keys
    return tensors, {**data, "norm_obs_keys": None if keys is None else list(keys)}


def normalized(env: VecEnv, data: Any, where: str) -> VecEnv:
    """`env`, wrapped in a VecNormalize like the saved one unless it has one already."""
    if unwrap_vec_normalize(env) is not None:
        return env
    flags = {name: take(data, name, bool, where) for name in _FLAGS}
    numbers = {name: take(data, name, float, where, low=0.0) for name in _NUMBERS}
    keys = take(data, "norm_obs_keys", list, where, default=None)
    try:
        return VecNormalize(env, **flags, **numbers, norm_obs_keys=keys)
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        raise VaerlLoadError(f"{where}: does not fit the environment: {error}") from error


def restore_normalizer(env: VecEnv, tensors: Tensors, where: str) -> None:
    """Put the statistics into the VecNormalize around `env`."""
    wrapper = unwrap_vec_normalize(env)
    assert wrapper is not None
    for name, statistics in _statistics(wrapper).items():
        values = [tensors.get(f"{name}/{part}") for part in ("mean", "var", "count")]
        shapes = [np.shape(statistics.mean), np.shape(statistics.var), ()]
        for value, shape in zip(values, shapes, strict=True):
            if value is None or tuple(value.shape) != shape or value.dtype != torch.float64:
                raise VaerlLoadError(f"{where}: {name}: statistics of another shape")
            if not bool(torch.isfinite(value).all()):
                raise VaerlLoadError(f"{where}: {name}: statistics that are not finite")
        mean, var, count = (value.numpy().copy() for value in values if value is not None)
        statistics.mean, statistics.var, statistics.count = mean, var, float(count)
    returns = tensors.get("returns")
    if returns is not None and returns.shape == (env.num_envs,):
        wrapper.returns = returns.numpy().copy()


def _statistics(wrapper: VecNormalize) -> dict[str, RunningMeanStd]:
    found = {"ret_rms": wrapper.ret_rms}
    if wrapper.norm_obs and isinstance(wrapper.obs_rms, dict):
        found |= {f"obs_rms/{key}": value for key, value in wrapper.obs_rms.items()}
    elif wrapper.norm_obs:
        found["obs_rms"] = wrapper.obs_rms
    return found
