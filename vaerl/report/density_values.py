"""Numbers for pictures of p(a | s): its values on a grid, and its samples.

Both are computed without gradients and from a random stream with seed 0. Drawing thus changes
nothing in training, and gives the same picture each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MAX_POINTS = 1_000_000  # points × states × auxiliary paths evaluated at once: bounds the memory


def how_drawn(value: Any, k: int = 64) -> str:
    """Describe the numbers in a panel of `value`, for its caption."""
    if value.event_shape[0] > 2:
        return "samples"
    codes = getattr(value, "codes", 0)
    if codes:
        return f"mean over {codes} codes"
    return "exact density" if is_exact(value) else f"lower bound, k = {k}"


def grid_density(value: Any, low: Array, high: Array, *, cells: int, k: int = 64) -> Array:
    """p(a | s), or its lower bound, at the centres of a grid over the box, in 1/volume.

    Cell centres never touch the edge of the box, where a squashed density may be infinite.
    Returns shape (S, cells) for D = 1 and, first action dimension first, (S, cells, cells) for 2.
    """
    dims = len(low)
    axes = [centres(low[d], high[d], cells) for d in range(dims)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dims)
    with _own_randomness():
        like = value.sample()
        rows = like.shape[0] if like.ndim == 2 else 1
        grid = torch.as_tensor(points, dtype=like.dtype, device=like.device)
        if like.ndim == 2:
            grid = grid[:, None, :].expand(-1, rows, -1)
        exact = is_exact(value)
        paths = getattr(value, "codes", 0) or (1 if exact else k)
        step = max(1, MAX_POINTS // (rows * paths))
        parts = [
            value.log_prob(chunk) if exact else value.log_prob_bounds(chunk, k=k).lower
            for chunk in grid.split(step)
        ]
        log_density = torch.cat(parts).double().cpu().numpy().reshape(len(points), rows)
    density = np.exp(np.nan_to_num(log_density, nan=-np.inf, neginf=-np.inf, posinf=700.0).T)
    return density.reshape(rows, *([cells] * dims))


def sample_rows(value: Any, samples: int) -> Array:
    """Draws from p(a | s), shape (S, samples, D), from a fixed random stream."""
    with _own_randomness():
        draws = value.sample((samples,)).double().cpu().numpy()
    return draws[None] if draws.ndim == 2 else np.moveaxis(draws, 0, 1)


def share_outside(value: Any, low: ArrayLike, high: ArrayLike, samples: int = 2000) -> float:
    """Share of draws, over all states, that fall outside the box [low, high].

    >>> from torch.distributions import Independent, Uniform
    >>> value = Independent(Uniform(torch.full((1, 1), -4.0), torch.full((1, 1), 4.0)), 1)
    >>> round(share_outside(value, -2.0, 2.0), 1)
    0.5
    """
    draws = sample_rows(value, samples)
    return float(((draws < np.asarray(low)) | (draws > np.asarray(high))).any(-1).mean())


def is_exact(value: Any) -> bool:
    """Whether `log_prob` of a value is exact; torch's own distributions are."""
    return bool(getattr(value, "exact", True))


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Sample from a stream with seed 0, restore the global one after; no gradients."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(0)
        yield


def centres(low: float, high: float, cells: int) -> Array:
    """Centres of equal cells between `low` and `high`, ``(cells,)``."""
    return low + (high - low) * (np.arange(cells) + 0.5) / cells
