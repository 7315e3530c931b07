"""The actor of SAC over any density."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from vaerl.densities import ConditionalValue
from vaerl.densities.codes import draw_held_codes
from vaerl.densities.noise import Noise
from vaerl.densities.options import MOST, check_positive
from vaerl.policies.fast import Fast, Trunks
from vaerl.policies.head import check_density_kwargs, make_head, prepare_mode
from vaerl.policies.hold import WINDOWS, ZETA, Held, check_holds
from vaerl.policies.noise import NoiseSource
from vaerl.policies.spaces import check_action_space

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
        self.num_auxiliary = check_positive("num_auxiliary", num_auxiliary, 0, MOST)
        self.num_candidates = check_positive("num_candidates", num_candidates, at_most=MOST)
        self.latent_pi = nn.Sequential(*create_mlp(features_dim, -1, net_arch, activation_fn))
        self.density = make_head(
            density,
            self.density_kwargs,
            "off",
            context_dim=net_arch[-1] if net_arch else features_dim,
            event_dim=get_action_dim(action_space),
            squash=True,
        )
        prepare_mode(self.density, self.num_candidates)
        self.holds = check_holds(latent_hold, noise_hold, self.density)
        self.noise = NoiseSource(space=action_space)
        self._fast = Fast()

    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray | None:
        """Actions in [−1, 1] ``(B, X)`` for observations ``(B, S)``, by the fast form
        (`FastPolicy`).

        They equal those of `forward` up to rounding; None if there is no fast form.
        """
        if self._fast.native is not None and not deterministic:
            drawn = self._fast.native(obs)
            if drawn is not None:
                return drawn
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

    def _trunks(self) -> Trunks | None:
        plain = type(self) is DensityActor
        return Trunks.of(self, [self.features_extractor], [self.latent_pi]) if plain else None

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

    def decision(self, obs: PyTorchObs, noise: Noise, deterministic: bool = False) -> Tensor:
        """Actions ``(B, X)`` in [−1, 1] by this noise: codes first, if they can be held."""
        if self.holds.latent == 1 or deterministic:
            value = self.action_density(obs)
        else:
            context = self.context(obs)
            codes = draw_held_codes(self.density, (context.shape[0],), noise)
            value = self.density.value_given_codes(context, codes)
        return value.mode(self.num_candidates) if deterministic else value.rsample((), noise)

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

    def fresh_ages(self, count: int) -> np.ndarray:
        """Ages ``(count,)`` at which they begin; "zeta" draws them."""
        seed = self.noise.next_seed() if self.holds.steps == ZETA else 0
        return self.holds.fresh_ages(count, seed)

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
