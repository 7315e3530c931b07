"""A policy that plans: a learned model and a planner, for agents that act by looking ahead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from vaerl.densities.options import check_named
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

    Actions are drawn by the planner's own search; deterministic ones from a fixed seed and for each
    observation by itself, so that they depend on observation and state alone.
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
            "density_kwargs": check_named("density_kwargs", density_kwargs),
            "model_kwargs": check_further(
                model_kwargs, ("density", "density_kwargs"), "the policy"
            ),
        }
        self.planner_name = planner
        self.planner_kwargs = check_named("planner_kwargs", planner_kwargs)
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
        new = np.ones(len(observation), dtype=bool)
        return self._follow(observation, None, new, deterministic)[0][:, 0]

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

        Raises:
            ValueError: no observations; a state of another planner or number of observations, or
                with numbers that no plan has; starts that are not one per observation.
        """
        self.set_training_mode(False)
        obs, vectorized = self.obs_to_tensor(observation)
        assert isinstance(obs, Tensor), "the observation space is a Box"
        rows = len(obs)
        if not rows:
            raise ValueError(f"observation: got shape {tuple(obs.shape)}, expected a row or more")
        starts = np.zeros(rows) if episode_start is None else np.asarray(episode_start).reshape(-1)
        if len(starts) != rows:
            raise ValueError(
                f"episode_start: got {len(starts)} values, expected one for each of the {rows} "
                "observations"
            )
        new = starts.astype(bool) | (state is None)
        last = None if state is None else self._unpack(state, new)
        parts = self._follow(obs, last, new, deterministic)
        following = tuple(part.cpu().numpy() for part in parts)
        actions = following[0][:, 0]
        if isinstance(self.action_space, spaces.Box):
            actions = self.unscale_action(actions)
        return (actions if vectorized else actions[0]), following

    def _follow(
        self, obs: Tensor, last: Plan | None, new: np.ndarray, deterministic: bool
    ) -> list[Tensor]:
        """The parts of the next plan, from the last one except in the rows that are new.

        Rows are planned together, but for new ones beside old ones and for deterministic ones.
        """
        alone = [np.array([row]) for row in range(len(obs))]
        groups = alone if deterministic else [np.flatnonzero(~new), np.flatnonzero(new)]
        found = []
        for group in filter(len, groups):
            at = torch.as_tensor(group, device=self.device)
            warm = None if last is None or new[group[0]] else self._some(last, at)
            plan = self.plan(obs[at].float(), warm, self._generator(deterministic))
            found.append([part.unflatten(0, (len(at), -1)) for part in _parts(plan)])
        order = torch.as_tensor(np.argsort(np.concatenate(groups)), device=self.device)
        return [torch.cat(parts)[order].flatten(0, 1) for parts in zip(*found, strict=True)]

    def _some(self, plan: Plan, rows: Tensor) -> Plan:
        """The plan of some of the states."""
        count = len(plan.actions)
        actions, *rest = (
            part.unflatten(0, (count, -1))[rows].flatten(0, 1) for part in _parts(plan)
        )
        return self._plan_of(actions, rest)

    def _unpack(self, state: PlanState, new: np.ndarray) -> Plan:
        """The plan that a state holds, checked but for the numbers of rows that are new."""
        law = self.planner.fresh(1, self.device)
        laws = len(law)
        if not isinstance(state, tuple) or len(state) not in (1 + laws, 2 + laws):
            got = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(f"state: got {got}, expected the state that predict returned")
        own = self.planner.actions.centre(law).dtype
        try:
            parts = [torch.as_tensor(part, device=self.device) for part in state]
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                "state: got a part that is no array of numbers, expected the state that predict "
                "returned"
            ) from None
        for part, dtype in zip(parts, (own, *(p.dtype for p in law), own), strict=False):
            if part.dtype != dtype:
                raise ValueError(f"state: got {part.dtype}, expected {dtype} as predict returned")
        plan = self._plan_of(parts[0], parts[1:])
        self.planner.check_plan("state", plan, len(new))
        used = torch.as_tensor(~new, device=self.device)
        in_use = [part.unflatten(0, (len(new), -1))[used] for part in parts]
        if not all(bool(torch.isfinite(part).all()) for part in in_use):
            raise ValueError("state: got NaN or infinity, expected finite numbers")
        # A law ends with its standard deviations, or is probabilities.
        if bool((in_use[laws] <= 0.0).any()):
            raise ValueError("state: got a spread or probability ≤ 0, expected positive ones")
        return plan

    def _plan_of(self, actions: Tensor, rest: list[Tensor]) -> Plan:
        """A plan from its actions, its law and what it keeps, if anything."""
        laws = len(self.planner.fresh(1, self.device))
        kept = rest[laws] if len(rest) > laws else None
        law = tuple(rest[:laws])
        return Plan(actions, law, kept, lambda: actions.new_full((len(actions),), torch.nan))

    def _generator(self, deterministic: bool) -> torch.Generator:
        if deterministic:
            return torch.Generator(self.device).manual_seed(0)
        return self.noise.generator(self.device)


def _parts(plan: Plan) -> list[Tensor]:
    """Actions, the law and what is kept, if anything."""
    return [plan.actions, *plan.law, *(() if plan.kept is None else (plan.kept,))]


def check_further(
    options: Mapping[str, Any] | None, own: Collection[str], whose: str
) -> dict[str, Any]:
    """Further options of the model, none of which is an argument of `whose` itself."""
    given = check_named("model_kwargs", options)
    for name in given:
        if name in own:
            raise ValueError(f"model_kwargs: got {name!r}, which is an argument of {whose} itself")
    return given
