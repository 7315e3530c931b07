"""Inputs as a cloned policy sees them: standardised by data, and through waves of several lengths.

Without the waves a network cannot resolve small distances (Tancik et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor


def wave_matrix(size: int, places: Sequence[int], lengths: Sequence[float]) -> Tensor:
    """Angles of the waves a unit of each input: ``(size, places · lengths)``."""
    waves = torch.zeros(size, len(places) * len(lengths))
    for column, (place, length) in enumerate((p, l) for p in places for l in lengths):
        waves[place, column] = 2.0 * math.pi / length
    return waves


def with_waves(x: Tensor, matrix: Tensor) -> Tensor:
    """x, sin(x W), cos(x W) side by side."""
    phase = x @ matrix
    return torch.cat((x, torch.sin(phase), torch.cos(phase)), dim=-1)


class StandardFeatures(BaseFeaturesExtractor):
    """A features extractor for SB3's policies: flat observations, standardised, with waves.

    Args:
        mean, scale: of each input.
        wavelengths, wave_inputs: as in `ChunkPolicy`.
    """

    mean: Tensor
    scale: Tensor
    waves: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        mean: Sequence[float],
        scale: Sequence[float],
        wavelengths: Sequence[float],
        wave_inputs: Sequence[int] | None = None,
    ) -> None:
        places = range(len(mean)) if wave_inputs is None else wave_inputs
        waves = wave_matrix(len(mean), places, wavelengths)
        super().__init__(observation_space, len(mean) + 2 * waves.shape[1])
        self.register_buffer("mean", torch.tensor(mean), False)
        self.register_buffer("scale", torch.tensor(scale), False)
        self.register_buffer("waves", waves, False)

    def forward(self, observations: Tensor) -> Tensor:
        """Features ``(B, F)``."""
        return with_waves((observations.flatten(1) - self.mean) / self.scale, self.waves)
