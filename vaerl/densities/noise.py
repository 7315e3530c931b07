"""Noise: the only place where densities draw random numbers, so that a generator can be passed
through."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Shape = torch.Size | list[int] | tuple[int, ...]
"""What torch takes as a sample shape."""


class RowGenerators:
    """One generator for each row of a draw: row i gets the numbers that generator ``rows[i]`` alone
    would have given it.

    >>> one, two = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    >>> draws = standard_normal((3, 2), torch.zeros(1), RowGenerators([one, two], [1, 0, 1]))
    >>> torch.equal(draws[0], standard_normal((3, 2), torch.zeros(1), two.manual_seed(2))[0])
    True
    """

    def __init__(self, generators: Sequence[torch.Generator], rows: Sequence[int]) -> None:
        self.generators, self.rows = generators, torch.as_tensor(rows)

    def draw(self, sampler: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Draws ``(rows, …)`` by `sampler`, torch.randn or torch.rand."""
        assert shape[0] == len(self.rows), (shape, self.rows)
        options = {"dtype": like.dtype, "device": like.device}
        draws = torch.stack([sampler(shape, generator=g, **options) for g in self.generators])
        return draws[self.rows, torch.arange(len(self.rows))]


Noise = torch.Generator | RowGenerators | None
"""The source of random numbers of a draw: a generator, one for each row, or torch's global one."""


def check_generator(argument: str, value: torch.Generator | None) -> torch.Generator | None:
    """A generator or None, or raise one line."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"{argument}: got {value!r:.60}, expected a torch.Generator or None")
    return value


def standard_normal(shape: tuple[int, ...], like: Tensor, generator: Noise = None) -> Tensor:
    """N(0, 1) draws of the given shape, with the dtype and device of `like`."""
    return _draw(torch.randn, shape, like, generator)


def uniform(shape: tuple[int, ...], like: Tensor, generator: Noise = None) -> Tensor:
    """U[0, 1) draws of the given shape, with the dtype and device of `like`."""
    return _draw(torch.rand, shape, like, generator)


def exponential(shape: tuple[int, ...], like: Tensor, generator: Noise = None) -> Tensor:
    """Exp(1) draws of the given shape, with the dtype and device of `like`.

    The index of the largest w_m / e_m has probabilities in proportion to the weights w, as torch's
    `multinomial` draws it.
    """
    return _draw(_rand_exponential, shape, like, generator)


def _rand_exponential(
    shape: tuple[int, ...], *, generator: torch.Generator | None = None, **options: Any
) -> Tensor:
    return torch.empty(shape, **options).exponential_(generator=generator)


def _draw(
    sampler: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, generator: Noise
) -> Tensor:
    if isinstance(generator, RowGenerators):
        return generator.draw(sampler, shape, like)
    return sampler(shape, dtype=like.dtype, device=like.device, generator=generator)


def code_noise(shape: tuple[int, ...], size: int, like: Tensor, generator: Noise = None) -> Tensor:
    """Independent draws ``(*shape, 1 + size)``: a U[0, 1) column, then N(0, 1) columns.

    A latent code is such a row: the first number picks a component of a mixture, the others a
    point in it. `sobol_codes` gives rows that cover the space more evenly.
    """
    u = uniform((*shape, 1), like, generator)
    return torch.cat((u, standard_normal((*shape, size), like, generator)), dim=-1)


def sobol_codes(count: int, normal_dims: int, seed: int) -> Tensor:
    """Scrambled Sobol codes ``(count, 1 + normal_dims)``: a uniform column, then N(0, 1) columns.

    Every row is marginally U[0, 1) × N(0, I) over the scrambling, and the rows spread better than
    independent draws (Owen 1998). Uses its own generator: torch's global stream is not touched.
    """
    return _sobol(count, 1 + normal_dims, seed).to(torch.get_default_dtype(), copy=True)


@functools.cache
def candidate_codes(count: int, normal_dims: int) -> Tensor:
    """The codes of seed 0, among which a mode is chosen; not to be changed.

    They are kept, so that a policy that has once chosen a mode is traced and exported with them as
    constants.
    """
    return sobol_codes(count, normal_dims, seed=0)


@functools.lru_cache(maxsize=64)
def _sobol(count: int, dims: int, seed: int) -> Tensor:
    engine = torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed)
    points = engine.draw(count, dtype=torch.float64)
    eps = 0.5 / max(count, 2) ** 2
    points[:, 1:] = torch.special.ndtri(points[:, 1:].clamp(eps, 1.0 - eps))
    return points
