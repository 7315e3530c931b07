"""Acting on one observation or a few: the actor's forward pass in numpy, over the same weights.

A policy of some hundred units costs microseconds of arithmetic an action; the rest of the time goes
into calling tensors and walking over modules. For plain networks on a processor this module does
the same sums on numpy views of the parameters (`vaerl.policies.views`), with the same random
numbers, so that an action differs from the module's own by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaerl.densities.cvae import CVAE
from vaerl.densities.gaussian import Gaussian
from vaerl.densities.noise import sobol_codes
from vaerl.policies.views import (
    Array,
    Layer,
    Views,
    is_plain,
    known_cvae,
    linear,
    make_prior,
    plain_policy,
    sequential,
    smooth_range,
    view,
)

if TYPE_CHECKING:
    from vaerl.policies.sac import DensityActor

Draw = Callable[[tuple[int, ...]], Array]

MOST_ROWS = 64
"""Observations up to which this is the faster way to draw an action."""
MOST_MODE_ROWS = 4
"""The same for the best of n candidates, where arithmetic counts sooner."""


class FastActor(Views):
    """Draws from a Gaussian or CVAE head over a plain trunk, in numpy.

    Made by `make_fast_actor`. `valid` tells when a parameter got new memory and the views are
    stale.
    """

    def __init__(self, actor: DensityActor) -> None:
        super().__init__(actor)
        self._actor = actor
        self._trunk = sequential(actor.latent_pi)
        head: Any = actor.density
        self._head = _GaussianHead(head) if isinstance(head, Gaussian) else _CVAEHead(head)

    def __call__(self, obs: Array, deterministic: bool) -> Array | None:
        """Actions in [−1, 1] ``(B, X)`` for flat observations ``(B, S)``.

        None where the module has to do it: too many rows, or an input or result that is not finite.
        """
        most = MOST_MODE_ROWS if deterministic else MOST_ROWS
        if not 0 < len(obs) <= most or obs.dtype.kind not in "fiu":
            return None
        noise = self._actor.noise
        calls = noise.calls
        with np.errstate(all="ignore"):  # what is not finite is left to the module and its errors
            context = self._trunk(obs.astype(np.float32, copy=False))
            if not np.isfinite(context.sum()):
                return None
            if deterministic:
                actions = np.tanh(self._head.mode(context, self._actor.num_candidates))
            else:
                actions = np.tanh(self._draw(context, noise.generator()))
        if np.isfinite(actions.sum()):
            return actions
        noise.calls = calls
        return None

    def _draw(self, context: Array, generator: torch.Generator) -> Array:
        def normal(shape: tuple[int, ...]) -> Array:
            return torch.randn(shape, generator=generator).numpy()

        def uniform(shape: tuple[int, ...]) -> Array:
            return torch.rand(shape, generator=generator).numpy()

        return self._head.draw(context, normal, uniform)


def make_fast_actor(actor: DensityActor) -> FastActor | None:
    """The fast way to act, or None where the actor is not made of parts that it knows."""
    from vaerl.policies.sac import DensityActor  # which imports this module

    if type(actor) is not DensityActor or not plain_policy(actor, actor.features_extractor):
        return None
    known = is_plain(actor.latent_pi) and (
        _known_gaussian(actor.density) or known_cvae(actor.density)
    )
    return FastActor(actor) if known else None


def _known_gaussian(density: Any) -> bool:
    return (
        isinstance(density, Gaussian)
        and density.mean_kind == "linear"
        and density.variance_kind == "predicted"
    )


# -- the heads -------------------------------------------------------------------------------------


class _GaussianHead:
    """u ~ N(μ(c), σ(c)²) with linear μ and log σ."""

    def __init__(self, density: Gaussian) -> None:
        assert density.sigma_head is not None, density.variance_kind
        self.mean = linear(density.mean_head)
        self.raw = linear(density.sigma_head)
        self.offset = view(density.sigma_offset)
        self.range = smooth_range(density.log_sigma_bounds)

    def draw(self, context: Array, normal: Draw, uniform: Draw) -> Array:
        mean = self.mean(context)
        return mean + np.exp(self.range(self.raw(context) + self.offset)) * normal(mean.shape)

    def mode(self, context: Array, n: int) -> Array:
        return self.mean(context)


class _CVAEHead:
    """Ancestral draws down the chain, and the best of n codes by the density of all n."""

    def __init__(self, density: CVAE) -> None:
        chain: Any = density.chain
        self.dims = density.latent_dims
        self.prior = make_prior(chain.prior)
        self.layers = [Layer(layer) for layer in chain.generative]  # that of x first

    def draw(self, context: Array, normal: Draw, uniform: Draw) -> Array:
        rows = len(context)
        u = uniform((rows,)) if self.prior.mixed else np.zeros(rows, np.float32)
        h = self.prior.each(context, u, normal((rows, self.dims[-1])))
        for layer in reversed(self.layers):
            mean, log_sigma = layer(h, layer.condition(context))
            h = mean + np.exp(log_sigma) * normal(mean.shape)
        return h

    def mode(self, context: Array, n: int) -> Array:
        return np.stack([self._best(row[None], *_candidates(n, self.dims)) for row in context])

    def _best(self, context: Array, u: Array, noise: list[Array]) -> Array:
        """The decoder's mean of highest density in the mixture over all codes, one context."""
        h = self.prior.spread(context, u, noise[-1])
        for depth in range(len(self.layers) - 1, -1, -1):
            mean, log_sigma = self.layers[depth](h, self.layers[depth].condition(context))
            if depth:
                h = mean + np.exp(log_sigma) * noise[depth - 1]
        # Dimensions first: with the few of an action innermost the sums take four times as long.
        means, precisions = mean.T.copy(), np.exp(-log_sigma.T)
        z = (means[:, :, None] - means[:, None]) * precisions[:, None]
        log_density = np.float32(-0.5) * (z * z).sum(0) - log_sigma.sum(1)
        highest = log_density.max(1, keepdims=True)
        total = highest[:, 0] + np.log(np.exp(log_density - highest).sum(1))
        return mean[total.argmax()]


@lru_cache(maxsize=8)
def _candidates(n: int, dims: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """The uniform column and each layer's noise of the codes of `LatentValue.mode`."""
    codes = sobol_codes(n, sum(dims), seed=0).float().numpy()
    return codes[:, 0], np.split(codes[:, 1:], np.cumsum(dims)[:-1], axis=1)
