"""Running statistics of on-policy agents: they stand still through a rollout and its update."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vaerl.agents.common import Agent
from vaerl.agents.scaling import ReturnScale
from vaerl.policies.running import CLIP


class Rollouts(Agent, OnPolicyAlgorithm):
    """Mixin of the on-policy agents: `normalize_observations` and `scale_rewards`.

    The moments of observations take in a rollout after the update on it. So the policy that
    collects is the one that is updated, and the ratio of both starts at 1. The first rollout sees
    observations as they are.
    """

    carried: ClassVar[tuple[str, ...]] = ("return_scale",)
    gathers_statistics = True
    scale_rewards: bool
    return_scale: ReturnScale | None
    """What divides rewards, if anything does."""

    def _setup_model(self) -> None:
        super()._setup_model()
        self.return_scale = ReturnScale(self.gamma) if self.scale_rewards else None

    def _begin_episodes(self) -> None:
        if self.return_scale is not None:
            self.return_scale.begin()

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in SB3, with scaled rewards if requested."""
        scaled = env if self.return_scale is None else ScaledRewards(env, self.return_scale)
        return super().collect_rollouts(scaled, callback, rollout_buffer, n_rollout_steps)

    def _gather(self) -> None:
        """Take the observations of a rollout, flat since its update, into the moments."""
        normalizer = getattr(self.policy, "normalizer", None)
        if normalizer is not None:
            normalizer.update(self.rollout_buffer.observations)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return [*names, *(["return_scale"] if self.scale_rewards else [])], variables

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "return_scale"]


class ScaledRewards(VecEnvWrapper):
    """An environment whose rewards are divided by the deviation of the return as it goes.

    They stay within ±`CLIP`, as in VecNormalize: of the first step alone nothing is known.
    """

    def __init__(self, venv: VecEnv, scale: ReturnScale) -> None:
        super().__init__(venv)
        self._scale = scale

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, rewards, dones, infos = self.venv.step_wait()
        self._scale.update(rewards, dones)
        scaled = self._scale(torch.from_numpy(rewards)).clamp(-CLIP, CLIP)
        return obs, scaled.numpy(), dones, infos
