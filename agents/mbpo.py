"""Model-based policy optimisation: SAC that learns mostly from roll-outs of a learned model.

    vaerl.agents.MBPO("cvae", env, dynamics="cvae").learn(20_000)

Every `model_train_freq` steps an ensemble is fitted to all transitions so far, and the policy is
rolled out in it for a few steps from states of the buffer; each batch of SAC's update is then
mostly made of these (Janner et al. 2019). Any density of the policy goes with any density of the
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, ReplayBufferSamples
from torch import Tensor

from vaerl.agents.common import signature_of
from vaerl.agents.model_based import Imagined, ImaginedSteps, LearnsModel, fit_options
from vaerl.agents.sac import SAC
from vaerl.densities import DENSITIES
from vaerl.densities.options import (
    check_at_least_zero,
    check_flag,
    check_named,
    check_positive,
    check_share,
)
from vaerl.disk.errors import NotFinite
from vaerl.dynamics.scores import check_deviation, deviation
from vaerl.dynamics.task import make_model
from vaerl.finite import all_finite
from vaerl.policies.noise import NoiseSource

FIT = {"steps": 500, "check_every": 50, "patience": 3}
"""A refit starts from the last one's parameters, so a few hundred updates suffice."""
MOST_ROLLOUTS = 10**7
"""Largest number of roll-outs that are begun at once."""
LONGEST = 1000
"""Largest number of steps of a roll-out."""


class MBPO(LearnsModel, SAC):
    """`vaerl.agents.SAC` on roll-outs of a learned model.

    Args:
        policy: the policy's density, as in SAC.
        dynamics, dynamics_kwargs: the model's density by name, and its options.
        members, elites, propagation: of the ensemble (`vaerl.dynamics.DynamicsModel`).
        reward, termination: "learned", or "known": the environment's methods `reward` and
            `terminated`, and the ends of Gymnasium's MuJoCo tasks. A reward may be "regressed" too,
            which learns rare ones (`vaerl.dynamics.DynamicsModel`), a termination "never".
        model_train_freq: environment steps between two fits of the model.
        fit_kwargs: `vaerl.dynamics.FitOptions`, over `FIT`.
        rollout_schedule: (from step, to step, shortest, longest): the length of roll-outs rises
            linearly between the two steps.
        rollout_batch_size: states from which roll-outs start, after each fit.
        rollouts_kept: fits whose roll-outs are kept.
        real_share: share of each batch that comes from the environment.
        weight_by_uncertainty: multiply the critics' squared errors on imagined transitions by
            1 / (1 + σ), with the deviation σ of the model's prediction over elites and latents
            (`vaerl.dynamics.deviation`); WIMLE (2026). Noise that the model explains by its latents
            counts too.
        exploration_bonus: β ≥ 0; imagined rewards are r + βσ with the same σ, so that the policy
            seeks what the model does not know yet (Pathak et al. 2019, by the variance). In the
            environment's units; rewards of real transitions stay as they are. Before a first
            reward VecNormalize cuts all of them at its limit: use `scale_rewards` instead.
        others: as in SAC.

    Raises:
        ValueError: what SAC refuses; observations that are not vectors, n-step returns, weights by
            or a bonus by a model that has no deviation, unknown names or options.

    Logged beside SAC's: model/holdout_score (NLL in nats, or the score chosen),
    model/score_spread, model/updates, model/transitions, model/rollout_length,
    model/rollout_reward (mean, with any bonus), model/rollout_weight (mean, with weights).

    >>> MBPO("gaussian", "Pendulum-v1", dynamics="mixture", buffer_size=10).world.density_name
    'mixture'
    """

    takes_data = improves_clones = False
    takes_normalized = True
    carried = (*SAC.carried, "imagined", "_fitted_at")
    kept = (*SAC.kept, "dynamics", "dynamics_kwargs", *LearnsModel.kept)
    debug_options: ClassVar[Mapping[str, Any]] = {
        **SAC.debug_options,
        "members": 2,
        "model_train_freq": 40,
        "fit_kwargs": {"steps": 10},
        "rollout_batch_size": 100,
    }
    env_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"vaerl/": {"learning_starts": 1000}}

    @signature_of(SAC)
    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        dynamics: str = "cvae",
        dynamics_kwargs: Mapping[str, Any] | None = None,
        members: int = 5,
        elites: int | None = None,
        propagation: str = "ts1",
        reward: str = "learned",
        termination: str = "learned",
        model_train_freq: int = 250,
        fit_kwargs: Mapping[str, Any] | None = None,
        rollout_schedule: Sequence[int] = (0, 1, 1, 1),
        rollout_batch_size: int = 10_000,
        rollouts_kept: int = 4,
        real_share: float = 0.05,
        weight_by_uncertainty: bool = False,
        exploration_bonus: float = 0.0,
        policy_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(policy_kwargs, Mapping) and "model_kwargs" in policy_kwargs:
            raise ValueError(
                "policy_kwargs: got 'model_kwargs', expected options of the policy; MBPO's model "
                "has dynamics_kwargs, members, elites, propagation, reward and termination"
            )
        self.dynamics = DENSITIES.check(dynamics, "dynamics")
        self.dynamics_kwargs = check_named("dynamics_kwargs", dynamics_kwargs)
        self._set_model_options(members, elites, propagation, reward, termination, fit_kwargs)
        self.model_train_freq = model_train_freq
        self.rollout_schedule = rollout_schedule
        self.rollout_batch_size, self.rollouts_kept = rollout_batch_size, rollouts_kept
        self.real_share = real_share
        self.weight_by_uncertainty = weight_by_uncertainty
        self.exploration_bonus = exploration_bonus
        super().__init__(policy, env, *args, policy_kwargs=policy_kwargs, **kwargs)

    def _check_options(self) -> None:
        super()._check_options()
        check_positive("model_train_freq", self.model_train_freq)
        check_schedule(self.rollout_schedule)
        check_positive("rollout_batch_size", self.rollout_batch_size, at_most=MOST_ROLLOUTS)
        check_positive("rollouts_kept", self.rollouts_kept)
        check_share("real_share", self.real_share)
        check_flag("weight_by_uncertainty", self.weight_by_uncertainty)
        check_at_least_zero("exploration_bonus", self.exploration_bonus)

    def _setup_model(self) -> None:
        self._check_model_spaces()
        if self.n_steps != 1:
            raise ValueError(
                f"n_steps: got {self.n_steps}, expected 1: imagined steps are single ones"
            )
        if self.optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage: got True, expected False: the model is fitted to next "
                "observations, which the buffer would not keep"
            )
        super()._setup_model()
        self.world = make_model(
            self.observation_space,
            self.action_space,
            density=self.dynamics,
            density_kwargs=self.dynamics_kwargs,
            **self._model_options(),
        ).to(self.device)
        for name in ("weight_by_uncertainty", "exploration_bonus"):
            if getattr(self, name):
                check_deviation(name, self.world)
        self.world_noise = NoiseSource(self.seed)
        self.imagined = Imagined(self.rollouts_kept)
        self._fitted_at: int | None = None
        self._bind(self.env)

    # -- the update --------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Fit the model and roll the policy out in it when due, then update as SAC does."""
        if self._fit_due() and self.real_share < 1.0 and self._fit_model():
            self._fitted_at = self.num_timesteps
        super().train(gradient_steps, batch_size)

    def _fit_due(self) -> bool:
        if self._fitted_at is None:
            return True
        since = self.num_timesteps - self._fitted_at
        return since < 0 or since >= self.model_train_freq  # below 0: `learn` counts anew

    def _update(
        self, batch: Any, follow: bool = True, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        assert weights is None, "they come from the model"
        mixed, weights = self._mixed(batch)
        return super()._update(mixed, follow, weights)

    def _mixed(self, batch: ReplayBufferSamples) -> tuple[ReplayBufferSamples, Tensor | None]:
        """A share of a real batch, the rest imagined; and their weights, where these count."""
        real = round(self.real_share * len(batch.rewards))
        if real == len(batch.rewards) or not self.imagined:
            return batch, None
        count = len(batch.rewards) - real
        drawn = self.imagined.draw(count, self.world_noise.generator(self.device))
        drawn = drawn._replace(
            observations=self._as_seen(drawn.observations),
            next_observations=self._as_seen(drawn.next_observations),
            rewards=self._as_seen(drawn.rewards, "normalize_reward"),
        )
        pairs = zip(batch[:5], drawn[:5], strict=True)
        mixed = ReplayBufferSamples(*(torch.cat((own[:real], other)) for own, other in pairs))
        if drawn.weights is None:
            return mixed, None
        return mixed, torch.cat((torch.ones_like(mixed.rewards[:real]), drawn.weights))

    def _as_seen(self, numbers: Tensor, normalize: str = "normalize_obs") -> Tensor:
        """As VecNormalize shows them to the agent, if the environment is in one; the model and its
        roll-outs are in the environment's own units."""
        wrapper = self._vec_normalize_env
        if wrapper is None:
            return numbers
        shown = getattr(wrapper, normalize)(numbers.cpu().numpy())
        return torch.as_tensor(shown, device=numbers.device)

    # -- the model ---------------------------------------------------------------------------------

    @property
    def rollout_length(self) -> int:
        """Steps of a roll-out now, by the schedule."""
        start, end, shortest, longest = self.rollout_schedule
        share = min(max((self.num_timesteps - start) / (end - start), 0.0), 1.0)
        return shortest + int(share * (longest - shortest))

    def _fit_model(self) -> bool:
        """Fit the model to everything in the buffer and roll the policy out in it, if that is
        enough."""
        fitted = self._fit_world(fit_options(self.fit_kwargs, **FIT), self.world_noise)
        if fitted is None:
            return False
        _, data = fitted
        steps = self._imagine(data.states.to(self.device))
        self.imagined.add(steps)
        self.logger.record("model/rollout_length", len(steps))
        for name in ("reward", "weight") if self.weight_by_uncertainty else ("reward",):
            mean = torch.cat([getattr(step, f"{name}s") for step in steps]).mean()
            self.logger.record(f"model/rollout_{name}", mean.item())
        return True

    @torch.no_grad()
    def _imagine(self, states: Tensor) -> list[ImaginedSteps]:
        """Roll the policy out in the model from states drawn from `states`; a batch per step."""
        rows = self.rollout_batch_size
        generator = self.world_noise.generator(self.device)
        chosen = torch.randint(len(states), (rows,), generator=generator, device=self.device)
        at = states[chosen]
        alive = torch.ones(rows, dtype=torch.bool, device=self.device)
        particles = self.world.begin(rows, generator)
        steps: list[ImaginedSteps] = []
        for _ in range(self.rollout_length):
            actions = self.actor(self._as_seen(at))
            weights, bonus = self._weights_and_bonus(at[alive], actions[alive], generator)
            after, rewards, dones = particles.step(at, actions, generator)
            assert rewards is not None, "the model learns rewards, or knows them"
            paid = rewards[alive].float().unsqueeze(1) + bonus
            for what, found in (("reward", paid), ("next state", after[alive])):
                if not all_finite(found.cpu().numpy()):
                    raise NotFinite(
                        f"model: an imagined {what} is NaN or infinite, {len(steps) + 1} steps on"
                    )
            ends = torch.zeros_like(alive) if dones is None else dones
            steps.append(
                ImaginedSteps(
                    at[alive],
                    actions[alive],
                    after[alive],
                    ends[alive].float().unsqueeze(1),
                    paid,
                    weights,
                )
            )
            alive &= ~ends
            if not bool(alive.any()):
                break
            at = after
        return steps

    def _weights_and_bonus(
        self, states: Tensor, actions: Tensor, generator: torch.Generator
    ) -> tuple[Tensor | None, Tensor | float]:
        """Weights of imagined steps, if any, and the bonus on their rewards, ``(B, 1)``."""
        if not (self.weight_by_uncertainty or self.exploration_bonus):
            return None, 0.0
        apart = deviation(self.world, states, actions, generator=generator).unsqueeze(1)
        weights = 1.0 / (1.0 + apart) if self.weight_by_uncertainty else None
        return weights, self.exploration_bonus * apart

    # -- saving ------------------------------------------------------------------------------------

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return [*names, "world", "world_noise"], variables

    def _excluded_save_params(self) -> list[str]:
        own = ["world", "world_noise", "imagined", "_fitted_at"]
        return [*super()._excluded_save_params(), *own]


def check_schedule(schedule: Sequence[int]) -> tuple[int, int, int, int]:
    """Return (from step, to step, shortest, longest) if it is one, else raise one line.

    >>> check_schedule([20_000, 100_000, 1, 15])
    (20000, 100000, 1, 15)
    """
    whole = isinstance(schedule, Sequence) and all(type(n) is int for n in schedule)
    if whole and len(schedule) == 4:
        start, end, shortest, longest = schedule
        if 0 <= start < end and 1 <= shortest <= longest <= LONGEST:
            return start, end, shortest, longest
    raise ValueError(
        f"rollout_schedule: got {schedule!r}, expected whole numbers (from step, to step, "
        f"shortest, longest) with from < to and 1 <= shortest <= longest <= {LONGEST:,}"
    )
