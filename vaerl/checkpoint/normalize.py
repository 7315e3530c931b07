"""Statistics of a VecNormalize wrapper, without which a loaded policy sees other observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

_SETTINGS = (
    *("training", "norm_obs", "norm_reward", "norm_obs_keys"),
    *("clip_obs", "clip_reward", "gamma", "epsilon"),
)


def capture_normalizer(wrapper: VecNormalize) -> dict[str, Any]:
    """Return settings, running statistics, and the discounted returns behind the reward's scale."""
    return {
        "settings": {name: getattr(wrapper, name) for name in _SETTINGS},
        "returns": _tensor(wrapper.returns),
        "statistics": {
            name: [_tensor(part) for part in (values.mean, values.var, values.count)]
            for name, values in _statistics(wrapper).items()
        },
    }


def normalized(env: VecEnv, state: dict[str, Any]) -> VecEnv:
    """`env`, wrapped in a VecNormalize like the saved one unless it has one already."""
    return env if unwrap_vec_normalize(env) else VecNormalize(env, **state["settings"])


def restore_normalizer(env: VecEnv, state: dict[str, Any]) -> None:
    """Load the statistics into the VecNormalize around `env`."""
    wrapper = unwrap_vec_normalize(env)
    if wrapper is None:
        raise ValueError("env: got one without VecNormalize, expected one with it")
    for name, values in _statistics(wrapper).items():
        mean, var, count = (part.numpy() for part in state["statistics"][name])
        if mean.shape != np.shape(values.mean) or var.shape != mean.shape:
            raise ValueError(f"{name}: got {mean.shape}, expected {np.shape(values.mean)}")
        values.mean, values.var, values.count = mean.copy(), var.copy(), float(count)
    if state["returns"].shape == (env.num_envs,):
        wrapper.returns = state["returns"].numpy().copy()


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _statistics(wrapper: VecNormalize) -> dict[str, RunningMeanStd]:
    found = {"ret_rms": wrapper.ret_rms}
    if wrapper.norm_obs and isinstance(wrapper.obs_rms, dict):
        found |= {f"obs_rms/{key}": value for key, value in wrapper.obs_rms.items()}
    elif wrapper.norm_obs:
        found["obs_rms"] = wrapper.obs_rms
    return found
