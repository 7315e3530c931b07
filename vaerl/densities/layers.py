"""The conditional layers of a latent chain, and the priors of its top layer.

A layer splits its work: `condition(context)` once per context, `forward(parent, conditioning)` once
per sample, giving a `DiagonalNormal`; `child_dim` is the size of its child. A prior maps a context
to a `DiagonalNormal` or a `NormalMixture`. Any module with these calls can stand in a
`LatentChain`, which is how the linear-Gaussian reference model of the tests is built. A part with a
fast form offers it as `fold()` (`vaerl.densities.fold`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities.fold import Affine, FoldedLayer, MixtureHead, NormalHead
from vaerl.densities.kernel import Kernel
from vaerl.densities.noise import sobol_codes
from vaerl.densities.normal import DiagonalNormal, NormalMixture
from vaerl.densities.whole import WholeNormal
from vaerl.nets import FiLMNet, log_shares, smooth_range, smooth_range_terms

PRIORS = ("standard", "gaussian", "mixture")
PRIOR_LOG_SIGMA = (-5.0, 2.0)
"""Range of log σ of the learned priors, in nats."""


class NormalLayer(nn.Module):
    """p(child | parent, c) = N(μ(parent, c), diag σ(parent, c)²), both from one FiLM network over
    the parent; log σ starts at about 0."""

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
    ) -> None:
        super().__init__()
        self.net = FiLMNet(parent_dim, context_dim, 2 * child_dim, hidden, blocks, input_gain)
        self.child_dim = child_dim
        self.log_sigma_bounds = log_sigma_bounds
        self.start_at(0.0)

    @torch.no_grad()
    def start_at(self, log_sigma: float) -> None:
        """Let a new layer's log σ start at about this value."""
        self.net.leave.bias[self.child_dim :].fill_(log_sigma)

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

    def kernel(self) -> Kernel | None:
        """The layer for the native update."""
        net = self.net
        inner: list[Any] = [
            layer for block in zip(net.up, net.down, strict=True) for layer in block
        ]
        return Kernel(
            [net.film.weight],
            [net.film.bias],
            [p for layer in (net.enter, *inner, net.leave) for p in (layer.weight, layer.bias)],
            {"hidden": net.hidden, "blocks": net.blocks},
        )


class WholeLayer(NormalLayer):
    """The same over whole numbers."""

    def forward(self, parent: Tensor, conditioning: Tensor) -> WholeNormal:
        """The child's law for each parent sample."""
        law = super().forward(parent, conditioning)
        return WholeNormal(law.mean, law.log_sigma)

    def fold(self) -> None:
        """None: draws are rounded."""

    def kernel(self) -> None:
        """None, for the same reason."""


def film_layers(
    sizes: Sequence[int],
    context_dim: int,
    log_sigma_bounds: tuple[tuple[float, float], tuple[float, float]],
    decoder: type[NormalLayer],
    *,
    hidden: int,
    blocks: int,
) -> tuple[list[NormalLayer], list[NormalLayer]]:
    """The generative and the recognition layers of a chain with these sizes, that of x first.

    `log_sigma_bounds` are those of the decoder and those of all other layers. A layer to as many
    units as x has doubles its input, so that latents matter from the start.
    """

    def layer(
        kind: type[NormalLayer], parent: int, child: int, bounds: tuple[float, float]
    ) -> NormalLayer:
        return kind(
            parent,
            context_dim,
            child,
            hidden=hidden,
            blocks=blocks,
            log_sigma_bounds=bounds,
            input_gain=2.0 if child == sizes[0] else 1.0,
        )

    own, others = log_sigma_bounds
    generative = [layer(decoder, sizes[1], sizes[0], own)]
    generative += [layer(NormalLayer, up, down, others) for down, up in pairwise(sizes[1:])]
    recognition = [layer(NormalLayer, down, up, others) for down, up in pairwise(sizes)]
    return generative, recognition


NEAR_LOG_SIGMA = -2.0
"""log σ of encoder and decoder at a start near the identity."""
NEAR_NOISE = 0.3
"""Factor on the other random weights there."""


@torch.no_grad()
def near_identity(decoder: NormalLayer, encoder: NormalLayer) -> None:
    """Let a new pair of layers start with x ≈ z and z ≈ x.

    From small random weights a decoder of many dimensions explains x by its σ before any latent
    says something, and stays there: all latents are off. Near the identity they say all from the
    start, as in a flow, and training bends what is there. The hidden units h and −h of a coordinate
    give silu(h) − silu(−h) = h. Needs `hidden` of at least twice the latents; with fewer latents
    than dimensions of x only the first of these have one.
    """
    for layer in (decoder, encoder):
        net = layer.net
        n = min(net.enter.in_features, layer.child_dim)
        eye = torch.eye(n)
        net.enter.weight[: 2 * n] = 0.0
        net.enter.weight[: 2 * n, :n] = torch.cat([eye, -eye])
        net.enter.bias[: 2 * n] = 0.0
        net.leave.weight.mul_(NEAR_NOISE)
        net.leave.weight[:n, : 2 * n] = torch.cat([eye, -eye], dim=1)
        net.leave.bias[: layer.child_dim] = 0.0
        for parameter in net.down.parameters():
            parameter.mul_(NEAR_NOISE)
        layer.start_at(NEAR_LOG_SIGMA)


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

    def kernel(self) -> Kernel:
        """The prior for the native update."""
        return Kernel(sizes={"components": 1, "prior_range": (1.0, 0.0, 1.0, 0.0)})


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

    def kernel(self) -> Kernel:
        """The prior for the native update."""
        sizes = {"components": 1, "learned": 1, "prior_range": smooth_range_terms(*PRIOR_LOG_SIGMA)}
        return Kernel([self.head.weight], [self.head.bias], sizes=sizes)


class MixturePrior(nn.Module):
    """p(h_L | c) = Σ_m w_m(c) N(μ_m(c), diag σ_m(c)²), learned: a continuous decoder then needs no
    bridges.

    Args:
        components: number M of Gaussians.
        weights: "learned" from c, or "equal" at 1/M (weights have no pathwise gradient, so a policy
            that is improved through its samples keeps them equal).
        broad: start as one law near N(0, I), of components that overlap, instead of as modes apart.

    The components' means start on a Sobol-normal design.
    """

    def __init__(
        self,
        context_dim: int,
        latent_dim: int,
        components: int,
        weights: str = "learned",
        broad: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.components, self.weights = latent_dim, components, weights
        self.head = nn.Linear(context_dim, 2 * components * latent_dim)
        self.logits = nn.Linear(context_dim, components) if weights == "learned" else None
        with torch.no_grad():
            gain, spread, log_sigma = (0.15, 0.5, 0.0) if broad else (0.5, 1.5, -0.7)
            self.head.weight.mul_(gain)
            centres = spread * sobol_codes(components, latent_dim, seed=1)[:, 1:]
            self.head.bias[: components * latent_dim].copy_(centres.flatten())
            self.head.bias[components * latent_dim :].fill_(log_sigma)

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

    def kernel(self) -> Kernel:
        """The prior for the native update."""
        terms: Any = smooth_range_terms(*PRIOR_LOG_SIGMA)
        heads = [self.head] if self.logits is None else [self.head, self.logits]
        equal = self.logits is None
        sizes = {"components": self.components, "learned": 1, "prior_range": terms}
        return Kernel(
            [head.weight for head in heads],
            [head.bias for head in heads],
            sizes=sizes | {"weighted": int(not equal)},
            edges=equal_edges(self.components) if equal else None,
        )


@functools.cache
def equal_edges(count: int) -> Tensor:
    """Where the shares of [0, 1) of equal components meet, as a `NormalMixture` rounds them."""
    return torch.full((count,), -math.log(count)).exp().cumsum(0)[:-1]


def make_prior(
    prior: str, context_dim: int, latent_dim: int, components: int, weights: str, broad: bool
) -> nn.Module:
    """The prior of a name in `PRIORS`; `broad` is of a mixture."""
    if prior == "standard":
        return StandardPrior(context_dim, latent_dim)
    if prior == "gaussian":
        return GaussianPrior(context_dim, latent_dim)
    return MixturePrior(context_dim, latent_dim, components, weights, broad)
