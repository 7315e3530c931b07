"""Soft actor-critic (Haarnoja et al. 2018) over any density: SB3's algorithm, its own losses.

    vaerl.agents.SAC("cvae", env).learn(50_000)

log π is whatever the density gives: exact, or the upper bound U_k of a latent density, whose
negative is a lower bound on the entropy. The same side stands in actor, target and temperature. It
is minimised over policy and recognition network together, which also tightens the bound.

B transitions, N critics, X action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_parameters_by_name
from torch import Tensor

from vaerl.agents.checked import check_env
from vaerl.agents.collecting import Collects
from vaerl.agents.common import (
    DensityAgent,
    Improver,
    check_clone,
    for_policy,
    resolve_policy,
    signature_of,
)
from vaerl.agents.critics import Critics, Transition, polyak_
from vaerl.agents.demonstrated import demonstration_buffer, fit_to_clone, half_and_half
from vaerl.agents.improvement import make_improvement
from vaerl.agents.temperature import Tempered
from vaerl.data import Demonstrations, load_demonstrations
from vaerl.densities.options import check_choice, check_flag, check_positive
from vaerl.finite import check_loss
from vaerl.native.library import PRECISIONS
from vaerl.native.sac import NativeSAC
from vaerl.policies import SACPolicy
from vaerl.policies.actor import DensityActor
from vaerl.policies.critic_heads import Backup
from vaerl.policies.standard import StandardFeatures

Info = dict[str, Tensor]


def actor_loss(
    q: Tensor, slope: Tensor, actions: Tensor, log_prob: Tensor, alpha: Tensor
) -> tuple[Tensor, Info]:
    """mean_B (α log π(a | s) − min_i Q_i(s, a)) at own actions.

    Q enters as its value and slope at those actions, so its gradient is what autograd would find.

    Args:
        q: min_i Q_i(s, a) ``(B,)``; slope: its derivative in a ``(B, X)``; both without gradient.
        actions: a ~ π(s) ``(B, X)``, reparameterised; log_prob: ``(B,)``, in nats.
        alpha: temperature, 0-d or ``(1,)``.
    """
    assert q.shape == log_prob.shape == actions.shape[:1], (q.shape, log_prob.shape, actions.shape)
    value = q + (slope * (actions - actions.detach())).sum(-1)
    loss = (alpha * log_prob - value).mean()
    return loss, {"actor_loss": loss.detach(), "entropy_lower": -log_prob.detach().mean()}


class SAC(Improver, DensityAgent, Collects, Tempered, SB3SAC):
    """`stable_baselines3.SAC` over a density.

    Args:
        policy: a density's name ("cvae", "gaussian", "mixture", "flow"), an alias of SB3 or a
            policy class.
        improvement: how the actor follows the critic: "reverse" as SAC does, "forward" or "both",
            see `vaerl.agents.improvement`.
        improvement_kwargs: settings of that step, fields of `Improvement`.
        ent_coef: as in SB3, or "anneal_START_END[_FRACTION[_BEGIN]]" (`Annealed`).
        learning_rate: as in SB3, or "lin_START_END" or "cos_START_END" (`vaerl.agents.schedules`).
        target_entropy: as in SB3, or "modes_M" or "-C|A|/D" (`entropy_target`).
        critic, critic_options: a critic by name ("sac", "crossq", "xqc", "flash", "simba") and the
            parts exchanged in it, such as ``{"norm": "layer"}``; see
            `vaerl.policies.critic_net`. None: as `policy_kwargs` says, or "sac".
        normalize_observations: normalise observations by their running mean and deviation, inside
            the policy. None: as `policy_kwargs` says, or not.
        scale_rewards: divide rewards by the running deviation of the discounted return, when they
            are used, so that old ones follow the scale of today, and keep them within ±10
            (`ReturnScale`); α then counts in these units.
        policy_delay: updates of the critics for one of actor and temperature.
        native: use the native update where it is built and covers the agent (`vaerl.native`).
        matmul_precision: "float32", or "bf16" for products in bfloat16, in less time, on a
            processor with AVX512-BF16: in the native update, with sums in float32, and where
            critics made of parts go through torch, in their wide layers, whose outputs are rounded
            too. Elsewhere it has no effect, and the log says so. Weights and optimisers stay
            float32.
        relative_entropy: measure the entropy that the critic is paid for against the uniform law
            over the box, H(π) − X log 2 <= 0 nats, instead of absolutely. Where episodes end at a
            goal, positive entropies pay for staying away from it (Yu, Zhang & Xu 2022).
        diagnostics_interval: updates between two measurements of the latents (latent/… in the log).
        data: demonstrations with rewards, which make half of every batch; see
            `vaerl.agents.demonstrated`. They are not part of what is saved.
        others: as in SB3.

    Raises:
        ValueError: an action space that is not a finite float Box, an unknown policy, gSDE, an
            option that is not legal.

    Logged beside SB3's: train/entropy_lower (−mean log π, a lower bound on the entropy of a latent
    density), latent/bound_gap (mean U_k − L_k, nats), latent/kl_layer_l (nats),
    latent/active_units_l, latent/ess_ratio.

    >>> model = SAC("cvae", "Pendulum-v1", buffer_size=10)
    >>> model.policy.actor.density.name
    'cvae'
    """

    takes_data = True
    _data: Demonstrations | None = None
    debug_options: ClassVar[Mapping[str, Any]] = {
        "learning_starts": 40,
        "batch_size": 16,
        "buffer_size": 1000,
    }
    env_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vaerl/Bandit40": {"learning_starts": 1000, "gamma": 0.0, "ent_coef": 1.0},
        "vaerl/InverseKinematics": {"learning_starts": 1000, "gamma": 0.0, "ent_coef": 1.0},
        "vaerl/": {"learning_starts": 1000},
    }
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
        data: Any = None,
        critic: str | None = None,
        critic_options: dict[str, Any] | None = None,
        normalize_observations: bool | None = None,
        scale_rewards: bool = False,
        policy_delay: int = 1,
        native: bool = True,
        matmul_precision: str = "float32",
        **kwargs: Any,
    ) -> None:
        self._data = None if data is None else load_demonstrations(data)
        self.improvement = improvement
        self.improvement_kwargs = dict(improvement_kwargs or {})
        self._improvement = make_improvement(improvement, self.improvement_kwargs)
        self.relative_entropy = relative_entropy
        self.diagnostics_interval, self.policy_delay = diagnostics_interval, policy_delay
        self.scale_rewards, self.native = scale_rewards, native
        self.matmul_precision = matmul_precision
        policy, policy_kwargs = resolve_policy(policy, policy_kwargs, self.policy_aliases)
        kwargs["policy_kwargs"] = for_policy(
            policy,
            policy_kwargs,
            critic=critic,
            critic_options=critic_options,
            normalize_observations=normalize_observations,
        )
        self._check_options()
        super().__init__(policy, check_env(env), *args, **kwargs)

    def _check_options(self) -> None:
        """Of the constructor, and of `load`, which sets attributes."""
        for name in ("diagnostics_interval", "policy_delay"):
            setattr(self, name, check_positive(name, _plain(getattr(self, name))))
        check_flag("native", self.native)
        check_choice("matmul_precision", self.matmul_precision, PRECISIONS)

    def _setup_model(self) -> None:
        self._check_options()
        check_positive("batch_size", _plain(self.batch_size))
        super()._setup_model()
        self._shown = None if self._data is None else demonstration_buffer(self._data, self)
        self._improvement = make_improvement(self.improvement, self.improvement_kwargs)
        if self._improvement.fits and not isinstance(self.actor, DensityActor):
            raise ValueError(
                f"improvement: got {self.improvement!r} with policy {type(self.policy).__name__}, "
                "expected 'reverse' or a policy over a density, which can be fitted"
            )

    @classmethod
    def load(cls, path: Any, *args: Any, **options: Any) -> Any:
        """As in SB3; a temperature that is learned goes on from where it was."""
        if isinstance(wanted := options.get("ent_coef"), str):
            saved = (load_from_zip_file(path)[0] or {}).get("ent_coef")
            if wanted != saved:
                raise ValueError(
                    f"ent_coef: got {wanted!r} for a saved agent, expected none: it was made with "
                    f"{saved!r}, and a learned temperature goes on from where it was"
                )
        return super().load(path, *args, **options)

    @classmethod
    def clone_options(cls, clone: Any) -> dict[str, Any]:
        """The clone's density, widths and inputs, as features of actor and critics."""
        policy = check_clone(clone)
        if policy.chunk * policy.history != 1:
            raise ValueError(
                f"clone: got chunk {policy.chunk} and history {policy.history}, expected 1 and 1: "
                "SAC decides on single steps"
            )
        features = {
            "mean": policy.obs_mean.tolist(),
            "scale": policy.obs_scale.tolist(),
            "wavelengths": policy.options["wavelengths"],
            "wave_inputs": policy.options["wave_inputs"],
        }
        kwargs = {
            "net_arch": policy.options["net_arch"],
            "features_extractor_class": StandardFeatures,
            "features_extractor_kwargs": features,
        }
        return {"policy": policy.options["density"], "policy_kwargs": kwargs}

    def take_over(self, clone: Any) -> None:
        """Fit the actor to draws of the clone at the observations of the demonstrations."""
        check_clone(clone)
        if self._data is None:
            raise ValueError(
                "data: got None, expected demonstrations: the actor is fitted to the clone there"
            )
        fit_to_clone(cast(DensityActor, self.actor), clone, self._data)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._setup_learn(*args, **kwargs)
        if self._n_updates:  # the native update acts as if it had never stopped
            self._native.prepare(self, self.batch_size, self._beyond())
        return found

    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        with self._native.acting(self.actor):
            return super()._sample_action(*args, **kwargs)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take `gradient_steps` updates of critics, actor, temperature and target critics."""
        if not self.policy.training:
            self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)

        buffer = self.replay_buffer
        assert buffer is not None, "learn() or _setup_model() makes the buffer"
        found: dict[str, list[Tensor]] = {}
        for step in range(gradient_steps):
            if self._shown is None:
                batch = buffer.sample(batch_size, env=self._vec_normalize_env)
            else:
                batch = half_and_half(buffer, self._shown, batch_size, self._vec_normalize_env)
            follow = (self._n_updates + step + 1) % self.policy_delay == 0
            info = self._update(batch, follow)
            if step % self.target_update_interval == 0:
                self._move_target()
            for key, number in info.items():
                found.setdefault(key, []).append(number.reshape(()))
        before = self._n_updates // self.diagnostics_interval
        self._n_updates += gradient_steps

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for key, numbers in found.items():
            self.logger.record(f"train/{key}", torch.stack(numbers).mean().item())
        if gradient_steps and self._n_updates // self.diagnostics_interval > before:
            self._log_latents(batch.observations)

    def _update(self, batch: Any, follow: bool = True, weights: Tensor | None = None) -> Info:
        """One update in SB3's order: temperature, critics, actor; the critics alone if the others
        do not `follow`. `weights` ``(B, 1)`` are factors on the critics' losses."""
        if self.return_scale is not None:
            batch = batch._replace(rewards=self.return_scale(batch.rewards))
        done = self._native(self, batch, follow, weights, self._beyond())
        if done is not None:
            return done
        obs, next_obs = batch.observations, batch.next_observations
        remaining = self._current_progress_remaining
        reverse = follow and self._improvement.reverse(remaining)
        forward = follow and self._improvement.forward(remaining)
        alpha = self._alpha()
        info: Info = {}
        if self.use_sde:  # its weights may have moved
            self.actor.reset_noise()
        if follow:
            with torch.set_grad_enabled(reverse):
                actions, log_prob = self.actor.action_log_prob(obs)
            log_prob = log_prob.reshape(-1)
            info |= self._move_temperature(log_prob)

        with torch.no_grad():
            next_actions, next_log_prob = self.actor.action_log_prob(next_obs)
            cost = alpha * (next_log_prob.reshape(-1, 1) + self._uniform_entropy)
        discount = self.gamma if batch.discounts is None else batch.discounts
        backup = Backup(batch.rewards, batch.dones, discount, cost, weights)
        step = Transition(obs, batch.actions, next_obs, next_actions, backup)
        loss = check_loss("critic_loss", self._critics.regress(step))
        info |= {"ent_coef": alpha, "critic_loss": loss}
        self.critic.optimizer.step()
        self._critics.settle()

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
        if losses:
            self.actor.optimizer.zero_grad()
            total = torch.stack([loss.reshape(()) for loss in losses]).sum()
            check_loss("actor_loss", total).backward()
            self.actor.optimizer.step()
        return info

    def _beyond(self) -> str:
        """What the native update does not know."""
        beyond = [f"improvement={self.improvement!r}"] if self._improvement.fits else []
        beyond += ["native=False"] if not self.native else []
        return ", ".join(beyond)

    def _forward_loss(self, obs: Any, alpha: Tensor) -> tuple[Tensor, Info]:
        actor = cast(DensityActor, self.actor)
        return self._improvement.forward_loss(
            actor.density,
            actor.context(obs),
            partial(self._critics.values, obs),
            alpha,
            actor.noise.generator(self.device),
        )

    def _move_target(self) -> None:
        if self.critic_target is self.critic:
            return
        if not self._native.move_target(self.tau):
            polyak_(self.critic_target.parameters(), self.critic.parameters(), self.tau)
        polyak_(self.batch_norm_stats_target, self.batch_norm_stats, 1.0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy: pickle keeps no shared memory, so its parts are looked up again."""
        self.__dict__.update(state)
        self._create_aliases()
        self.batch_norm_stats = get_parameters_by_name(self.critic, ["running_"])
        self.batch_norm_stats_target = get_parameters_by_name(self.critic_target, ["running_"])

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self._critics = Critics(self.critic, self.critic_target, self.matmul_precision)
        self._native = NativeSAC()

    def _after_learning(self) -> None:
        self._native.release()

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "_critics",
            "_data",
            "_held",
            "_improvement",
            "_native",
            "_shown",
            "_starts",
        ]


def _plain(number: Any) -> Any:
    """A whole number of NumPy as one of Python."""
    return int(number) if isinstance(number, np.integer) else number
