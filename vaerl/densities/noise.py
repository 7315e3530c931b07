"""Noise: the only place where densities draw random numbers, so that a generator can be passed
through."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

Shape = torch.Size | list[int] | tuple[int, ...]
"""What torch takes as a sample shape."""


def standard_normal(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """N(0, 1) draws of the given shape, with the dtype and device of `like`."""
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


def uniform(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """U[0, 1) draws of the given shape, with the dtype and device of `like`."""
    return torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)


def sobol_codes(count: int, normal_dims: int, seed: int) -> Tensor:
    """Scrambled Sobol codes ``(count, 1 + normal_dims)``: a uniform column, then N(0, 1) columns.

    Every row is marginally U[0, 1) × N(0, I) over the scrambling, and the rows spread better than
    independent draws (Owen 1998). Uses its own generator: torch's global stream is not touched.
    """
    points = _sobol(count, 1 + normal_dims, seed).clone()
    eps = 0.5 / max(count, 2) ** 2
    points[:, 1:] = torch.special.ndtri(points[:, 1:].clamp(eps, 1.0 - eps))
    return points.to(torch.get_default_dtype())


@functools.lru_cache(maxsize=64)
def _sobol(count: int, dims: int, seed: int) -> Tensor:
    engine = torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed)
    return engine.draw(count, dtype=torch.float64)
