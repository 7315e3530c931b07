"""Frozen codes: a latent-variable density turned into an exact finite mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaerl.densities.base import ConditionalValue, check_matrix
from vaerl.densities.chain import Generative, LatentChain, Path
from vaerl.densities.decoded import code_density, knows
from vaerl.densities.mixture import MixtureValue
from vaerl.densities.noise import Shape, standard_normal, uniform
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.densities.squash import SquashedValue
from vaerl.densities.whole import WholeMixture, WholeNormal, check_no_gradient

if TYPE_CHECKING:
    from vaerl.densities.cvae import CVAE


def decode_codes(
    chain: LatentChain, p: Generative, codes: Tensor, batch: tuple[int, ...]
) -> NormalMixture:
    """The equal-weight mixture of the decoder's normals at the K codes: parameters ``batch + (K,
    X)``."""
    law = _decode(chain, p, _place_all(chain, p, codes, batch))
    mean = law.mean.movedim(0, -2)
    log_weights = mean.new_full(mean.shape[:-1], -math.log(len(codes)))
    kind = WholeMixture if isinstance(law, WholeNormal) else NormalMixture
    return kind(log_weights, mean, law.log_sigma.expand_as(law.mean).movedim(0, -2))


def _place_all(chain: LatentChain, p: Generative, codes: Tensor, batch: tuple[int, ...]) -> Path:
    """The path of every code at every context, each layer ``(K,) + batch + (d_l,)``."""
    column = codes.reshape(len(codes), *(1,) * len(batch), codes.shape[-1])
    return _place(chain, p, column.expand(len(codes), *batch, codes.shape[-1]))


def _place(chain: LatentChain, p: Generative, codes: Tensor) -> Path:
    """The path that each code maps to at its own context, for codes ``(*sample, *batch, E)``."""
    dims = [layer.child_dim for layer in chain.recognition]
    return chain.place(p, codes[..., 0], codes[..., 1:].split(dims, dim=-1))


def _decode(chain: LatentChain, p: Generative, path: Path) -> DiagonalNormal:
    law = chain.decode(p, path)
    if not isinstance(law, DiagonalNormal):
        raise NotImplementedError(
            f"freeze and mode need a decoder of normals, this one gives a {type(law).__name__}"
        )
    return law


class FrozenValue(MixtureValue):
    """(1/K) Σ_k p(x | c, z_k(c)) at given contexts; what is not asked for is not worked out."""

    def __init__(self, density: CVAE, codes: Tensor, context: Tensor) -> None:
        ConditionalValue.__init__(self, context.shape[:-1], density.event_dim)
        self._chain, self._codes, self._context = density.chain, codes, context

    @cached_property
    def _p(self) -> Generative:
        return self._chain.generate(self._context)

    @cached_property
    def mixture(self) -> NormalMixture:  # type: ignore[override]
        """The mixture itself, parameters ``batch + (K, X)``."""
        return decode_codes(self._chain, self._p, self._codes, tuple(self.batch_shape))

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        """As from the mixture, with the same noise; only the codes drawn are decoded."""
        batch = (*sample_shape, *self.batch_shape)
        u = uniform(batch, self._codes, generator)
        log_weights = u.new_full((len(self._codes),), -math.log(len(self._codes)))
        drawn = torch.bucketize(u, torch.exp(log_weights).cumsum(0)[:-1], right=True)
        law = _decode(self._chain, self._p, _place(self._chain, self._p, self._codes[drawn]))
        if isinstance(law, WholeNormal):
            check_no_gradient(law.mean)
        return law.at(standard_normal((*batch, self.event_dim), u, generator))

    def log_prob(self, x: Tensor) -> Tensor:
        if x.ndim == self._context.ndim == 2 and knows(self._chain):
            return code_density(self._chain, self._codes, self._context, self._check_event(x))
        return super().log_prob(x)


@dataclass(frozen=True)
class FrozenDensity:
    """π_ε(x | c) = (1/K) Σ_k p(x | c, z_k(c)): exact, normalised, differentiable in decoder and
    prior.

    The codes ε_k are fixed; the latents z_k(c) follow the parameters. Shares the parameters of
    `density`.
    """

    density: CVAE
    codes: Tensor

    def __call__(self, context: Tensor) -> ConditionalValue:
        """The exact value at the given contexts."""
        value = FrozenValue(
            self.density, self.codes, check_matrix("context", context, self.density.context_dim)
        )
        return SquashedValue(value) if self.density.squash else value
