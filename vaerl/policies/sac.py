"""The off-policy policy over any density, for SB3's SAC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import SACPolicy as SB3SACPolicy
from torch import nn

from vaerl.densities.options import check_flag, check_positive
from vaerl.policies.critic_net import CriticNet, critic_parts
from vaerl.policies.fourier import FourierCritic, check_waves
from vaerl.policies.off_policy import OffPolicyDensity
from vaerl.policies.running import Normalizing, check_gathered

_OWN_UPDATE = {
    "bins": "regresses the mean of a distribution",
    "unit_weights": "does not scale weights after its steps",
    "unit_norms": "does not scale weights after its steps",
}
"""Parts of a critic that the agent's update has to know, and what others do instead."""


class SACPolicy(Normalizing, OffPolicyDensity, SB3SACPolicy):  # type: ignore[misc]
    """SB3's SAC policy with a density for an actor; works in unmodified `stable_baselines3.SAC`.

    One class serves vectors, images and Dict observations: the features extractor follows the
    space. Adam runs fused unless `optimizer_kwargs` says otherwise: the same update in one pass.

    Args:
        density, density_kwargs: name and options of the density; see `vaerl.policies.head`.
        num_auxiliary: fresh latent paths k of the upper bound on log π.
        num_candidates: candidates of a deterministic action.
        latent_hold: steps through which one draw of a CVAE's latent codes is kept when acting, or
            "episode": the policy commits to a mode for that long; or "zeta": for a number of steps
            drawn from a zeta law up to 16, anew each time. `predict` carries the codes in
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
        critic, critic_options: a critic by name ("sac", "crossq", "xqc", "flash", "simba") and the
            parts exchanged in it; see `vaerl.policies.critic_net`. Those that normalise by batches
            need `vaerl.agents.SAC` or `MBPO`, which gather their statistics.
        normalize_observations: normalise observations by their running mean and deviation, in
            actor and critics alike; these agents gather them.
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
        critic: str = "sac",
        critic_options: Mapping[str, Any] | None = None,
        normalize_observations: bool = False,
    ) -> None:
        self._waves = check_waves(critic_frequencies, critic_bandwidth)
        self.critic_parts = critic_parts(critic, critic_options)
        if self.critic_parts.shares_pass:
            legal = "'sac' or 'simba' without batches, or vaerl.agents.SAC"
            if critic_parts(critic).shares_pass:
                check_gathered("critic", critic, legal)
            check_gathered("critic_options", critic_options, legal)
        for name, lacks in _OWN_UPDATE.items():
            if value := getattr(self.critic_parts, name):
                check_gathered(
                    f"critic_options[{name!r}]", value, "none, or vaerl.agents.SAC", lacks
                )
        if check_flag("normalize_observations", normalize_observations):
            check_gathered("normalize_observations", True, "False, or vaerl.agents.SAC")
        self.normalizes = normalize_observations
        self._critic_kind = {
            "critic": critic,
            "critic_options": dict(critic_options or {}),
            "normalize_observations": normalize_observations,
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            use_sde=use_sde,
            log_std_init=log_std_init,
            use_expln=use_expln,
            clip_mean=clip_mean,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            n_critics=check_positive("n_critics", n_critics),
            share_features_extractor=share_features_extractor,
            density=density,
            density_kwargs=density_kwargs,
            num_auxiliary=num_auxiliary,
            num_candidates=num_candidates,
            latent_hold=latent_hold,
            noise_hold=noise_hold,
        )

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """SB3's critics, over waves of the action if requested, or those of other parts."""
        waves = {key.removeprefix("critic_"): value for key, value in self._waves.items()}
        if self.critic_parts.plain and not waves["frequencies"]:
            return super().make_critic(features_extractor)
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor) | waves
        if self.critic_parts.plain:
            return FourierCritic(**kwargs).to(self.device)
        return CriticNet(**kwargs, parts=self.critic_parts).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if not self.critic_parts.target:
            self.critic_target = self.critic

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._waves | self._critic_kind
