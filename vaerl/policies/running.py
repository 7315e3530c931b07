"""Observations normalised by their running mean and deviation, inside the policy."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from vaerl.policies.builder import building_agent

CLIP, EPS = 10.0, 1e-8
"""As in SB3's VecNormalize."""


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen so far, in float64 (Chan et al. 1979).

    >>> moments = RunningMoments((1,))
    >>> moments.update(np.array([[1.0], [3.0]]))
    >>> moments.running_mean, moments.running_var
    (tensor([2.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """

    count: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("running_mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(shape, dtype=torch.float64))

    def update(self, rows: np.ndarray) -> None:
        """Take in rows ``(B, *shape)``."""
        seen = torch.as_tensor(rows, dtype=torch.float64, device=self.count.device)
        total = self.count + len(seen)
        share = len(seen) / total
        apart = seen.mean(0) - self.running_mean
        inner = (1.0 - share) * self.running_var + share * seen.var(0, correction=0)
        self.running_var.copy_(inner + share * (1.0 - share) * apart.square())
        self.running_mean.add_(share * apart)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        """(x − mean) / deviation within ±`CLIP`, in the type of x."""
        scale = (self.running_var + EPS).rsqrt().to(x.dtype)
        return ((x - self.running_mean.to(x.dtype)) * scale).clamp(-CLIP, CLIP)


class ObservationNormalizer(nn.Module):
    """Running moments of every part of an observation that is a box and no image."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        if isinstance(space, spaces.Dict):
            for key, part in space.spaces.items():
                if _numbers(part):
                    self.parts[key] = RunningMoments(part.shape or ())
        elif _numbers(space):
            self.parts[_WHOLE] = RunningMoments(space.shape or ())

    @property
    def whole(self) -> RunningMoments | None:
        """Those of an observation that is one box."""
        return cast(RunningMoments | None, dict(self.parts.items()).get(_WHOLE))

    def update(self, obs: Any) -> None:
        """Take in a batch of numpy observations."""
        for key, moments in self.parts.items():
            moments.update(obs if key == _WHOLE else obs[key])  # type: ignore[operator]

    def forward(self, obs: PyTorchObs) -> PyTorchObs:
        """Preprocessed observations, normalised."""
        if isinstance(obs, dict):
            return {k: self.parts[k](v) if k in self.parts else v for k, v in obs.items()}
        return self.parts[_WHOLE](obs) if _WHOLE in self.parts else obs


class NormalizedFeatures(BaseFeaturesExtractor):
    """A features extractor behind a normaliser, which actor and critics share."""

    def __init__(self, normalizer: ObservationNormalizer, inner: BaseFeaturesExtractor) -> None:
        super().__init__(inner._observation_space, inner.features_dim)
        self.normalizer, self.inner = normalizer, inner

    def forward(self, observations: PyTorchObs) -> Tensor:
        """Features ``(B, F)``."""
        return self.inner(self.normalizer(observations))


class Normalizing(BasePolicy):
    """Mixin of policies: one normaliser in front of all features extractors, if requested.

    Set `normalizes` before the policy builds them.
    """

    normalizes: bool
    normalizer: ObservationNormalizer
    """What normalises observations; missing where nothing does."""

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """As in SB3, behind the normaliser if requested."""
        made = super().make_features_extractor()
        if not self.normalizes:
            return made
        if not hasattr(self, "normalizer"):
            self.normalizer = ObservationNormalizer(self.observation_space)
        return NormalizedFeatures(self.normalizer, made)


def check_gathered(
    argument: str, value: Any, legal: str, lacks: str = "gathers no running statistics"
) -> None:
    """Raise one line if an agent of another library builds the policy: it lacks what this needs."""
    agent = building_agent()
    if agent is not None and not getattr(agent, "gathers_statistics", False):
        raise ValueError(
            f"{argument}: got {value!r} in {type(agent).__name__} of "
            f"{type(agent).__module__.partition('.')[0]}, which {lacks}; expected {legal}"
        )


_WHOLE = "whole observation"


def _numbers(space: spaces.Space) -> bool:
    """Whether a space is a box of numbers, not of pixels."""
    return isinstance(space, spaces.Box) and not is_image_space(space)
