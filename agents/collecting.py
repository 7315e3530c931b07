"""What SAC does while it collects: it holds noise or codes, and gathers running statistics."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.noise import ActionNoise

from vaerl.agents.common import taken_and_stored
from vaerl.agents.scaling import Scales
from vaerl.policies.actor import DensityActor


class Collects(Scales, SB3SAC):
    """Mixin of SAC over a density."""

    carried: ClassVar[tuple[str, ...]] = ("_held", "_starts", *Scales.carried)
    _held: tuple[np.ndarray, ...] | None = None
    _starts: np.ndarray | None = None

    def _begin_episodes(self) -> None:
        super()._begin_episodes()
        self._held, self._starts = None, None

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """As in SB3, with latent codes or noise held from step to step if requested."""
        holds = isinstance(self.actor, DensityActor) and self.actor.holds.steps != 1
        if self.num_timesteps < learning_starts or not holds:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        assert self._last_obs is not None, "learn() resets the environment first"
        actions, self._held = self.predict(self._last_obs, self._held, self._starts)
        return taken_and_stored(self.policy, actions, action_noise)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: Any,
        new_obs: Any,
        reward: Any,
        dones: Any,
        *rest: Any,
    ) -> None:
        self._starts = dones
        self._see_rewards(reward, dones)
        normalizer = getattr(self.policy, "normalizer", None)
        if normalizer is not None:
            normalizer.update(self._last_obs)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, *rest)
