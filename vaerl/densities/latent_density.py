"""What all densities with latents share: values, fixed codes, and the start as a policy's head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.base import ConditionalDensity, Folded, Standardise, check_matrix
from vaerl.densities.chain import LatentChain
from vaerl.densities.latent import FrozenValue, LatentValue
from vaerl.densities.noise import sobol_codes
from vaerl.densities.normal import GaussianValue
from vaerl.densities.options import check_positive

DECODER_SHARE = 1.0
"""Nats by which a fresh decoder's log σ lies below that of the whole head of a policy."""


class LatentDensity(ConditionalDensity):
    """p(x | c) = ∫ p(x | z, c) p(z | c) dz over the layers of a `LatentChain`.

    How it is fitted is up to the subclass, which sets the attributes below.
    """

    sample_mean_kind = "latent"
    chain: LatentChain
    latent_dims: tuple[int, ...]
    """Sizes of the stochastic layers, that next to x first."""
    defensive: float
    """Share of the prior in the proposal of the bounds."""

    def _value(self, context: Tensor) -> LatentValue:
        return LatentValue(self.chain, context, self.latent_dims, self.event_dim, self.defensive)

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        return self.chain.fold(inputs, targets)

    # -- latent codes ------------------------------------------------------------------------------

    @property
    def code_dim(self) -> int:
        """Size of one code: a uniform number for the prior's component, then the noise of every
        layer."""
        return 1 + sum(self.latent_dims)

    def draw_codes(self, count: int, seed: int) -> Tensor:
        """`count` codes ``(count, code_dim)`` that spread well and are each marginally U[0, 1) ×
        N(0, I)."""
        check_positive("count", count)
        return sobol_codes(count, self.code_dim - 1, seed)

    def freeze(self, codes: Tensor) -> Callable[[Tensor], FrozenValue]:
        """The exact finite mixture (1/K) Σ_k p(x | c, z_k(c)) over fixed codes ``(K, code_dim)``.

        Sampling from it and evaluating it use the same K codes, so its log-density is exact, as PPO
        requires.
        """
        codes = check_matrix("codes", codes, self.code_dim)

        def frozen(context: Tensor) -> FrozenValue:
            context = check_matrix("context", context, self.context_dim)
            return FrozenValue(self.chain, codes, context, self.event_dim)

        return frozen

    def value_given_codes(self, context: Tensor, codes: Tensor) -> GaussianValue:
        """p(x | c, ε) at contexts ``batch + (C,)`` and their codes ``batch + (code_dim,)``: exact.

        The decoder must be normal.
        """
        context = self._check_context(context)
        codes = check_matrix("codes", codes, self.code_dim)
        if codes.shape[:-1] != context.shape[:-1]:
            raise ValueError(
                f"codes: got shape {tuple(codes.shape)}, expected one for each context of shape "
                f"{tuple(context.shape)}"
            )
        p, noise = self.chain.generate(context), codes[..., 1:].split(self.latent_dims, dim=-1)
        return GaussianValue(self.chain.decode(p, self.chain.place(p, codes[..., 0], noise)))

    # -- as the head of a policy -------------------------------------------------------------------

    @classmethod
    def start_options(cls, log_sigma: float) -> dict[str, Any]:
        return {"initial_log_sigma": log_sigma - DECODER_SHARE}

    @torch.no_grad()
    def spread_out(self, log_sigma: float, rows: int = 256) -> None:
        """Scale and centre the decoder's mean so that over the prior's latents the total standard
        deviation is exp(`log_sigma`); the decoder's own log σ is `DECODER_SHARE` lower.

        Most of a new head's variance then comes from the latents: its modes start apart, each
        follows the slope of Q at its own place, and none absorbs the others. With a wide decoder
        all latents decode to one broad mode, which moves as a whole to the first optimum it finds.
        """
        spread = math.exp(log_sigma) * math.sqrt(1.0 - math.exp(-2.0 * DECODER_SHARE))
        generator = torch.Generator().manual_seed(0)  # torch's global stream is not touched
        chain, size = self.chain, self.event_dim
        p = chain.generate(torch.randn((rows, self.context_dim), generator=generator))
        mean = chain.decode(p, chain.sample_prior(p, (16,), generator)).mean.flatten(0, -2)
        leave: Any = chain.generative[0].get_submodule("net.leave")
        factor = spread / mean.std(0).clamp_min(1e-6)
        leave.weight[:size] *= factor.unsqueeze(-1)
        leave.bias[:size] = (leave.bias[:size] - mean.mean(0)) * factor
