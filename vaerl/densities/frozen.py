"""Frozen codes: a latent-variable density turned into an exact finite mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from vaerl.densities.base import ConditionalValue, check_matrix
from vaerl.densities.chain import Generative, LatentChain
from vaerl.densities.mixture import MixtureValue
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.densities.squash import SquashedValue

if TYPE_CHECKING:
    from vaerl.densities.cvae import CVAE


def decode_codes(
    chain: LatentChain, p: Generative, codes: Tensor, batch: tuple[int, ...]
) -> NormalMixture:
    """The equal-weight mixture of the decoder's normals at the K codes: parameters ``batch + (K,
    X)``."""
    count = codes.shape[0]
    column = codes.reshape(count, *(1,) * len(batch), codes.shape[-1])
    dims = [layer.child_dim for layer in chain.recognition]
    u = column[..., 0].expand(count, *batch)
    noise = [
        part.expand(count, *batch, part.shape[-1]) for part in column[..., 1:].split(dims, dim=-1)
    ]
    law = chain.decode(p, chain.place(p, u, noise))
    if not isinstance(law, DiagonalNormal):
        raise NotImplementedError(
            f"freeze and mode need a decoder of normals, this one gives a {type(law).__name__}"
        )
    mean = law.mean.movedim(0, -2)
    log_weights = mean.new_full(mean.shape[:-1], -math.log(count))
    return NormalMixture(log_weights, mean, law.log_sigma.expand_as(law.mean).movedim(0, -2))


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
        context = check_matrix("context", context, self.density.context_dim)
        chain = self.density.chain
        batch = tuple(context.shape[:-1])
        value = MixtureValue(decode_codes(chain, chain.generate(context), self.codes, batch))
        return SquashedValue(value) if self.density.squash else value
