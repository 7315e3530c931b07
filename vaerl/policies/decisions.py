"""An environment whose steps are decisions: an action is a chunk, of which some steps are taken.

PPO sees one transition a decision: what a `ChunkPolicy` sees, the chunk, and the reward of the
steps that were carried out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, unwrap_vec_wrapper

from vaerl.policies.rows import flatten_rows


class Several(spaces.Box):
    """A box of several flattened elements of another space, `single`."""

    def __init__(self, single: spaces.Space, low: Any, high: Any) -> None:
        super().__init__(low, high, dtype=np.float32)
        self.single = single


class Decisions(VecEnvWrapper):
    """Copies of an environment, each of which carries out `execute` actions of a chunk at a time.

    Observation: the last H observations, flat, ``(B, H · D)``. Action: T actions, flat
    ``(B, T · A)`` or in their shape. Reward: Σ_i γ^(i / execute) r_i over the steps taken, with γ
    the discount of a decision. A copy whose episode ends within a chunk is reset and takes no
    further step.

    Args:
        venv: the copies; anything that changes what they show or take is refused.
        chunk, execute, history: T, the steps taken, and H, as in `ChunkPolicy`.
        discount: γ.
    """

    def __init__(
        self, venv: VecEnv, chunk: int, execute: int, history: int, discount: float = 1.0
    ) -> None:
        if unwrap_vec_wrapper(venv, VecNormalize) is not None:
            raise ValueError(
                "env: got a VecNormalize, expected plain observations: a policy in chunks "
                "standardises them itself"
            )
        observed, acted = venv.observation_space, venv.action_space
        assert isinstance(acted, spaces.Box), acted
        width = spaces.flatdim(observed) * history
        unbounded = np.full(width, np.inf, np.float32)
        low, high = (np.tile(bound.ravel(), chunk) for bound in (acted.low, acted.high))
        super().__init__(venv, Several(observed, -unbounded, unbounded), Several(acted, low, high))
        self.execute, self.discount = execute, discount
        self.reset_infos = venv.reset_infos
        self._past = np.zeros((venv.num_envs, history, width // history), np.float32)
        self._actions = np.zeros((venv.num_envs, chunk, *acted.shape), np.float32)

    def reset(self) -> np.ndarray:
        """Begin an episode in every copy."""
        self._past[:] = flatten_rows(self.venv.reset())[:, None]
        return self._seen()

    def step_async(self, actions: np.ndarray) -> None:
        """Take chunks for the next `step_wait`."""
        self._actions = actions.reshape(self._actions.shape)

    def step_wait(self) -> Any:
        """Carry them out."""
        count = self.num_envs
        rewards, dones = np.zeros(count, np.float32), np.zeros(count, bool)
        infos: list[dict[str, Any]] = [{} for _ in range(count)]
        step_discount = self.discount ** (1.0 / self.execute)
        for i, chunk in enumerate(self._actions):
            for number, action in enumerate(chunk[: self.execute]):
                (step,) = self.venv.env_method("step", action, indices=i)
                observation, reward, terminated, truncated, infos[i] = step
                rewards[i] += step_discount**number * reward
                self._see(i, observation)
                if terminated or truncated:
                    dones[i] = True
                    infos[i]["TimeLimit.truncated"] = truncated and not terminated
                    infos[i]["terminal_observation"] = self._past[i].ravel().copy()
                    ((observation, self.reset_infos[i]),) = self.venv.env_method("reset", indices=i)
                    self._past[i] = flatten_rows(observation, batched=False)
                    break
        return self._seen(), rewards, dones, infos

    def _see(self, place: int, observation: Any) -> None:
        self._past[place, :-1] = self._past[place, 1:]
        self._past[place, -1] = flatten_rows(observation, batched=False)

    def _seen(self) -> np.ndarray:
        return self._past.reshape(self.num_envs, -1).copy()
