"""Shared by the agents with a learned model: its options, its fit, a store of imagined steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from vaerl.agents.checked import check_spaces
from vaerl.agents.common import Agent
from vaerl.densities.options import check_choice, check_named
from vaerl.dynamics import (
    DynamicsModel,
    FitOptions,
    FitReport,
    Transitions,
    fit,
    replay_transitions,
)
from vaerl.dynamics.fitting import shortage
from vaerl.dynamics.parts import Function
from vaerl.dynamics.task import (
    REWARDS,
    TERMINATIONS,
    check_model_env,
    check_observation_space,
    find_known,
)
from vaerl.names import check_name
from vaerl.policies.noise import NoiseSource

Columns = tuple[Tensor, ...]


class ImaginedSteps(NamedTuple):
    """Transitions of a model, B rows, in the order of SB3's samples."""

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    dones: Tensor
    rewards: Tensor
    weights: Tensor | None = None
    """Trust in each ``(B, 1)``, where it is asked for."""


def fit_options(fit_kwargs: Mapping[str, Any] | None, **others: Any) -> FitOptions:
    """`FitOptions` from an agent's `fit_kwargs`; an unknown one raises the nearest name."""
    given = dict(fit_kwargs or {})
    for name in given:
        check_name("fit_kwargs: option", name, [f.name for f in fields(FitOptions)])
    return FitOptions(**{**others, **given})


def log_fit(logger: Any, report: FitReport, data: int) -> None:
    """Record the result of a fit under model/…."""
    logger.record("model/holdout_score", report.score)
    logger.record("model/score_spread", max(report.scores) - min(report.scores))
    logger.record("model/updates", report.steps)
    logger.record("model/transitions", data)


class LearnsModel(Agent, OffPolicyAlgorithm):
    """Mixin of the agents that learn a model `world` of their environment."""

    learns_model: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ("members", "elites", "reward", "termination")
    takes_normalized: ClassVar[bool] = False
    """Whether the environment may be in VecNormalize."""

    world: DynamicsModel
    """The learned model."""

    def _set_model_options(
        self,
        members: int,
        elites: int | None,
        propagation: str,
        reward: str,
        termination: str,
        fit_kwargs: Mapping[str, Any] | None,
    ) -> None:
        """Check and store the arguments of the constructor."""
        self.members, self.elites, self.propagation = members, elites, propagation
        self.reward = check_choice("reward", reward, REWARDS)
        self.termination = check_choice("termination", termination, TERMINATIONS)
        self.fit_kwargs = check_named("fit_kwargs", fit_kwargs)
        fit_options(self.fit_kwargs)

    def _model_options(self) -> dict[str, Any]:
        """The same as options of `vaerl.dynamics.task.make_model`."""
        names = ("members", "elites", "propagation", "reward", "termination")
        return {name: getattr(self, name) for name in names}

    def _check_model_spaces(self) -> None:
        """Raise one line for an environment of which no model can be learned."""
        check_spaces(self)
        self._check_env(self.env)
        check_observation_space(self.observation_space)

    def _check_env(self, env: VecEnv | None) -> None:
        if not self.takes_normalized:
            check_model_env(env)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As in SB3; known functions are those of the new environment."""
        env = self._wrap_env(env, self.verbose)
        self._check_env(env)
        known = self._known(env)  # a refusal leaves the agent in its old environment
        super().set_env(env, force_reset)
        self._take(known)

    def _bind(self, env: VecEnv | None) -> None:
        self._take(self._known(env))

    def _known(self, env: VecEnv | None) -> dict[str, Function]:
        parts = {"reward": self.reward, "termination": self.termination}
        return find_known(env, self.action_space, parts)

    def _take(self, known: dict[str, Function]) -> None:
        for part, function in known.items():
            setattr(self.world, part, function)

    def _fit_world(
        self, options: FitOptions, noise: NoiseSource
    ) -> tuple[FitReport, Transitions] | None:
        """Fit the model to everything in the buffer, and log it; None while that is too little."""
        data = self._seen()
        if shortage(self.world, self.world.check(data), options.holdout > 0.0):
            return None
        report = fit(self.world, data, options, noise.generator(self.device))
        log_fit(self.logger, report, len(data))
        return report, data

    def _seen(self) -> Transitions:
        assert self.replay_buffer is not None, "learn() or _setup_model() makes the buffer"
        return replay_transitions(self.replay_buffer)


class Imagined:
    """Transitions from model roll-outs, those of the last few fits.

    Args:
        kept: number of fits.
    """

    def __init__(self, kept: int) -> None:
        self._parts: deque[Columns] = deque(maxlen=kept)  # plain tuples, as checkpoints keep them
        self._all: Columns = ()

    def __len__(self) -> int:
        return len(self._all[0]) if self._all else 0

    def add(self, steps: list[ImaginedSteps]) -> None:
        """Keep the steps of one fit, and forget the oldest."""
        self._parts.append(_join([tuple(c for c in step if c is not None) for step in steps]))
        self._all = _join(list(self._parts))

    def draw(self, count: int, generator: torch.Generator) -> ImaginedSteps:
        """Some of the steps, drawn uniformly."""
        device = generator.device
        rows = torch.randint(len(self), (count,), generator=generator, device=device)
        return ImaginedSteps(*(column.to(device)[rows] for column in self._all))


def _join(parts: list[Columns]) -> Columns:
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
