"""A latent generator fitted by implicit maximum likelihood: each event teaches its nearest code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl import bounds
from vaerl.densities.base import Info
from vaerl.densities.chain import LatentChain
from vaerl.densities.latent_density import LatentDensity
from vaerl.densities.layers import NormalLayer, StandardPrior
from vaerl.densities.noise import Noise
from vaerl.densities.normal import HALF_LOG_TWO_PI, DiagonalNormal
from vaerl.densities.options import (
    MOST,
    check_above_zero,
    check_positive,
    check_range,
    check_sizes,
)
from vaerl.nets import mlp


class IMLE(LatentDensity):
    """p(x | c) = ∫ N(x; μ(z, c), diag σ(z, c)²) N(z; 0, I) dz, fitted without an encoder.

    For every event K codes are drawn from the prior, and only the one that explains it best is
    trained (implicit maximum likelihood, Li & Malik 2018):

        loss = min_k Σ_d h(x_d − μ_d(z_k, c)) / σ_d(z_k, c)² + log σ_d(z_k, c) + ½ log 2π

    with Huber's h(r) = ½ r² up to `kappa` and linear beyond. So every event has a code near it, and
    no code has to explain several. The loss is that of one code: it is no bound on −log p(x | c).

    The law is that of a `CVAE` with the prior N(0, I) and this generator. Its log-density is
    intractable. Bounds take their proposals from the prior, for want of an encoder: they are looser
    than those of a `CVAE` at the same k where the generator is narrow. WIMLE (2026) fits its models
    of dynamics so, with log σ² in place of log σ, and predicts with μ alone, which has no density.

    Args:
        latent_dims: the size of the code, as a list of one number.
        codes: K.
        kappa: in units of x, where the squared error becomes linear.
        hidden, blocks: width and number of the FiLM blocks of the generator.
        context_hidden: widths of the context's embedding; ``()`` uses the raw context.
        log_sigma_bounds: range of log σ, in nats.
        initial_log_sigma: log σ at the start.

    >>> from vaerl.densities import make_density
    >>> density = make_density("imle", context_dim=3, event_dim=2)
    >>> loss, info = density.loss(torch.randn(5, 3), torch.randn(5, 2))
    >>> sorted(info), density(torch.zeros(5, 3)).log_prob_bounds(torch.zeros(5, 2)).upper
    (['ess_ratio', 'nearest_nll', 'nll_bound'], None)
    """

    name = "imle"
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        use: {"hidden": 32, "blocks": 1, "context_hidden": (), "log_sigma_bounds": (-5.0, 2.0)}
        for use in ("off", "on")
    } | {"chunk": {"context_hidden": ()}, "dynamics": {"blocks": 1}}

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        latent_dims: Sequence[int] = (4,),
        codes: int = 4,
        kappa: float = 1.0,
        hidden: int = 64,
        blocks: int = 2,
        context_hidden: Sequence[int] = (64, 64),
        log_sigma_bounds: tuple[float, float] = (-7.0, 2.0),
        initial_log_sigma: float = 0.0,
    ) -> None:
        super().__init__(context_dim, event_dim)
        self.latent_dims = check_sizes("latent_dims", latent_dims)
        if len(self.latent_dims) > 1:
            raise ValueError(f"latent_dims: got {latent_dims!r}, expected one size, that of a code")
        self.codes = check_positive("codes", codes, at_most=MOST)
        self.kappa = check_above_zero("kappa", kappa)
        self.defensive = 0.0  # proposals come from the prior anyway
        widths = check_sizes("context_hidden", context_hidden, allow_empty=True)
        (size,) = self.latent_dims
        embedding = widths[-1] if widths else context_dim
        generator = NormalLayer(
            size,
            embedding,
            event_dim,
            hidden=check_positive("hidden", hidden, at_most=MOST),
            blocks=check_positive("blocks", blocks, at_least=0),
            log_sigma_bounds=check_range("log_sigma_bounds", log_sigma_bounds),
        )
        generator.start_at(initial_log_sigma)
        self.chain = LatentChain(
            StandardPrior(embedding, size), [generator], [_Prior(size)], mlp(context_dim, widths)
        )

    def _loss(
        self,
        context: Tensor,
        x: Tensor,
        change: Tensor | float,
        diagnostics: bool,
        kl_weight: float,
        generator: Noise,
    ) -> tuple[Tensor, Info]:
        """The loss of the nearest of K codes ``batch``; `kl_weight` has nothing to weigh.

        Diagnostics (0-d, without gradient): ``nearest_nll`` (the mean loss), ``nll_bound`` (−L_K
        with the same codes, at least −log p(x | c) in expectation), ``ess_ratio`` (effective sample
        size of the codes over K).
        """
        p = self.chain.generate(context)
        (z,) = self.chain.sample_prior(p, (self.codes,), generator)
        with torch.no_grad():
            laws = self.chain.decode(p, (z,))
            nearest = self._misfit(laws, x).argmin(0)
            log_w = laws.log_prob(x)
            info = {
                "nll_bound": (change - bounds.iwae(log_w)).mean(),
                "ess_ratio": bounds.effective_sample_size(log_w).mean() / self.codes,
            }
        chosen = torch.take_along_dim(z, nearest[None, ..., None], dim=0).squeeze(0)
        loss = change + self._misfit(self.chain.decode(p, (chosen,)), x)
        return loss, {"nearest_nll": loss.detach().mean(), **info}

    def _misfit(self, law: DiagonalNormal, x: Tensor) -> Tensor:
        """−log N(x; μ, σ²) with Huber's error, summed over dimensions."""
        error = functional.huber_loss(
            law.mean, x.expand_as(law.mean), reduction="none", delta=self.kappa
        )
        nats = error * torch.exp(-2.0 * law.log_sigma) + law.log_sigma
        return nats.sum(-1) + self.event_dim * HALF_LOG_TWO_PI


class _Prior(nn.Module):
    """N(0, I) in the place of a recognition layer: nothing is known of the code of an event."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.child_dim = size

    def condition(self, context: Tensor) -> None:
        """Nothing."""

    def forward(self, x: Tensor, conditioning: None) -> DiagonalNormal:
        """The same at every event."""
        zeros = x.new_zeros((*x.shape[:-1], self.child_dim))
        return DiagonalNormal(zeros, zeros)
