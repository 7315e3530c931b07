"""Checks of spaces: a finite float box of actions, and a suitable features extractor."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)

READABLE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Parts of an observation that SB3 turns into features."""
SMALLEST_IMAGE = 36
"""Smallest side length in pixels that NatureCNN's three convolutions can process."""


def check_action_space(space: spaces.Space) -> spaces.Box:
    """Return `space` if it is a finite float Box of positive width, else raise one line.

    A density lives on real numbers; an integer Box truncates stored actions, a zero-width one
    makes SB3's scaling divide by zero, and an unbounded one cannot be scaled at all.
    """
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"action_space: got {space}, expected a Box of floats: "
            "densities are over continuous actions"
        )
    if space.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"action_space: got a Box of {space.dtype}, expected float32 or float64: "
            "whole numbers would truncate stored actions, half precision would leave the box"
        )
    if space.shape == () or 0 in space.shape:
        raise ValueError(
            f"action_space: got a Box of shape {space.shape}, "
            "expected at least one dimension of size >= 1"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"action_space: got {space}, expected finite lower and upper bounds")
    with np.errstate(over="ignore"):
        width = space.high - space.low
    if not np.isfinite(width).all():
        raise ValueError(f"action_space: got {space}, expected a width high - low that is finite")
    if not (space.high > space.low).all():
        raise ValueError(f"action_space: got {space}, expected low < high in every dimension")
    return space


def check_observation_space(space: spaces.Space) -> spaces.Space:
    """Return `space` if SB3 can turn its observations into features, else raise one line."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    if not parts:
        raise ValueError("observation_space: got an empty Dict, expected at least one key")
    for key, part in parts.items():
        name = (
            f"observation_space[{key!r}]" if isinstance(space, spaces.Dict) else "observation_space"
        )
        if not isinstance(part, READABLE):
            raise ValueError(
                f"{name}: got {part}, expected a Box, Discrete, MultiDiscrete or MultiBinary, "
                "or one flat Dict of them"
            )
        if np.any(getattr(part, "start", 0)):
            raise ValueError(
                f"{name}: got {part}, expected values from 0: SB3 encodes them as one-hot"
            )
        if isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim != 1:
            raise ValueError(
                f"{name}: got a MultiDiscrete of shape {part.nvec.shape}, expected one dimension"
            )
        if isinstance(part, spaces.Box) and (part.shape == () or 0 in part.shape):
            raise ValueError(
                f"{name}: got a Box of shape {part.shape}, expected at least one dimension of "
                "size >= 1"
            )
    return space


def default_features_extractor(
    space: spaces.Space, normalize_images: bool = True
) -> type[BaseFeaturesExtractor]:
    """CombinedExtractor for Dict observations, NatureCNN for images, FlattenExtractor for the rest.

    >>> default_features_extractor(spaces.Box(-1.0, 1.0, (3,))).__name__
    'FlattenExtractor'
    """
    if isinstance(space, spaces.Dict):
        return CombinedExtractor
    if is_image_space(space, normalized_image=not normalize_images):
        sides = sorted(space.shape or ())[-2:]
        if min(sides) >= SMALLEST_IMAGE:
            return NatureCNN
    return FlattenExtractor
