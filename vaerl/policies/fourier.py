"""Critics that see the action through waves, so that they can tell narrow modes apart.

A network over plain coordinates learns low frequencies first and sharp ones hardly at all: on the
bandit with 40 modes a ReLU critic of two layers of 128 still misses by nats where one over

    [sin(W a), cos(W a), a],   W ~ N(0, bandwidth²) fixed,

is within a tenth after the same updates (Tancik et al. 2020; for values Yang et al. 2022).
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor

from vaerl.densities.options import check_above_zero, check_positive


def check_waves(critic_frequencies: int, critic_bandwidth: float) -> dict[str, Any]:
    """Both settings by name; an illegal one raises one line. 0 frequencies disable the waves."""
    check_positive("critic_frequencies", critic_frequencies, at_least=0)
    check_above_zero("critic_bandwidth", critic_bandwidth)
    return {"critic_frequencies": critic_frequencies, "critic_bandwidth": critic_bandwidth}


def draw_waves(size: int, frequencies: int, bandwidth: float) -> Tensor:
    """W ``(size, frequencies)``, the same for every seed and target."""
    generator = torch.Generator().manual_seed(0)
    return bandwidth * torch.randn((size, frequencies), generator=generator)


def action_waves(actions: Tensor, waves: Tensor) -> Tensor:
    """[sin(aW), cos(aW), a], ``(..., 2F + X)``."""
    if not waves.numel():
        return actions
    phase = actions @ waves
    return torch.cat((torch.sin(phase), torch.cos(phase), actions), dim=-1)


class FourierCritic(ContinuousCritic):
    """SB3's critics with waves of the action beside the action.

    Args:
        frequencies: number F of rows of W, each giving a sine and a cosine.
        bandwidth: standard deviation of W's entries, in radians per unit of a scaled action (whose
            box is ±1): features narrower than about 1/bandwidth stay hard to learn.
        others: as in SB3.
    """

    waves: Tensor

    def __init__(
        self,
        *args: Any,
        features_dim: int,
        frequencies: int = 64,
        bandwidth: float = 8.0,
        **kwargs: Any,
    ) -> None:
        check_waves(check_positive("critic_frequencies", frequencies), bandwidth)
        kwargs["features_dim"] = features_dim + 2 * frequencies
        super().__init__(*args, **kwargs)
        size = get_action_dim(self.action_space)
        self.register_buffer("waves", draw_waves(size, frequencies, bandwidth))

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """As in SB3: the values ``(B, 1)`` of every critic."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)
        inputs = torch.cat((features, action_waves(actions, self.waves)), dim=1)
        return tuple(network(inputs) for network in self.q_networks)

    def q1_forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """As in SB3: the value of the first critic."""
        with torch.no_grad():
            features = self.extract_features(obs, self.features_extractor)
        return self.q_networks[0](torch.cat((features, action_waves(actions, self.waves)), dim=1))
