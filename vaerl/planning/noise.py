"""Coloured noise: sequences whose power falls with frequency, so that successive actions are
correlated."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def coloured_noise(white: Tensor, beta: float) -> Tensor:
    """White noise N(0, 1) filtered to power ∝ f^(−β) along the second-last dimension, the time.

    The marginals stay N(0, 1). β = 0 leaves the noise white; with a higher β it moves more slowly
    (Timmer & König 1995; Pinneri et al. 2020).

    >>> coloured_noise(torch.randn(3, 10, 2), 2.0).shape
    torch.Size([3, 10, 2])
    """
    if beta == 0.0 or white.shape[-2] == 1:
        return white
    return _mixing(white.shape[-2], float(beta)).to(white) @ white


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
