"""Soft actor-critic over any density: SB3's algorithm, its updates in few large operations.

    vaerl.agents.SAC("cvae", env).learn(50_000)

For a latent density the upper bound U_k on log π stands in actor, target and temperature, and is
minimised over policy and recognition network together, which also tightens it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from vaerl.agents.common import (
    DensityAgent,
    check_env,
    resolve_policy,
    signature_of,
    taken_and_stored,
)
from vaerl.agents.critics import Watch, make_critics
from vaerl.agents.improvement import make_improvement
from vaerl.agents.precision import PRECISIONS, low_layers, low_products
from vaerl.agents.sac_losses import (
    actor_loss,
    polyak_,
    soft_target,
    temperature_loss,
)
from vaerl.agents.temperature import annealing, entropy_target
from vaerl.densities.options import check_choice, check_positive
from vaerl.policies import SACPolicy
from vaerl.policies.sac import DensityActor


class SAC(DensityAgent, SB3SAC):
    """`stable_baselines3.SAC` over a density.

    Args:
        policy: a density's name ("cvae", "gaussian", "mixture", "flow"), an alias of SB3 or a
            policy class.
        improvement: how the actor follows the critic: "reverse" as SAC does, "forward" or "both",
            see `vaerl.agents.improvement`.
        improvement_kwargs: settings of that step, fields of `Improvement`.
        ent_coef: as in SB3, or "anneal_START_END[_FRACTION[_BEGIN]]" (`Annealed`).
        target_entropy: as in SB3, or "modes_M": −X + log M nats.
        relative_entropy: measure the entropy that the critic is paid for against the uniform law
            over the box, H(π) − X log 2 <= 0 nats, instead of absolutely. Where episodes end at a
            goal, positive entropies pay for staying away from it (Yu, Zhang & Xu 2022).
        diagnostics_interval: updates between two looks at the latents (latent/… in the log).
        matmul_precision: of the products of wide layers in updates: "float32", or "bf16", which
            rounds their factors to bfloat16 (`vaerl.agents.precision`). Weights, optimisers,
            densities and losses stay float32, and acting is left alone.
        compile: send the critics' regression through `torch.compile` at the first update, on a GPU
            as a CUDA graph; critics that are no plain ReLU networks run as they are. It and
            `matmul_precision` may be set later, too: from the next `train` on.
        others: as in SB3.

    Raises:
        ValueError: an action space that is no finite float Box, an unknown policy, gSDE, an option
            that is not legal.

    Logged beside SB3's: train/entropy_lower (−mean log π, a lower bound on the entropy of a latent
    density), latent/bound_gap (mean U_k − L_k, nats), latent/kl_layer_l (nats),
    latent/active_units_l, latent/ess_ratio.

    >>> model = SAC("cvae", "Pendulum-v1", buffer_size=10)
    >>> model.policy.actor.density.name
    'cvae'
    """

    _held: tuple[np.ndarray, ...] | None = None
    _starts: np.ndarray | None = None
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": SACPolicy,
        "CnnPolicy": SACPolicy,
        "MultiInputPolicy": SACPolicy,
    }

    @signature_of(SB3SAC)
    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *args: Any,
        policy_kwargs: dict[str, Any] | None = None,
        improvement: str = "reverse",
        improvement_kwargs: dict[str, Any] | None = None,
        relative_entropy: bool = False,
        diagnostics_interval: int = 1000,
        matmul_precision: str = "float32",
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        self.improvement = improvement
        self.improvement_kwargs = dict(improvement_kwargs or {})
        self._improvement = make_improvement(improvement, self.improvement_kwargs)
        self.relative_entropy = relative_entropy
        self.diagnostics_interval = check_positive("diagnostics_interval", diagnostics_interval)
        self.matmul_precision = matmul_precision
        self.compile = compile
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        kwargs["policy_kwargs"] = policy_kwargs
        super().__init__(policy, check_env(env), *args, **kwargs)  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        rows = self.batch_size
        check_positive("batch_size", int(rows) if isinstance(rows, np.integer) else rows)
        given = self.ent_coef
        self._annealed = annealing(given) if isinstance(given, str) else None
        if isinstance(self.target_entropy, str) and self.target_entropy != "auto":
            self.target_entropy = entropy_target(
                self.target_entropy, get_action_dim(self.action_space)
            )
        if self._annealed is not None:
            self.ent_coef = self._annealed.start
        super()._setup_model()
        self.ent_coef = given
        self._improvement = make_improvement(self.improvement, self.improvement_kwargs)
        if self._improvement.fits and not isinstance(self.actor, DensityActor):
            raise ValueError(
                f"improvement: got {self.improvement!r} with policy {type(self.policy).__name__}, "
                "expected 'reverse' or a policy over a density, which can be fitted"
            )
        if not isinstance(self.relative_entropy, bool | np.bool_):
            raise ValueError(
                f"relative_entropy: got {self.relative_entropy!r}, expected True or False"
            )

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._held, self._starts = None, None
        return super()._setup_learn(*args, **kwargs)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """As in SB3, with latent codes or noise that are held from step to step where asked for."""
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
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, *rest)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take `gradient_steps` updates of critics, actor, temperature and target critics."""
        options, watch = self._made_for
        if options != (self.matmul_precision, self.compile) or watch.changed:
            self._make_for_update()
        if not self.policy.training:
            self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)

        buffer = self.replay_buffer
        assert buffer is not None, "learn() or _setup_model() makes the buffer"
        totals: dict[str, Tensor] = {}
        for step in range(gradient_steps):
            batch = buffer.sample(batch_size, env=self._vec_normalize_env)
            with low_products(self._low_layers):
                info = self._update(batch)
            if step % self.target_update_interval == 0:
                self._move_target()
            for key, number in info.items():
                totals[key] = totals[key] + number if key in totals else number
        before = self._n_updates // self.diagnostics_interval
        self._n_updates += gradient_steps

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if totals:
            means = (
                torch.stack([t.reshape(()) for t in totals.values()]).div_(gradient_steps).tolist()
            )
            for key, mean in zip(totals, means, strict=True):
                self.logger.record(f"train/{key}", mean)
        if gradient_steps and self._n_updates // self.diagnostics_interval > before:
            self._log_latents(batch.observations)

    def _update(self, batch: Any) -> dict[str, Tensor]:
        """One update of temperature, critics and actor, in SB3's order."""
        obs, next_obs = batch.observations, batch.next_observations
        discount = self.gamma if batch.discounts is None else batch.discounts
        reverse = self._improvement.reverse(self._current_progress_remaining)
        forward = self._improvement.forward(self._current_progress_remaining)
        with torch.set_grad_enabled(reverse):
            actions, log_prob = self.actor.action_log_prob(obs)
        log_prob = log_prob.reshape(-1)
        alpha, info = self._temperature(log_prob)

        with torch.no_grad():
            next_actions, next_log_prob = self.actor.action_log_prob(next_obs)
            next_q = torch.stack(self.critic_target(next_obs, next_actions))
            above = next_log_prob.reshape(-1) + self._uniform_entropy
            target = soft_target(batch.rewards, batch.dones, discount, next_q, above, alpha)
        info["critic_loss"] = self._critics.regress(obs, batch.actions, target)
        self.critic.optimizer.step()

        losses: list[Tensor] = []
        if reverse:
            q, slope = self._critics.lowest(obs, actions)
            loss, more = actor_loss(q, slope, actions, log_prob, alpha)
            info |= more
            if self._improvement.fits:  # in nats, as the forward step is: log π − Q/α beside −log π
                loss = loss * (self._improvement.reverse_weight / alpha)
            losses.append(loss)
        if forward:
            loss, more = self._forward_loss(obs, alpha)
            info |= more
            losses.append(loss)
        self.actor.optimizer.zero_grad()
        torch.stack([loss.reshape(()) for loss in losses]).sum().backward()
        self.actor.optimizer.step()
        return info

    @property
    def _uniform_entropy(self) -> float:
        """Nats of the uniform law over the scaled box, where entropy is measured against it."""
        return get_action_dim(self.action_space) * math.log(2.0) if self.relative_entropy else 0.0

    def _forward_loss(self, obs: Any, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        actor = cast(DensityActor, self.actor)
        return self._improvement.forward_loss(
            actor.density,
            actor.context(obs),
            partial(self._critics.values, obs),
            alpha,
            actor.noise.generator(self.device),
        )

    def _temperature(self, log_prob: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """α before its own step, and that step where α is learned."""
        if self._annealed is not None:
            now = self._annealed(self._current_progress_remaining)
            self.ent_coef_tensor = torch.tensor(now, device=self.device)
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return self.ent_coef_tensor, {"ent_coef": self.ent_coef_tensor}
        alpha = torch.exp(self.log_ent_coef.detach())
        loss, info = temperature_loss(self.log_ent_coef, log_prob, float(self.target_entropy))
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        return alpha, {"ent_coef": alpha, **info}

    def _move_target(self) -> None:
        polyak_(*self._target_and_source, self.tau)
        polyak_(list(self.batch_norm_stats_target), list(self.batch_norm_stats), 1.0)

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self._make_for_update()

    def _make_for_update(self) -> None:
        """What updates work with, for the options and the critics as they are now."""
        check_choice("matmul_precision", self.matmul_precision, PRECISIONS)
        if not isinstance(self.compile, bool | np.bool_):
            raise ValueError(f"compile: got {self.compile!r}, expected True or False")
        self.compile = bool(self.compile)
        self._critics = make_critics(self.critic, self.matmul_precision, self.compile)
        self._low_layers = low_layers(self.policy, self.matmul_precision)
        self._target_and_source = (
            list(self.critic_target.parameters()),
            list(self.critic.parameters()),
        )
        options = (self.matmul_precision, self.compile)
        self._made_for = options, Watch(self.critic, self.critic_target)

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "_annealed",
            "_critics",
            "_held",
            "_improvement",
            "_low_layers",
            "_made_for",
            "_starts",
            "_target_and_source",
        ]
