"""The off-policy actor over any density, for SB3's SAC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import SACPolicy as SB3SACPolicy
from torch import Tensor, nn

from vaerl.densities import ConditionalValue
from vaerl.densities.codes import draw_held_codes
from vaerl.densities.options import check_positive
from vaerl.policies.density_policy import DensityPolicy
from vaerl.policies.fast import Fast, sees_flat_floats
from vaerl.policies.fourier import FourierCritic, check_waves
from vaerl.policies.head import check_density_kwargs, make_head
from vaerl.policies.hold import WINDOWS, Held, check_holds, renew
from vaerl.policies.noise import NoiseSource
from vaerl.policies.spaces import (
    check_action_space,
    check_observation_space,
    default_features_extractor,
)

REFUSE_SDE = (
    "use_sde: got True, expected False: gSDE replaces the noise of a Gaussian head, "
    "a density draws its own"
)


class DensityActor(BasePolicy):
    """π(a | s): features → trunk → density over (−1, 1)^X, with its own noise stream.

    Args:
        net_arch: widths of the trunk, whose output is the density's context.
        density, density_kwargs: name and options of the density (`vaerl.densities`).
        num_auxiliary: fresh latent paths k in the upper bound U_k on log π; unused by exact
            densities.
        num_candidates: candidates n of a deterministic action, the best by density.
        latent_hold, noise_hold: see `SACPolicy`.
    """

    action_space: spaces.Box

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        num_auxiliary: int = 4,
        num_candidates: int = 32,
        latent_hold: int | str = 1,
        noise_hold: int | str = 1,
    ) -> None:
        super().__init__(
            observation_space,
            check_action_space(action_space),
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.net_arch, self.features_dim = net_arch, features_dim
        self.activation_fn = activation_fn
        self.density_name, self.density_kwargs = density, check_density_kwargs(density_kwargs)
        self.num_auxiliary = check_positive("num_auxiliary", num_auxiliary, at_least=0)
        self.num_candidates = check_positive("num_candidates", num_candidates)
        self.latent_pi = nn.Sequential(*create_mlp(features_dim, -1, net_arch, activation_fn))
        self.density = make_head(
            density,
            self.density_kwargs,
            "off",
            context_dim=net_arch[-1] if net_arch else features_dim,
            event_dim=get_action_dim(action_space),
            squash=True,
        )
        self.holds = check_holds(latent_hold, noise_hold, self.density)
        self.noise = NoiseSource(space=action_space)
        self._fast = Fast()

    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray | None:
        """Actions in [−1, 1] ``(B, X)`` for observations ``(B, S)``, by the fast form
        (`FastPolicy`).

        They equal those of `forward` up to rounding; None if there is no fast form.
        """
        fast, calls = self._fast(self, self.density, self._trunks), self.noise.calls
        seen = None if fast is None else fast.rows(obs)
        if fast is None or seen is None:
            return None
        with torch.inference_mode():
            (context,) = fast(seen)
            if deterministic:
                found = fast.density.mode(context, self.num_candidates)
            else:
                found = fast.density(context, self.noise.generator(fast.device))
            actions = found.cpu().numpy()
        if math.isfinite(actions.sum()):
            return actions
        self.noise.calls = calls  # the modules raise their own error
        return None

    def _trunks(self) -> list[nn.Module] | None:
        plain = type(self) is DensityActor and sees_flat_floats(self, self.features_extractor)
        return [self.latent_pi] if plain else None

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "net_arch": self.net_arch,
            "features_extractor": self.features_extractor,
            "features_dim": self.features_dim,
            "activation_fn": self.activation_fn,
            "density": self.density_name,
            "density_kwargs": self.density_kwargs,
            "num_auxiliary": self.num_auxiliary,
            "num_candidates": self.num_candidates,
            "latent_hold": self.holds.latent,
            "noise_hold": self.holds.noise,
        }

    def context(self, obs: PyTorchObs) -> Tensor:
        """The context of the density ``(B, C)``."""
        return self.latent_pi(self.extract_features(obs, self.features_extractor))

    def action_density(self, obs: PyTorchObs) -> ConditionalValue:
        """π(a | s) over scaled actions in (−1, 1)^X at a batch of observations."""
        return self.density(self.context(obs))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Actions ``(B, X)`` in [−1, 1]: a sample, or the best of `num_candidates` by density."""
        value = self.action_density(obs)
        if deterministic:
            return value.mode(self.num_candidates)
        return value.rsample(generator=self.noise.generator(self.device))

    def act_held(self, obs: PyTorchObs, held: Held) -> Tensor:
        """A draw ``(B, X)`` from π(a | s, ε) with the held codes ε, or with the held noise."""
        if self.holds.latent == 1:
            windows = torch.as_tensor(held.codes[:, 0])
            noise = self.noise.in_windows(windows, self.device)
            return self.action_density(obs).rsample(generator=noise)
        codes = torch.as_tensor(held.codes, device=self.device)
        value = self.density.value_given_codes(self.context(obs), codes)
        return value.rsample(generator=self.noise.generator(self.device))

    def fresh_codes(self, count: int) -> np.ndarray:
        """Latent codes ``(count, code_dim)`` to hold, or one new window of the noise for all."""
        if self.holds.latent == 1:
            return np.full((count, 1), self.noise.next_seed() % WINDOWS, np.float32)
        generator = self.noise.generator(self.device)
        return draw_held_codes(self.density, (count,), generator).cpu().numpy()

    def action_log_prob(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """Reparameterised actions ``(B, X)`` and log π ``(B,)``: exact, or the upper bound U_k.

        With the upper bound in actor, target and temperature, a loose bound costs the actor
        instead of paying it.
        """
        return self.action_density(obs).rsample_and_log_prob(
            self.num_auxiliary, generator=self.noise.generator(self.device)
        )

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self(observation, deterministic)

    def get_action_dist_params(self, obs: PyTorchObs) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Refused: a density has no mean and log std to hand out."""
        raise NotImplementedError(
            "get_action_dist_params: a density is not a mean and a log std; use action_density(obs)"
        )

    def get_std(self) -> Tensor:
        """Refused: gSDE only."""
        raise NotImplementedError(REFUSE_SDE)

    def reset_noise(self, batch_size: int = 1) -> None:
        """Refused: gSDE only."""
        raise NotImplementedError(REFUSE_SDE)


class SACPolicy(DensityPolicy, SB3SACPolicy):
    """SB3's SAC policy with a density for an actor; works in unmodified `stable_baselines3.SAC`.

    One class serves vectors, images and Dict observations: the features extractor follows the
    space. Adam runs fused unless `optimizer_kwargs` says otherwise: the same update in one pass.

    Args:
        density, density_kwargs: name and options of the density; see `vaerl.policies.head`.
        num_auxiliary: fresh latent paths k of the upper bound on log π.
        num_candidates: candidates of a deterministic action.
        latent_hold: steps through which one draw of a CVAE's latent codes is kept when acting, or
            "episode": the policy commits to a mode for that long. `predict` carries the codes in
            its state, as a recurrent policy does, and `vaerl.agents.SAC` keeps them while it
            collects (unmodified SB3 passes no state there, so it redraws at each step). Given the
            codes log π(a | s, ε) is exact (`vaerl.densities.codes`); updates use the marginal π(a |
            s), from which each action still comes when the codes are averaged over. Deterministic
            actions hold nothing.
        noise_hold: the same for all the noise of a draw, with any density: the policy pushes one
            way for that long, as with pink noise or gSDE, which finds rare rewards and goals that
            independent steps miss. Each action still comes from π(a | s).
        critic_frequencies, critic_bandwidth: waves of the action that the critics see beside it, 0
            for none, and their bandwidth; narrow modes need them (`vaerl.policies.fourier`).
        others: as in SB3; `use_sde=True` is refused, and the options of gSDE are ignored.

    Raises:
        ValueError: a discrete, integer, unbounded or zero-width action space; `use_sde=True`;
            unknown options.

    >>> from stable_baselines3 import SAC
    >>> model = SAC(SACPolicy, "Pendulum-v1", policy_kwargs={"density": "cvae"}, buffer_size=10)
    >>> model.actor.density.name
    'cvae'
    """

    made_for = SAC
    actor: DensityActor  # type: ignore[assignment]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        use_sde: bool = False,
        log_std_init: float = -3,
        use_expln: bool = False,
        clip_mean: float = 2.0,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
        share_features_extractor: bool = False,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        num_auxiliary: int = 4,
        num_candidates: int = 32,
        latent_hold: int | str = 1,
        noise_hold: int | str = 1,
        critic_frequencies: int = 0,
        critic_bandwidth: float = 8.0,
    ) -> None:
        if use_sde:
            raise ValueError(REFUSE_SDE)
        self._head: dict[str, Any] = {
            "density": density,
            "density_kwargs": check_density_kwargs(density_kwargs),
            "num_auxiliary": num_auxiliary,
            "num_candidates": num_candidates,
            "latent_hold": latent_hold,
            "noise_hold": noise_hold,
        }
        self._waves = check_waves(critic_frequencies, critic_bandwidth)
        if optimizer_kwargs is None:
            optimizer_kwargs = {"fused": True} if optimizer_class is torch.optim.Adam else {}
        super().__init__(
            check_observation_space(observation_space),
            check_action_space(action_space),
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            use_sde=False,
            log_std_init=log_std_init,
            use_expln=use_expln,
            clip_mean=clip_mean,
            features_extractor_class=features_extractor_class
            or default_features_extractor(observation_space, normalize_images),
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=dict(optimizer_kwargs),
            n_critics=n_critics,
            share_features_extractor=share_features_extractor,
        )

    @property
    def head(self) -> DensityActor:
        """The actor."""
        return self.actor

    def make_actor(  # type: ignore[override]
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> DensityActor:
        """The actor with the whole density inside, so that its optimizer owns all of it."""
        kwargs = self._update_features_extractor(self.net_args, features_extractor)
        return DensityActor(**kwargs, **self._head).to(self.device)

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> ContinuousCritic:
        """SB3's critics, over waves of the action if requested."""
        count = self._waves["critic_frequencies"]
        if not count:
            return super().make_critic(features_extractor)
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        bandwidth = self._waves["critic_bandwidth"]
        return FourierCritic(**kwargs, frequencies=count, bandwidth=bandwidth).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return (
            super()._get_constructor_parameters()
            | self._head
            | self._waves
            | {"share_features_extractor": self.share_features_extractor}
        )

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3, but faster where the networks are plain (`DensityActor.act`).

        With `codes`, see `predict_given_codes`.
        """
        if codes is not None:
            return self.predict_given_codes(observation, codes, deterministic), state
        if self.actor.holds.steps != 1 and not deterministic:
            return self._predict_held(observation, state, episode_start)
        shape, own = self.observation_space.shape, type(self)._predict is SB3SACPolicy._predict
        if own and shape and isinstance(observation, np.ndarray):
            single = observation.shape == shape
            if single or observation.shape[1:] == shape:
                scaled = self.actor.act(observation[None] if single else observation, deterministic)
                if scaled is not None:
                    return self._in_box(scaled, single), state
        return super().predict(observation, state, episode_start, deterministic)

    def _predict_held(
        self, observation: Any, state: tuple[np.ndarray, ...] | None, start: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """A draw with the codes or noise in `state`, renewed where their hold time is over."""
        self.set_training_mode(False)
        obs, batched = self.obs_to_tensor(observation)
        count = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        held = renew(self.actor.fresh_codes(count), self.actor.holds.steps, state, start)
        with torch.no_grad():
            scaled = self.actor.act_held(obs, held).cpu().numpy()
        return self._in_box(scaled, not batched), held.older()

    def _in_box(self, scaled: np.ndarray, single: bool) -> np.ndarray:
        """Actions in the units of the box, from those in [−1, 1]."""
        actions = self.unscale_action(scaled.reshape(-1, *self.actor.action_space.shape))
        return actions[0] if single else actions

    def action_density(self, obs: PyTorchObs) -> ConditionalValue:
        """π(a | s) over scaled actions in (−1, 1)^X at a batch of observations."""
        return self.actor.action_density(obs)

    def reset_noise(self, batch_size: int = 1) -> None:
        """Refused: gSDE only."""
        raise NotImplementedError(REFUSE_SDE)
