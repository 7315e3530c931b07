"""Logarithms of Gaussian densities and of their tails, for `vaerl.envs.laws`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from vaerl.envs.base import Array

_LOG_2PI = math.log(2.0 * math.pi)


def log(value: Array) -> Array:
    """Logarithm with log 0 = −inf and no warning."""
    with np.errstate(divide="ignore"):
        return np.log(value)


def log_normal(z: Array) -> Array:
    """Return the log-density of the standard normal at z."""
    return -0.5 * (z * z + _LOG_2PI)


def log_mixture(points: ArrayLike, weights: Array, means: Array, stds: Array) -> Array:
    """Return log Σ_k w_k N(x; μ_k, diag σ_k²) for points (…, *batch, S)."""
    offset = np.asarray(points, dtype=np.float64)[..., None, :] - means
    terms = (log_normal(offset / stds) - np.log(stds)).sum(axis=-1)
    return np.logaddexp.reduce(log(weights) + terms, axis=-1)


def log_cdf_difference(upper: Array, lower: Array) -> Array:
    """Return log(Φ(upper) − Φ(lower)) for upper ≥ lower, exact in both tails."""
    flip = lower > 0.0
    high = log_ndtr(np.where(flip, -lower, upper))
    low = log_ndtr(np.where(flip, -upper, lower))
    return high + log(-np.expm1(np.minimum(low - high, 0.0)))
