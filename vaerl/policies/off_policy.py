"""What every off-policy policy over a density has: the actor, its options, and how it acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from vaerl.densities import ConditionalValue
from vaerl.densities.noise import Noise
from vaerl.policies.actor import REFUSE_SDE, DensityActor
from vaerl.policies.density_policy import DensityPolicy, Rhythm
from vaerl.policies.head import check_density_kwargs
from vaerl.policies.hold import renew
from vaerl.policies.spaces import (
    check_action_space,
    check_observation_space,
    default_features_extractor,
)


def switch(module: nn.Module, mode: bool) -> None:
    """`module.train(mode)` in a tenth of the time: attributes of modules are slow to set."""
    if type(module).train is not nn.Module.train:
        module.train(mode)  # its own
        return
    vars(module)["training"] = mode
    for child in module._modules.values():
        if child is not None:
            switch(child, mode)


class OffPolicyDensity(DensityPolicy, BasePolicy):
    """Mixed in before an off-policy policy of SB3 or sb3-contrib, whose actor it replaces.

    Args:
        density, density_kwargs, num_auxiliary, num_candidates, latent_hold, noise_hold: as in
            `vaerl.policies.SACPolicy`.
        others: as in that policy; `use_sde=True` is refused.
    """

    actor: DensityActor
    net_args: dict[str, Any]
    share_features_extractor: bool
    actor_class: ClassVar[type[DensityActor]] = DensityActor
    adam: ClassVar[Mapping[str, Any]] = {"fused": True}
    """Arguments of Adam where none are given."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        use_sde: bool = False,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        num_auxiliary: int = 4,
        num_candidates: int = 32,
        latent_hold: int | str = 1,
        noise_hold: int | str = 1,
        **others: Any,
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
        if optimizer_kwargs is None:
            optimizer_kwargs = dict(self.adam) if optimizer_class is torch.optim.Adam else {}
        super().__init__(
            check_observation_space(observation_space),
            check_action_space(action_space),
            lr_schedule,
            use_sde=False,
            features_extractor_class=features_extractor_class
            or default_features_extractor(observation_space, normalize_images),
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=dict(optimizer_kwargs),
            **others,
        )

    @property
    def head(self) -> DensityActor:
        """The actor."""
        return self.actor

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> DensityActor:
        """The actor with the whole density inside, so that its optimizer owns all of it."""
        kwargs = self._update_features_extractor(self._actor_arguments(), features_extractor)
        return self.actor_class(**kwargs, **self._head).to(self.device)

    def _actor_arguments(self) -> dict[str, Any]:
        """Those that the actor shares with the critics."""
        return self.net_args

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return (
            super()._get_constructor_parameters()
            | self._head
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
        shape, own = self.observation_space.shape, type(self)._predict is OffPolicyDensity._predict
        if own and shape and isinstance(observation, np.ndarray):
            single = observation.shape == shape
            if single or observation.shape[1:] == shape:
                scaled = self.actor.act(observation[None] if single else observation, deterministic)
                if scaled is not None:
                    return self._in_box(scaled, single), state
        return super().predict(observation, state, episode_start, deterministic)

    @property
    def rhythm(self) -> Rhythm:
        """One action a decision; latent codes or all noise may be held."""
        holds = self.actor.holds
        if holds.steps == 1:
            return Rhythm()
        return Rhythm(
            held=self.actor.density.code_dim if holds.noise == 1 else None, hold=holds.steps
        )

    def decision(self, obs: PyTorchObs, noise: Noise, deterministic: bool = False) -> Tensor:
        scaled = self.actor.decision(obs, noise, deterministic)
        low, high = (
            torch.as_tensor(bound.ravel()).to(scaled)
            for bound in (self.action_space.low, self.action_space.high)
        )
        actions = low + 0.5 * (scaled + 1.0) * (high - low)
        return actions.reshape(-1, 1, *self.action_space.shape)

    def set_training_mode(self, mode: bool) -> None:
        """As in SB3, which does it twice a step: actor and critic, but no target."""
        parts: tuple[Any, ...] = (self.actor, self.critic)
        for part in parts:
            switch(part, mode)
        self.training = mode

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.actor(observation, deterministic)

    def _predict_held(
        self, observation: Any, state: tuple[np.ndarray, ...] | None, start: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """A draw with the codes or noise in `state`, renewed where their hold time is over."""
        self.set_training_mode(False)
        obs, batched = self.obs_to_tensor(observation)
        count = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        actor = self.actor
        held = renew(
            actor.fresh_codes(count), actor.holds.steps, state, start, actor.fresh_ages(count)
        )
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
