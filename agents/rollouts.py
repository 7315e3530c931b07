"""Running statistics of on-policy agents: `normalize_observations` and `scale_rewards`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vaerl.agents.scaling import ReturnScale, Scales


class Rollouts(Scales, OnPolicyAlgorithm):
    """Mixin of the on-policy agents.

    The moments of observations take in a rollout after the update on it. So the policy that
    collects is the one that is updated, and the ratio of both starts at 1. The first rollout sees
    observations as they are, within ±10.

    Rewards are divided when they come, and callbacks see them so.
    """

    _scaled: ScaledRewards | None = None

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in SB3, with scaled rewards if requested."""
        if self.return_scale is not None:
            if self._scaled is None or not self._scaled.serves(env, self.return_scale):
                self._scaled = ScaledRewards(env, self.return_scale)
            env = self._scaled
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def _gather(self) -> None:
        """Take the observations of a rollout, flat since its update, into the moments."""
        normalizer = getattr(self.policy, "normalizer", None)
        if normalizer is not None:
            normalizer.update(self.rollout_buffer.observations)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_scaled"]


class ScaledRewards(VecEnvWrapper):
    """An environment whose rewards are divided by the deviation of the return as it goes.

    A reward that is not finite passes as it is, to be found by those who look for it.
    """

    def __init__(self, venv: VecEnv, scale: ReturnScale) -> None:
        super().__init__(venv)
        self._scale = scale

    def serves(self, venv: VecEnv, scale: ReturnScale) -> bool:
        """Whether it is made of these."""
        return self.venv is venv and self._scale is scale

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, rewards, dones, infos = self.venv.step_wait()
        if not np.isfinite(rewards).all():
            return obs, rewards, dones, infos
        self._scale.update(rewards, dones)
        scaled = self._scale(torch.as_tensor(rewards, dtype=torch.float32))
        return obs, scaled.numpy(), dones, infos
