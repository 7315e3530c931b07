"""Proximal policy optimisation over any density: SB3's algorithm, with the latents kept in order.

    vaerl.agents.PPO("cvae", env).learn(50_000)

A latent density acts through codes that stay fixed for a rollout and the updates on it, so log π
is exact and the ratio starts at 1. The policy gradient does not reach the recognition network; a
short sleep phase after each update fits it to the policy's own samples, on which the bounds and
diagnostics rely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import unwrap_vec_wrapper
from torch import Tensor, nn

from vaerl.agents.checked import check_env
from vaerl.agents.common import (
    DensityAgent,
    Improver,
    check_clone,
    for_policy,
    resolve_policy,
    signature_of,
)
from vaerl.agents.rollouts import Rollouts
from vaerl.densities.options import check_above_zero, check_flag, check_positive
from vaerl.native.ppo import NativePPO
from vaerl.policies import ActorCriticPolicy
from vaerl.policies.chunk_actor_critic import ChunkActorCritic, Terms
from vaerl.policies.decisions import Decisions

CAREFUL: dict[str, Any] = {
    "n_steps": 64,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 1e-4,
    "clip_range": 0.1,
    "target_kl": 0.03,
    "ent_coef": 0.0,
}
"""Arguments for a start from a clone, which large steps would undo."""
ROWS = 256
"""Observations of a rollout from which the first ratio and the latents are measured."""


class PPO(Improver, DensityAgent, Rollouts, SB3PPO):
    """`stable_baselines3.PPO` over a density.

    Args:
        policy: a density's name ("cvae", "gaussian", "mixture", "flow"), an alias of SB3 or a
            policy class.
        recognition_steps: updates of the recognition network after each training phase; 0 leaves
            it untrained.
        recognition_learning_rate: of Adam over the recognition network.
        clone_coef: weight of the divergence from the clone that the agent started from, in nats a
            state (`vaerl.policies.keep`).
        code_coef: weight of the information that actions hold on the codes, in nats a state.
        normalize_observations, scale_rewards: observations by running moments, which stand still
            through a rollout and its update, and rewards over the running deviation of the return
            (`vaerl.agents.rollouts`).
        native: use the native rollout and update where they are built and cover the agent
            (`vaerl.native`).
        others: as in SB3; `target_kl` works with every density, since log π is exact.

    Raises:
        ValueError: an action space that is not a finite float Box, an unknown policy, gSDE, an
            option that is not legal.

    With policy_kwargs that name a `chunk` (`from_clone` takes them from the clone), a step is a
    decision on T actions: the environment is stepped `execute` times, γ is the discount of a
    decision, and `predict` acts as `ChunkPolicy` does.

    Without an entropy bonus, an entropy without closed form is not estimated from fresh samples:
    train/entropy_loss is then SB3's own mean log π of the stored actions.

    Logged beside SB3's: train/latent_kl_floor (max |ratio − 1| before the update, 0 up to
    rounding), train/recognition_loss (nats), train/clone_divergence, train/code_information (nats),
    latent/bound_gap (mean U_k − L_k, nats),
    latent/kl_layer_l (nats), latent/active_units_l, latent/ess_ratio.

    >>> PPO("cvae", "Pendulum-v1").policy.density.name
    'cvae'
    """

    carried: ClassVar[tuple[str, ...]] = (*Rollouts.carried, "recognition_gradients")
    debug_options: ClassVar[Mapping[str, Any]] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2}
    env_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vaerl/": {"n_steps": 1024, "ent_coef": 0.01}
    }
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticPolicy,
        "MultiInputPolicy": ActorCriticPolicy,
        "ChunkPolicy": ChunkActorCritic,
    }

    @signature_of(SB3PPO)
    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        policy_kwargs: dict[str, Any] | None = None,
        recognition_steps: int = 16,
        recognition_learning_rate: float = 1e-3,
        clone_coef: float = 0.0,
        code_coef: float = 0.0,
        normalize_observations: bool | None = None,
        scale_rewards: bool = False,
        native: bool = True,
        **kwargs: Any,
    ) -> None:
        self.native = native
        self.clone_coef, self.code_coef = clone_coef, code_coef
        self.recognition_steps = recognition_steps
        self.recognition_learning_rate = recognition_learning_rate
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        for name in ("latent_hold", "noise_hold"):
            if name in policy_kwargs:
                raise ValueError(
                    f"{name}: got {policy_kwargs[name]!r}, expected none: PPO draws among codes "
                    "that stay fixed for a rollout; vaerl.agents.SAC can hold one"
                )
        policy_kwargs = for_policy(
            policy, policy_kwargs, normalize_observations=normalize_observations
        )
        self.scale_rewards = scale_rewards
        if "chunk" in policy_kwargs:
            if policy_kwargs.get("normalize_observations"):
                raise ValueError(
                    "normalize_observations: got True with a chunk, expected False: such a policy "
                    "standardises observations as its clone does"
                )
            policy = self.policy_aliases["ChunkPolicy"]
        kwargs["policy_kwargs"] = policy_kwargs
        _check_count("batch_size", kwargs.get("batch_size", 1))  # before SB3 divides by it
        made = _decided(check_env(env), policy_kwargs)
        super().__init__(policy, made, *args, **kwargs)

    @classmethod
    def clone_options(cls, clone: Any) -> dict[str, Any]:
        """Small steps without an entropy bonus, and the policy's options."""
        options = check_clone(clone).options
        return {"policy": options["density"], "policy_kwargs": dict(options), **CAREFUL}

    def take_over(self, clone: Any) -> None:
        self.policy.take_over(check_clone(clone))

    @property
    def terms(self) -> Terms | None:
        """Weights of what keeps the ways of a clone; None if nothing is asked for."""
        if not (self.clone_coef or self.code_coef):
            return None
        return Terms(self.ent_coef, self.clone_coef, self.code_coef)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        super().set_env(_decided(env, self.policy_kwargs), force_reset)

    @classmethod
    def load(cls, path: Any, env: GymEnv | str | None = None, *args: Any, **options: Any) -> PPO:
        """As in SB3; `env` may be the name of an environment, as in the constructor."""
        if env is not None:
            data, _, _ = load_from_zip_file(path, load_data=True)
            env = _decided(check_env(env), (data or {}).get("policy_kwargs", {}))
        return super().load(path, env, *args, **options)

    @property
    def recognition_gradients(self) -> list[Tensor | None]:
        """Those of the last sleep phase: SB3's clipping of the next update counts them."""
        return [p.grad for p in getattr(self.policy, "recognition_parameters", list)()]

    @recognition_gradients.setter
    def recognition_gradients(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(
            getattr(self.policy, "recognition_parameters", list)(), gradients, strict=True
        ):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        decisions = None if self.env is None else unwrap_vec_wrapper(self.env, Decisions)
        if decisions is not None:
            decisions.discount = self.gamma
        return super()._setup_learn(*args, **kwargs)

    def _setup_model(self) -> None:
        self._check_options()
        super()._setup_model()
        if self.terms is not None:
            self.policy.check_terms(self.terms)
        parameters: list[nn.Parameter] = getattr(self.policy, "recognition_parameters", list)()
        self.recognition_optimizer = (
            torch.optim.Adam(parameters, lr=self.recognition_learning_rate, fused=True)
            if parameters
            else None
        )

        self._native = NativePPO()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_native"]

    def _prepare(self) -> None:
        """Choose between the native way and torch, for what follows."""
        beyond = ["native=False"] if not self.native else []
        beyond += ["an entropy bonus"] if self.ent_coef else []
        beyond += ["what keeps the ways of a clone"] if self.terms is not None else []
        self._native.prepare(self, ", ".join(beyond))

    def _after_learning(self) -> None:
        self._native.release()

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """As in SB3."""
        self._prepare()
        with self._native.acting(self.policy):
            return super().collect_rollouts(*args, **kwargs)

    def _check_options(self) -> None:
        check_flag("native", self.native)
        check_positive("recognition_steps", self.recognition_steps, at_least=0)
        for name in ("clone_coef", "code_coef"):
            weight = getattr(self, name)
            if not (isinstance(weight, int | float) and 0.0 <= weight < math.inf):
                raise ValueError(f"{name}: got {weight!r}, expected a finite number of at least 0")
            if weight and not hasattr(self.policy_class, "check_terms"):
                raise ValueError(
                    f"{name}: got {weight!r}, expected 0 without a clone; see PPO.from_clone"
                )
        self.recognition_learning_rate = check_above_zero(
            "recognition_learning_rate", self.recognition_learning_rate
        )
        _check_count("n_epochs", self.n_epochs)
        _check_count("batch_size", self.batch_size)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        own = [] if self.recognition_optimizer is None else ["recognition_optimizer"]
        return [*names, *own], variables

    def train(self) -> None:
        """SB3's update on the rollout, then the sleep phase and the latents' diagnostics."""
        obs, actions, old_log_prob = self._rows()
        if hasattr(self._head, "density"):
            with torch.no_grad():
                log_prob = self.policy.get_distribution(obs).log_prob(actions)
                floor = (torch.exp(log_prob - old_log_prob) - 1.0).abs().max()
            self.logger.record("train/latent_kl_floor", floor.item())
        self.policy.entropy_wanted = self.ent_coef != 0.0  # no gradient needs it then
        self._prepare()
        given = self.ent_coef
        if self.terms is not None:
            self.policy.terms, self.ent_coef = self.terms, 1.0  # SB3 has one place for bonuses
        try:
            if not self._native.train(self):
                super().train()
        finally:
            self.policy.entropy_wanted, self.ent_coef = True, given
        if self.terms is not None:
            self.policy.terms = None
            for name, number in self.policy.measured.items():
                self.logger.record(f"train/{name}", number)
        if self.recognition_optimizer is not None:
            self._sleep()
            self._log_latents(obs)
        self._gather()

    def _rows(self) -> tuple[Any, Tensor, Tensor]:
        """Observations, actions and log π of the rollout's first steps: ROWS rows, or one step."""
        buffer = self.rollout_buffer
        steps = max(1, min(buffer.buffer_size, ROWS // self.n_envs))

        def rows(array: np.ndarray) -> np.ndarray:
            return array[:steps].reshape(steps * self.n_envs, *array.shape[2:])

        assert not buffer.generator_ready, "the rollout is measured before SB3 flattens it"
        stored = buffer.observations
        obs = {k: rows(v) for k, v in stored.items()} if isinstance(stored, dict) else rows(stored)
        return (
            obs_as_tensor(obs, self.device),
            buffer.to_torch(rows(buffer.actions)),
            buffer.to_torch(rows(buffer.log_probs)),
        )

    def _sleep(self) -> None:
        """Fit the recognition network to the policy's own samples at states of the rollout.

        The policy stands still meanwhile, so all samples are drawn at once.
        """
        if not self.recognition_steps:
            return
        stored = self.rollout_buffer.observations  # flattened by the update: (n_steps · n_envs, …)
        count = self.rollout_buffer.buffer_size * self.n_envs
        policy, optimizer = self.policy, self.recognition_optimizer
        assert optimizer is not None, "only a latent density has a recognition network"
        shape = (self.recognition_steps, min(ROWS, count))
        index = torch.randint(count, shape, generator=policy.noise.generator("cpu")).numpy()

        def context(rows: np.ndarray) -> Tensor:
            obs = (
                {k: v[rows] for k, v in stored.items()}
                if isinstance(stored, dict)
                else stored[rows]
            )
            return policy.context(obs_as_tensor(obs, self.device))

        with torch.no_grad():
            contexts = torch.stack([context(rows) for rows in index])
        parameters, losses = policy.recognition_parameters(), []
        noise = policy.noise.generator(contexts.device)
        for loss in policy.density.sleep_losses(contexts, noise):
            optimizer.zero_grad()
            loss.backward(inputs=parameters)
            optimizer.step()
            losses.append(loss.detach())
        self.logger.record("train/recognition_loss", torch.stack(losses).mean().item())


def _decided(env: Any, policy_kwargs: Mapping[str, Any]) -> Any:
    """The environment; for a policy in chunks, that of its decisions."""
    if env is None or "chunk" not in policy_kwargs:
        return env
    return ChunkActorCritic.decide(SB3PPO._wrap_env(env), policy_kwargs)


def _check_count(name: str, value: Any) -> None:
    check_positive(name, int(value) if isinstance(value, np.integer) else value)
