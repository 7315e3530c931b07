"""Observations of any space as rows of numbers, for policies that standardise them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


def flatten_rows(observations: Any, batched: bool = True) -> np.ndarray:
    """Observations as rows of numbers ``(N, D)``; a dict's parts in the order of their keys."""
    if isinstance(observations, dict):
        parts = [flatten_rows(observations[key], batched) for key in sorted(observations)]
        return np.concatenate(parts, axis=1)
    array = np.asarray(observations, np.float32)
    return array.reshape(len(array) if batched else 1, -1)


def inputs_of(observations: Any, space: spaces.Space, history: int) -> Tensor:
    """The inputs ``(B, H · D)`` of a decision, of observations ``(B, H, …)`` in the same order."""
    parts = [(observations, space)]
    if isinstance(observations, dict):
        assert isinstance(space, spaces.Dict), space
        parts = [(observations[key], space[key]) for key in sorted(observations)]
    rows = [
        torch.as_tensor(x).float().reshape(-1, history, math.prod(part.shape or ()))
        for x, part in parts
    ]
    return torch.cat(rows, dim=-1).flatten(1)
