"""A policy that plans: a learned model and a planner, for agents that act by looking ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from vaerl.dynamics.task import make_model
from vaerl.planning import BoxActions, DiscreteActions, Plan, make_planner
from vaerl.policies.noise import NoiseSource
from vaerl.policies.spaces import check_action_space

PlanState = tuple[np.ndarray, ...]
"""A plan as arrays, the state that `predict` returns: actions, the law, kept sequences."""


class PlanningPolicy(BasePolicy):
    """Acts by planning with a `DynamicsModel`; `predict` carries its plan on as its state.

    Args:
        density, density_kwargs: of the model.
        model_kwargs: further options of `vaerl.dynamics.task.make_model`; "known" functions come
            from the environment.
        planner, planner_kwargs: name and settings of the planner (`vaerl.planning`).

    Raises:
        ValueError: spaces that cannot be planned in, unknown names or settings.

    Actions are drawn by the planner's own search; deterministic ones from a fixed seed, so that
    they depend on observation and state alone.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule | None = None,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        planner: str = "icem",
        planner_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        discrete = isinstance(action_space, spaces.Discrete)
        super().__init__(
            observation_space,
            action_space if discrete else check_action_space(action_space),
            squash_output=not discrete,
        )
        self._options: dict[str, Any] = {
            "density": density,
            "density_kwargs": dict(density_kwargs or {}),
            "model_kwargs": dict(model_kwargs or {}),
        }
        self.planner_name, self.planner_kwargs = planner, dict(planner_kwargs or {})
        self.world = make_model(
            observation_space,
            action_space,
            density=density,
            density_kwargs=density_kwargs,
            **self._options["model_kwargs"],
        )
        actions: BoxActions | DiscreteActions
        if self.world.discrete_actions:
            actions = DiscreteActions(self.world.action_dim)
        else:
            ones = [1.0] * self.world.action_dim
            actions = BoxActions([-one for one in ones], ones)
        self.planner = make_planner(planner, actions, **self.planner_kwargs)
        self.noise = NoiseSource(space=action_space)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            **self._options,
            "planner": self.planner_name,
            "planner_kwargs": self.planner_kwargs,
        }

    def plan(
        self, states: Tensor, warm: Plan | None = None, generator: torch.Generator | None = None
    ) -> Plan:
        """Plan from observations ``(B, S)``; actions of a Box are in [−1, 1]."""
        return self.planner.plan(self.world, states, warm=warm, generator=generator)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor), "the observation space is a Box"
        return self.plan(observation.float(), None, self._generator(deterministic)).actions[:, 0]

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: PlanState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, PlanState | None]:
        """Actions, and the plan as the state for the next call.

        Handing the state back warm-starts the next plan; where `episode_start` is true it starts
        afresh.
        """
        self.set_training_mode(False)
        obs, vectorized = self.obs_to_tensor(observation)
        assert isinstance(obs, Tensor), "the observation space is a Box"
        warm = None if state is None else self._unpack(state, episode_start, len(obs))
        plan = self.plan(obs.float(), warm, self._generator(deterministic))
        actions = plan.actions[:, 0].cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            actions = self.unscale_action(actions)
        parts = [plan.actions, *plan.law, *(() if plan.kept is None else (plan.kept,))]
        following = tuple(part.cpu().numpy() for part in parts)
        return (actions if vectorized else actions[0]), following

    def _unpack(self, state: PlanState, episode_start: np.ndarray | None, rows: int) -> Plan | None:
        """The last plan, with a fresh law in the rows where an episode starts."""
        if state[0].shape[0] != rows:
            raise ValueError(
                f"state: got a plan for {state[0].shape[0]} observations, expected {rows}"
            )
        actions, *rest = (torch.as_tensor(part, device=self.device) for part in state)
        fresh = self.planner.fresh(rows, self.device)
        law = tuple(rest[: len(fresh)])
        kept = rest[len(fresh)] if len(rest) > len(fresh) else None
        starts = np.zeros(rows, dtype=bool) if episode_start is None else episode_start
        new = torch.as_tensor(starts, dtype=torch.bool, device=self.device)
        if bool(new.all()):
            return None
        if bool(new.any()):
            new = new.repeat_interleave(self.planner.modes)
            law = tuple(
                torch.where(new.view(-1, 1, 1), start, old)
                for start, old in zip(fresh, law, strict=True)
            )
            if kept is not None:
                centre = self.planner.actions.centre(fresh).unsqueeze(1)
                kept = torch.where(new.view(-1, *(1,) * (kept.ndim - 1)), centre, kept)
        return Plan(actions, law, kept, lambda: actions.new_full((rows,), torch.nan))

    def _generator(self, deterministic: bool) -> torch.Generator:
        if deterministic:
            return torch.Generator(self.device).manual_seed(0)
        return self.noise.generator(self.device)
