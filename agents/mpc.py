"""Model-predictive control: learn a model of the task, act by planning with it, learn on.

    vaerl.agents.MPC("cvae", env).learn(5_000)

The first steps are random; from then on every `train_freq` steps the model is fitted to all
transitions so far, and actions come from the planner (Chua et al. 2018, with any density for the
model).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import nn

from vaerl.agents.checked import check_env, constructor_arguments
from vaerl.agents.common import resolve_policy, taken_and_stored
from vaerl.agents.model_based import LearnsModel, fit_options
from vaerl.agents.planning_policy import PlanningPolicy, check_further
from vaerl.densities.options import check_choice, check_named, check_positive
from vaerl.dynamics import DynamicsModel
from vaerl.names import check_name
from vaerl.native.library import PRECISIONS
from vaerl.planning import PLANNERS
from vaerl.policies.noise import NoiseSource

OWN = {"self", "observation_space", "action_space", "lr_schedule", "planner", "planner_kwargs"}
"""Arguments of the policy that come from the agent, not from `policy_kwargs`."""


class MPC(LearnsModel):
    """Plans with a learned ensemble of densities; has the interface of an SB3 agent.

    Args:
        policy: the model's density by name ("cvae", "gaussian", "mixture", "flow"), an alias of
            SB3 or a policy class.
        env: observations are vectors, actions a Box or Discrete.
        learning_rate: of the model's fit.
        buffer_size: transitions kept.
        learning_starts: random steps before the first fit; a model with a code an episode also
            waits for the second episode.
        batch_size: transitions in a batch of every member.
        gamma: discount of the planned returns.
        train_freq: steps between two fits.
        gradient_steps: updates of a fit, at most.
        members, elites, propagation: of the ensemble (`vaerl.dynamics.DynamicsModel`).
        reward, termination: "learned", or "known": the environment's methods `reward` and
            `terminated`, and the ends of Gymnasium's MuJoCo tasks. A reward may be "regressed" too,
            which learns rare ones (`vaerl.dynamics.DynamicsModel`), a termination "never".
        planner, planner_kwargs: name and settings (`vaerl.planning.make_planner`).
        fit_kwargs: further `vaerl.dynamics.FitOptions`.
        policy_kwargs: `density_kwargs`, the options of the density; `model_kwargs`, further ones
            of the model.
        matmul_precision: of roll-outs, "float32" or "bf16", which takes less time with a CVAE where
            the native library runs on a processor with AVX512-BF16, and has no effect elsewhere.

    Raises:
        ValueError: spaces that cannot be planned in, VecNormalize, unknown names or options.

    Logged: model/holdout_score (NLL in nats, or the score chosen), model/score_spread (between
    members), model/updates, model/transitions, train/n_updates.

    >>> MPC("gaussian", "Pendulum-v1", buffer_size=10).policy.world.members
    5
    """

    plans: ClassVar[bool] = True
    carried: ClassVar[tuple[str, ...]] = ("_plan_state",)
    discrete: ClassVar[bool] = True
    debug_options: ClassVar[Mapping[str, Any]] = {
        "learning_starts": 40,
        "buffer_size": 1000,
        "train_freq": 40,
        "gradient_steps": 10,
        "batch_size": 16,
        "members": 2,
        "planner_kwargs": {"horizon": 3, "population": 16, "iterations": 2},  # of any planner
    }
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": PlanningPolicy,
        "MultiInputPolicy": PlanningPolicy,
    }
    policy: PlanningPolicy

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 100_000,
        learning_starts: int = 200,
        batch_size: int = 256,
        gamma: float = 1.0,
        train_freq: int | tuple[int, str] = 200,
        gradient_steps: int = 500,
        action_noise: ActionNoise | None = None,
        members: int = 5,
        elites: int | None = None,
        propagation: str = "tsinf",
        reward: str = "learned",
        termination: str = "learned",
        planner: str = "icem",
        planner_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        matmul_precision: str = "float32",
        _init_setup_model: bool = True,
    ) -> None:
        self.matmul_precision = check_choice("matmul_precision", matmul_precision, PRECISIONS)
        self._set_model_options(members, elites, propagation, reward, termination, fit_kwargs)
        self.planner = PLANNERS.check(planner)
        self.planner_kwargs = check_named("planner_kwargs", planner_kwargs)
        check_positive("batch_size", batch_size)
        self._plan_state: tuple[np.ndarray, ...] | None = None
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        super().__init__(
            policy,
            check_env(env, discrete=True),
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete),
        )
        legal = sorted(constructor_arguments(self.policy_class).keys() - OWN)
        for name in self.policy_kwargs:
            check_name("policy_kwargs: option", name, legal)
        if _init_setup_model:
            self._setup_model()

    @property
    def world(self) -> DynamicsModel:  # type: ignore[override]
        """The learned model."""
        return self.policy.world

    def _setup_model(self) -> None:
        self._check_model_spaces()
        given = self.policy_kwargs
        own: dict[str, Any] = {
            "planner": self.planner,
            "planner_kwargs": {"discount": self.gamma, **self.planner_kwargs},
        }
        mine = self._model_options()
        further = check_further(given.get("model_kwargs"), mine, "MPC")
        model = {"model_kwargs": {**mine, **further}}
        self.policy_kwargs = {**own, **given, **model}
        try:
            super()._setup_model()
        finally:
            self.policy_kwargs = given  # as the caller gave them: they are saved
        self.world.matmul_precision = self.matmul_precision
        self._bind(self.env)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything as SB3 does, and the policy's own noise."""
        super().set_random_seed(seed)
        if seed is not None and hasattr(self, "policy") and isinstance(self.policy, nn.Module):
            noise: NoiseSource = self.policy.noise
            noise.reseed(seed)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random until the model has been fitted; then the planner's, each plan from the last."""
        if self.num_timesteps < learning_starts or not self.world.fits:
            return super()._sample_action(self.num_timesteps + 1, action_noise, n_envs)
        assert self._last_obs is not None, "collect_rollouts has an observation"
        action, self._plan_state = self.policy.predict(
            self._last_obs, self._plan_state, self._last_episode_starts
        )
        if not isinstance(self.action_space, spaces.Box):
            return action, action
        return taken_and_stored(self.policy, action, action_noise)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = dones

    def _begin_episodes(self) -> None:
        self._plan_state = None

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Fit the model to everything in the buffer, if that is enough and the rate is not 0."""
        rate = self.lr_schedule(self._current_progress_remaining)
        if rate == 0.0 and "learning_rate" not in (self.fit_kwargs or {}):
            return  # the end of a falling schedule
        options = fit_options(
            self.fit_kwargs, steps=gradient_steps, batch_size=batch_size, learning_rate=rate
        )
        fitted = self._fit_world(options, self.policy.noise)
        if fitted is None:
            return
        report, _ = fitted
        self._n_updates += report.steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_plan_state"]
