"""The on-policy actor-critic over any density, for SB3's PPO and A2C."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy as SB3ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity, ConditionalValue, density_options
from vaerl.densities.noise import Noise
from vaerl.densities.options import MOST, check_flag, check_positive
from vaerl.finite import check_actions
from vaerl.policies.actor import REFUSE_SDE
from vaerl.policies.codes import RolloutCodes
from vaerl.policies.density_policy import DensityPolicy
from vaerl.policies.distribution import DensityDistribution
from vaerl.policies.fast import Fast, Trunks
from vaerl.policies.head import check_density_kwargs, make_head, prepare_mode
from vaerl.policies.noise import NoiseSource
from vaerl.policies.running import Normalizing, check_gathered
from vaerl.policies.spaces import (
    check_action_space,
    check_observation_space,
    default_features_extractor,
)

STEADY_RANGE = (-2.0, 1.0)
"""Of log σ, in units of the box, for a latent density under RMSprop."""
STEADY_EPS = 0.02
"""Added to RMSprop's root for the networks that act, with gradients clipped to norms of 0.5."""


class ActorCriticPolicy(Normalizing, DensityPolicy, SB3ActorCriticPolicy):
    """SB3's actor-critic policy with a density for an action head; works in unmodified PPO and A2C.

    A latent density acts through K frozen codes, redrawn at the first rollout after an update, so
    its log-density is exact for the policy that acted and the first ratio of an update is 1.
    Deterministic prediction takes the best of n candidates of the density itself and does not
    depend on the codes.

    The density is over actions scaled to the box ±1, so that initialisation and learning do not
    depend on the box; for a box of ±1 that is SB3's own scale. SB3 sees actions and log π in the
    environment's units, or scaled actions where the policy squashes.

    Args:
        squash_output: actions in (−1, 1), scaled to the box by SB3; else unbounded and clipped to
            it.
        log_std_init: log σ of a Gaussian or CVAE head at the start, in units of the box.
        density, density_kwargs: name and options of the density; see `vaerl.policies.head`.
        num_codes: frozen codes K of a latent density.
        num_candidates: candidates n of a deterministic action.
        entropy_samples: fresh samples of the entropy where it has no closed form.
        normalize_observations: normalise observations by their running mean and deviation, in
            actor and value alike; PPO and A2C of `vaerl.agents` gather them.
        others: as in SB3; `use_sde=True` is refused, and the options of gSDE are ignored.

    Raises:
        ValueError: a discrete, integer, unbounded or zero-width action space; `use_sde=True`;
            unknown options.

    >>> from stable_baselines3 import PPO
    >>> model = PPO(ActorCriticPolicy, "Pendulum-v1", policy_kwargs={"density": "mixture"})
    >>> type(model.policy.density).__name__
    'Mixture'
    """

    made_for = OnPolicyAlgorithm
    refused: ClassVar[Mapping[str, str]] = {
        "TRPO": "an analytic KL divergence, which densities do not offer; use PPO with target_kl",
        "RecurrentPPO": "a recurrent policy; use PPO",
    }
    action_space: spaces.Box
    latent_temperature: float = 1.0
    """Of the codes that act."""
    box_middle: Tensor
    box_half: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        ortho_init: bool = True,
        use_sde: bool = False,
        log_std_init: float = 0.0,
        full_std: bool = True,
        use_expln: bool = False,
        squash_output: bool = False,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        share_features_extractor: bool = True,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        num_codes: int = 32,
        num_candidates: int = 32,
        entropy_samples: int = 4,
        normalize_observations: bool = False,
    ) -> None:
        if check_flag("normalize_observations", normalize_observations):
            check_gathered("normalize_observations", True, "False, or PPO or A2C of vaerl.agents")
        self.normalizes = normalize_observations
        if use_sde:
            raise ValueError(REFUSE_SDE)
        check_action_space(action_space)
        self.density_name, self.density_kwargs = density, check_density_kwargs(density_kwargs)
        self.num_codes = check_positive("num_codes", num_codes, at_most=MOST)
        self.num_candidates = check_positive("num_candidates", num_candidates, at_most=MOST)
        self.entropy_samples = check_positive("entropy_samples", entropy_samples, at_most=MOST)
        self.full_std, self.use_expln = full_std, use_expln
        self.entropy_wanted = True  # an agent without entropy bonus skips these samples
        self._fast = Fast()
        self._wants_squash = bool(squash_output)
        if optimizer_kwargs is None:
            adam = optimizer_class is torch.optim.Adam
            optimizer_kwargs = {"eps": 1e-5, "fused": True} if adam else {}
        super().__init__(
            check_observation_space(observation_space),
            action_space,
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            ortho_init=ortho_init,
            use_sde=False,
            log_std_init=log_std_init,
            full_std=full_std,
            use_expln=use_expln,
            squash_output=False,
            features_extractor_class=features_extractor_class
            or default_features_extractor(observation_space, normalize_images),
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            share_features_extractor=share_features_extractor,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=dict(optimizer_kwargs),
        )
        self._squash_output = self._wants_squash  # SB3 has set it to False: with gSDE only

    def _build(self, lr_schedule: Schedule) -> None:
        """Trunk, density, codes, value head; last the optimizer, not of the recognition network."""
        self._build_mlp_extractor()
        del self.action_dist  # SB3's Gaussian gives way to the density
        low, high = self.action_space.low.ravel(), self.action_space.high.ravel()
        if self._wants_squash:  # SB3 does the scaling
            low, high = np.full_like(low, -1.0), np.full_like(high, 1.0)
        for name, number in (("box_middle", low / 2 + high / 2), ("box_half", high / 2 - low / 2)):
            self.register_buffer(name, torch.as_tensor(number, dtype=torch.float32), False)
        self.density: ConditionalDensity = make_head(
            self.density_name,
            {**self._steady_range(), **self.density_kwargs},
            "on",
            context_dim=self.mlp_extractor.latent_dim_pi,
            event_dim=get_action_dim(self.action_space),
            squash=self._wants_squash,
            log_sigma=self.log_std_init,
        )
        prepare_mode(self.density, self.num_candidates)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        if self.ortho_init:
            self._init_orthogonally()
        self.noise = NoiseSource(space=self.action_space)
        self._build_codes_and_optimizer(lr_schedule)

    def _build_codes_and_optimizer(self, lr_schedule: Schedule) -> None:
        self.codes = (
            RolloutCodes(self.density, self.num_codes, self.noise, self.latent_temperature)
            if self.density.code_dim
            else None
        )
        apart = {id(parameter) for parameter in self.recognition_parameters()}
        groups = [{"params": [p for p in self.parameters() if id(p) not in apart]}]
        if self._steady_range():
            acting = {id(p) for net in self._acting_networks() for p in net.parameters()}
            own = [p for p in groups[0]["params"] if id(p) in acting]
            groups[0]["params"] = [p for p in groups[0]["params"] if id(p) not in acting]
            groups.append({"params": own, "eps": STEADY_EPS})  # type: ignore[dict-item]
        self.optimizer = self.optimizer_class(
            groups,
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _steady_range(self) -> dict[str, tuple[float, float]]:
        """Range of log σ of a latent density under RMSprop, A2C's optimizer; {} otherwise.

        RMSprop begins with steps of ten learning rates for every weight, however small its
        gradient. In a decoder these add up within a few updates: σ falls to its floor far from all
        actions, the gradients grow by orders of magnitude, and since A2C clips all gradients
        together, the critic stops learning. So σ has a higher floor, and steps of the networks that
        act follow gradients below `STEADY_EPS`.
        """
        rms = issubclass(self.optimizer_class, torch.optim.RMSprop)
        latent = "latent_dims" in density_options(self.density_name)
        if not (rms and latent):
            return {}
        low, high = STEADY_RANGE
        return {
            "log_sigma_bounds": (min(low, self.log_std_init - 1), max(high, self.log_std_init + 1))
        }

    def _acting_networks(self) -> list[nn.Module]:
        trunk = getattr(self.mlp_extractor, "policy_net", None)
        return [self.density, *([] if trunk is None else [trunk])]

    def _init_orthogonally(self) -> None:
        """SB3's gains for trunk, value head and a Gaussian's mean; other layers keep their own.

        A gain of 0.01 on a decoder's output would suppress the effect of the latents.
        """
        extractors = {self.pi_features_extractor, self.vf_features_extractor}
        for module in (*extractors, self.mlp_extractor):
            module.apply(partial(self.init_weights, gain=np.sqrt(2)))
        self.value_net.apply(partial(self.init_weights, gain=1))
        if self.density.mean_layer is not None:
            self.density.mean_layer.apply(partial(self.init_weights, gain=0.01))

    def recognition_parameters(self) -> list[nn.Parameter]:
        """Parameters of the recognition network: the policy gradient does not reach them."""
        return self.density.recognition_parameters()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "squash_output": self.squash_output,
            "full_std": self.full_std,
            "use_expln": self.use_expln,
            "share_features_extractor": self.share_features_extractor,
            "density": self.density_name,
            "density_kwargs": self.density_kwargs,
            "num_codes": self.num_codes,
            "num_candidates": self.num_candidates,
            "entropy_samples": self.entropy_samples,
            "normalize_observations": self.normalizes,
        }

    def set_training_mode(self, mode: bool) -> None:
        """Set the mode; SB3 trains only in its updates, after which the codes are renewed."""
        super().set_training_mode(mode)
        if mode and self.codes is not None:
            self.codes.mark_used()

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log π of one rollout step; the first after updates draws new codes.

        Only rollouts call this, so codes change once a rollout and predictions leave them alone.
        """
        graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if not self.training and self.codes is not None and not graph:
            self.codes.refresh(self.density, self.noise)
        step = None if deterministic or self._fast.native is None else self._fast.native(obs)
        if step is not None:
            actions, values, log_prob = step
            check_actions(actions.numpy())
            return actions.reshape(-1, *self.action_space.shape), values, log_prob
        with torch.inference_mode(not torch.is_grad_enabled()):
            fast = self._fast_step(obs)
            if fast is not None:
                distribution, values = fast
                actions = distribution.get_actions(deterministic)
                log_prob = distribution.log_prob(actions)
                check_actions(actions.cpu().numpy())
                return actions.reshape(-1, *self.action_space.shape), values, log_prob
        return super().forward(obs, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        fast = self._fast_step(observation)
        if fast is None:
            return super()._predict(observation, deterministic)
        return fast[0].get_actions(deterministic)

    def _fast_step(self, obs: PyTorchObs) -> tuple[DensityDistribution, Tensor] | None:
        """Distribution and values without gradients, up to rounding; None without a fast form."""
        if torch.is_grad_enabled() or torch.jit.is_tracing():
            return None
        fast = self._fast(self, self.density, self._trunks)
        if fast is None:
            return None
        context, values = fast(cast(Tensor, obs).float())
        if not math.isfinite(context.sum()):
            return None  # the modules raise their own error
        codes = None if self.codes is None else self.codes.codes
        density = fast.density
        return self._distribution(
            density.value(context, codes), lambda: density.mode(context, self.num_candidates)
        ), values

    def _trunks(self) -> Trunks | None:
        """Networks of the density's context and of the value over flat observations, if any."""
        nets = self.mlp_extractor
        extractors = (self.pi_features_extractor, self.vf_features_extractor)
        plain = type(self) is ActorCriticPolicy and type(nets) is MlpExtractor
        if not plain:
            return None
        value = nn.Sequential(*nets.value_net, self.value_net)
        return Trunks.of(self, extractors, [nets.policy_net, value])

    def context(self, obs: PyTorchObs) -> Tensor:
        """The context of the density ``(B, C)``."""
        features = super(SB3ActorCriticPolicy, self).extract_features(
            obs, self.pi_features_extractor
        )
        return self.mlp_extractor.forward_actor(features)

    def action_density(self, obs: PyTorchObs) -> ConditionalValue:
        """The density itself at a batch of observations, in units of the box, before codes."""
        return self.density(self.context(obs))

    def decision(self, obs: PyTorchObs, noise: Noise, deterministic: bool = False) -> Tensor:
        distribution = self._get_action_dist_from_latent(self.context(obs))
        distribution.generator = lambda: noise
        actions = distribution.get_actions(deterministic)
        low, high = (
            torch.as_tensor(bound.ravel()).to(actions)
            for bound in (self.action_space.low, self.action_space.high)
        )
        if self.squash_output:
            actions = low + 0.5 * (actions + 1.0) * (high - low)
        return actions.clamp(low, high).reshape(-1, 1, *self.action_space.shape)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> DensityDistribution:
        act = self.density if self.codes is None else self.density.freeze(self.codes.codes)
        return self._distribution(
            act(latent_pi), lambda: self.density(latent_pi).mode(self.num_candidates)
        )

    def _distribution(
        self, value: ConditionalValue, mode: Callable[[], Tensor]
    ) -> DensityDistribution:
        return DensityDistribution(
            value,
            mode,
            lambda: self.noise.generator(self.box_half.device),
            self._entropy_noise,
            self.entropy_samples if self.entropy_wanted else 0,
            self.box_middle,
            self.box_half,
        )

    def _entropy_noise(self) -> torch.Generator:
        """Fresh noise at each estimate of an update, whose gradient averages over it; else the
        same, so that two calls agree."""
        source = self.noise.generator if self.training else self.noise.repeated
        return source(self.box_half.device)

    def reset_noise(self, n_envs: int = 1) -> None:
        """Refused: gSDE only."""
        raise NotImplementedError(REFUSE_SDE)
