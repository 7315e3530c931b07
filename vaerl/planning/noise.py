"""Coloured noise: sequences whose power falls with frequency, so that actions hang together."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def coloured_noise(
    shape: tuple[int, ...],
    beta: float,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """N(0, 1) marginals with power ∝ f^(−β) along the second-last dimension, the time.

    β = 0 is white noise; higher β moves slower (Timmer & König 1995; Pinneri et al. 2020).

    >>> coloured_noise((3, 10, 2), 2.0).shape
    torch.Size([3, 10, 2])
    """
    white = torch.randn(shape, generator=generator, device=device)
    if beta == 0.0 or shape[-2] == 1:
        return white
    return (_mixing(shape[-2], float(beta)).to(white)) @ white


@functools.lru_cache(maxsize=64)
def _mixing(length: int, beta: float) -> Tensor:
    """The matrix ``(T, T)`` that colours white noise: rows of norm 1, the filter f^(−β/2).

    It is circulant, symmetric and depends on T and β alone.
    """
    frequency = torch.fft.rfftfreq(length, dtype=torch.float64)
    frequency[0] = 1.0 / length
    impulse = torch.fft.irfft(frequency ** (-beta / 2.0), n=length)
    impulse = impulse / impulse.norm()
    lag = torch.arange(length)
    return impulse[(lag[:, None] - lag[None, :]) % length]
