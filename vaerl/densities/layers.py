"""The conditional layers of a latent chain, and the priors of its top layer.

A layer splits its work: `condition(context)` once per context, `forward(parent, conditioning)` once
per sample, giving a `DiagonalNormal`; `child_dim` is the size of its child. A prior maps a context
to a `DiagonalNormal` or a `NormalMixture`. Any module with these calls can stand in a
`LatentChain`, which is how the linear-Gaussian reference model of the tests is built. A part with a
fast form offers it as `fold()` (`vaerl.densities.fold`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaerl.densities.fold import Affine, FoldedLayer, MixtureHead, NormalHead
from vaerl.densities.noise import sobol_codes
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.densities.whole import WholeNormal
from vaerl.nets import FiLMNet, log_shares, smooth_range

PRIORS = ("standard", "gaussian", "mixture")
PRIOR_LOG_SIGMA = (-5.0, 2.0)
"""Range of log σ of the learned priors, in nats."""


class NormalLayer(nn.Module):
    """p(child | parent, c) = N(μ(parent, c), diag σ(parent, c)²), both from one FiLM network over
    the parent.

    log σ = smooth_range(raw, low, high) + `initial_log_sigma` at the start of training.
    """

    def __init__(
        self,
        parent_dim: int,
        context_dim: int,
        child_dim: int,
        *,
        hidden: int,
        blocks: int,
        log_sigma_bounds: tuple[float, float],
        input_gain: float = 1.0,
        initial_log_sigma: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = FiLMNet(parent_dim, context_dim, 2 * child_dim, hidden, blocks, input_gain)
        self.child_dim = child_dim
        self.log_sigma_bounds = log_sigma_bounds
        with torch.no_grad():
            self.net.leave.bias[child_dim:].fill_(initial_log_sigma)

    def condition(self, context: Tensor) -> Tensor:
        """FiLM coefficients, once per context."""
        return self.net.condition(context)

    def forward(self, parent: Tensor, conditioning: Tensor) -> DiagonalNormal:
        """The child's law for each parent sample."""
        mean, raw = self.net(parent, conditioning).split(self.child_dim, dim=-1)
        return DiagonalNormal(mean, smooth_range(raw, *self.log_sigma_bounds))

    def fold(self) -> FoldedLayer | None:
        """The layer for drawing without gradients."""
        return FoldedLayer(self.net, self.child_dim, self.log_sigma_bounds)


class WholeLayer(NormalLayer):
    """The same over whole numbers."""

    def forward(self, parent: Tensor, conditioning: Tensor) -> WholeNormal:
        """The child's law for each parent sample."""
        law = super().forward(parent, conditioning)
        return WholeNormal(law.mean, law.log_sigma)

    def fold(self) -> None:
        """None: draws are rounded."""


class StandardPrior(nn.Module):
    """p(h_L | c) = N(0, I): the decoder has to do all the conditioning."""

    def __init__(self, context_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, context: Tensor) -> DiagonalNormal:
        """N(0, I) at each context."""
        zeros = context.new_zeros((*context.shape[:-1], self.latent_dim))
        return DiagonalNormal(zeros, zeros)

    def fold(self) -> NormalHead:
        """The prior for drawing without gradients."""
        return NormalHead(self.latent_dim)


class GaussianPrior(nn.Module):
    """p(h_L | c) = N(μ(c), diag σ(c)²), learned."""

    def __init__(self, context_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.head = nn.Linear(context_dim, 2 * latent_dim)

    def forward(self, context: Tensor) -> DiagonalNormal:
        """The prior at each context."""
        mean, raw = self.head(context).split(self.latent_dim, dim=-1)
        return DiagonalNormal(mean, smooth_range(raw, *PRIOR_LOG_SIGMA))

    def fold(self) -> NormalHead:
        """The prior for drawing without gradients."""
        return NormalHead(self.latent_dim, Affine.of(self.head), PRIOR_LOG_SIGMA)


class MixturePrior(nn.Module):
    """p(h_L | c) = Σ_m w_m(c) N(μ_m(c), diag σ_m(c)²), learned: a continuous decoder then needs no
    bridges.

    Args:
        components: number M of Gaussians.
        weights: "learned" from c, or "equal" at 1/M (weights have no pathwise gradient, so a policy
            that is improved through its samples keeps them equal).
        spread: scale of the components' initial means, which start on a Sobol-normal design.
    """

    def __init__(
        self,
        context_dim: int,
        latent_dim: int,
        components: int,
        weights: str = "learned",
        spread: float = 1.5,
    ) -> None:
        super().__init__()
        self.latent_dim, self.components, self.weights = latent_dim, components, weights
        self.head = nn.Linear(context_dim, 2 * components * latent_dim)
        self.logits = nn.Linear(context_dim, components) if weights == "learned" else None
        with torch.no_grad():
            self.head.weight.mul_(0.5)
            centres = spread * sobol_codes(components, latent_dim, seed=1)[:, 1:]
            self.head.bias[: components * latent_dim].copy_(centres.flatten())
            self.head.bias[components * latent_dim :].fill_(-0.7)

    def forward(self, context: Tensor) -> NormalMixture:
        """The prior at each context."""
        shape = (*context.shape[:-1], self.components, self.latent_dim)
        mean, raw = self.head(context).chunk(2, dim=-1)
        if self.logits is not None:
            log_weights = log_shares(self.logits(context))
        else:
            log_weights = mean.new_full(shape[:-1], -math.log(self.components))
        log_sigma = smooth_range(raw.reshape(shape), *PRIOR_LOG_SIGMA)
        return NormalMixture(log_weights, mean.reshape(shape), log_sigma)

    def fold(self) -> MixtureHead:
        """The prior for drawing without gradients."""
        logits = None if self.logits is None else Affine.of(self.logits)
        head = Affine.of(self.head)
        return MixtureHead(head, logits, self.components, self.latent_dim, PRIOR_LOG_SIGMA)


def make_prior(
    prior: str, context_dim: int, latent_dim: int, components: int, weights: str
) -> nn.Module:
    """The prior of a name in `PRIORS`."""
    if prior == "standard":
        return StandardPrior(context_dim, latent_dim)
    if prior == "gaussian":
        return GaussianPrior(context_dim, latent_dim)
    return MixturePrior(context_dim, latent_dim, components, weights)
