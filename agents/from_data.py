"""What agents that learn from data share: the data, the loop of updates, saving."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from torch import Tensor

from vaerl.agents.checked import check_env, check_keys, check_steps
from vaerl.agents.common import Agent, resolve_policy
from vaerl.agents.finite import named
from vaerl.data import Demonstrations, load_demonstrations
from vaerl.densities.options import check_positive
from vaerl.native.latent import way
from vaerl.policies.chunk import ChunkPolicy

Self = TypeVar("Self", bound="DataAgent")
Info = dict[str, Tensor]


class Fit(Protocol):
    """One call of `learn`: what it needs of the data, and its updates."""

    def update(self, total: int) -> Info:
        """Take one update of `total`; numbers for the log, 0-d."""

    def over(self, total: int) -> bool:
        """Look at the agent after an update; whether to stop before `total`."""

    def finish(self) -> None:
        """Leave the policy as it acts."""


class DataAgent(Agent, BaseAlgorithm):
    """An SB3 agent that learns from demonstrations and steps no environment.

    A subclass makes the `Fit` of a call of `learn` and names the options of its policy.
    """

    policy: ChunkPolicy
    takes_data = needs_data = True
    default_steps = 4_000

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        data: Any,
        learning_rate: float | Callable[[float], float],
        batch_size: int,
        policy_kwargs: dict[str, Any] | None,
        _init_setup_model: bool,
        **options: Any,
    ) -> None:
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        self._data = None if data is None else load_demonstrations(data)
        self.batch_size = check_positive("batch_size", batch_size)
        made = check_env(env)
        if made is None and self._data is not None:
            made = _NoEnv(self._data.observation_space, self._data.action_space)
        super().__init__(
            policy,
            made,
            learning_rate,
            policy_kwargs=policy_kwargs,
            support_multi_env=True,
            supported_action_spaces=(spaces.Box,),
            **options,
        )
        if self._data is not None:  # before a run writes anything
            check_fit(self._data, self.observation_space, self.action_space)
        if _init_setup_model:
            self._setup_model()

    @abstractmethod
    def _fit(self, data: Demonstrations, fresh: bool) -> Fit:
        """What `learn` does with the data; `fresh` unless earlier training goes on."""

    @abstractmethod
    def _make_optimizers(self) -> None:
        """Make the optimizers of a new policy."""

    def _policy_options(self) -> dict[str, Any]:
        """Options of the policy that are arguments of the agent."""
        return {}

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if getattr(self, "observation_space", None) is None:
            raise ValueError("env: got None without data, expected one of the two: spaces differ")
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            **self._policy_options(),
            **self.policy_kwargs,
        ).to(self.device)
        self._make_optimizers()

    def learn(
        self: Self,
        total_timesteps: int | Any = None,
        callback: MaybeCallback = None,
        log_interval: int = 200,
        tb_log_name: str = "",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        data: Any = None,
    ) -> Self:
        """Take `total_timesteps` updates; demonstrations may be given in their place, or as `data`.

        A timestep is one update, and a roll-out of none; None takes the default number. Callbacks
        are called before and after each.
        """
        if not isinstance(total_timesteps, Real | None):
            data, total_timesteps = total_timesteps, None
        steps = check_steps(0 if total_timesteps is None else total_timesteps)
        if data is not None:
            self._data = load_demonstrations(data)
        name = type(self).__name__
        if self._data is None:
            raise ValueError(
                f"data: got None, expected demonstrations; name them here or in {name}(…)"
            )
        check_fit(self._data, self.observation_space, self.action_space)
        if self.env is None:  # of an agent that was loaded without one
            self.set_env(_NoEnv(self.observation_space, self.action_space))
        total, listener = self._setup_learn(
            steps or self.default_steps,
            callback,
            reset_num_timesteps,
            tb_log_name or name,
            progress_bar,
        )
        with named(self):
            return self._learn(total, listener, log_interval, reset_num_timesteps)

    def _learn(
        self: Self, total: int, listener: BaseCallback, log_interval: int, fresh: bool
    ) -> Self:
        assert self._data is not None
        fit = self._fit(self._data, fresh)
        self.logger.info(f"fit: {way(self.policy.density.kernel())}")
        listener.on_training_start(locals(), globals())
        while self.num_timesteps < total:
            self._current_progress_remaining = 1.0 - self.num_timesteps / total
            listener.on_rollout_start()
            info = fit.update(total)
            self.num_timesteps += 1
            if fit.over(total):
                break
            if self.num_timesteps % log_interval == 0 or self.num_timesteps == total:
                for key, number in info.items():
                    self.logger.record(key, float(number))
                self.logger.dump(self.num_timesteps)
            # what SB3's callbacks look for: no environment was stepped
            listener.update_locals({**locals(), "infos": [], "dones": [], "rewards": []})
            if not listener.on_step():
                break
        fit.finish()
        listener.on_training_end()
        return self

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3; see `ChunkPolicy.predict` for the state and for `codes`."""
        check_keys(self.observation_space, observation)
        return self.policy.predict(observation, state, episode_start, deterministic, codes)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything as SB3 does, and the policy's own noise."""
        super().set_random_seed(seed)
        if seed is not None and getattr(self, "policy", None) is not None:
            self.policy.noise.reseed(seed)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_data"]


class _NoEnv(gymnasium.Env):
    """Stands for an environment where only the spaces are known."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        raise ValueError("env: got None, expected an environment: only the spaces are known")


def check_fit(data: Demonstrations, observed: spaces.Space, acted: spaces.Space) -> None:
    """Refuse demonstrations whose observations or actions have another size than the spaces."""
    for name, ours, theirs in (
        ("observations", observed, data.observation_space),
        ("actions", acted, data.action_space),
    ):
        shapes = [spaces.flatdim(space) for space in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"data: got {name} of {theirs}, the environment has {ours}")
