"""Acting on one observation or a few: the actor's forward pass in numpy, over the same weights.

A policy of some hundred units costs microseconds of arithmetic an action; the rest of the time goes
into calling tensors and walking over modules. For plain networks on a processor this module does
the same sums on numpy views of the parameters, with the same random numbers, so that an action
differs from the module's own by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from scipy.special import expit
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.densities.gaussian import Gaussian
from vaerl.densities.layers import GaussianPrior, MixturePrior, NormalLayer, StandardPrior
from vaerl.densities.noise import sobol_codes
from vaerl.nets import FiLMNet, smooth_range_terms

if TYPE_CHECKING:
    from vaerl.policies.sac import DensityActor

Array = np.ndarray
Draw = Callable[[tuple[int, ...]], Array]

MOST_ROWS = 64
"""Observations up to which this is the faster way to draw an action."""
MOST_MODE_ROWS = 4
"""The same for the best of n candidates, where arithmetic counts sooner."""


class FastActor:
    """Draws from a Gaussian or CVAE head over a plain trunk, in numpy.

    Made by `make_fast_actor`; its views follow the parameters as optimisers and `load_state_dict`
    change them in place. `valid` tells when a parameter got new memory and the views are stale.
    """

    def __init__(self, actor: DensityActor) -> None:
        self._actor = actor
        self._modules = [module for module in actor.modules() if module is not actor]
        self._seen = self._look()
        self._trunk = _sequential(actor.latent_pi)
        head: Any = actor.density
        self._head = _GaussianHead(head) if isinstance(head, Gaussian) else _CVAEHead(head)

    def _look(self) -> list[Any]:
        """What changes when a part is replaced, moved, or watched by a hook."""
        seen: list[Any] = [id(module) for module in self._actor._modules.values()]
        for module in self._modules:
            seen += [id(part) for part in module._modules.values()]
            seen += [p.data_ptr() for p in module._parameters.values() if p is not None]
            seen.append(len(module._forward_hooks) + len(module._forward_pre_hooks))
        return seen

    @property
    def valid(self) -> bool:
        """Whether the actor still has the parts and parameters that the views were made of."""
        return self._look() == self._seen

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

    if type(actor) is not DensityActor or any(
        module._forward_hooks or module._forward_pre_hooks for module in actor.modules()
    ):
        return None
    space = actor.observation_space
    flat = (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.floating)
        and type(actor.features_extractor) is FlattenExtractor
    )
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in actor.parameters())
    known = _is_plain(actor.latent_pi) and (
        _known_gaussian(actor.density) or _known_cvae(actor.density)
    )
    return FastActor(actor) if flat and plain and known else None


# -- the heads -------------------------------------------------------------------------------------


class _GaussianHead:
    """u ~ N(μ(c), σ(c)²) with linear μ and log σ."""

    def __init__(self, density: Gaussian) -> None:
        assert density.sigma_head is not None, density.variance_kind
        self.mean = _linear(density.mean_head)
        self.raw = _linear(density.sigma_head)
        self.offset = _view(density.sigma_offset)
        self.range = _smooth_range(density.log_sigma_bounds)

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
        self.prior = _prior(chain.prior)
        self.layers = [_NormalLayer(layer) for layer in chain.generative]  # that of x first

    def draw(self, context: Array, normal: Draw, uniform: Draw) -> Array:
        rows = len(context)
        u = uniform((rows,)) if self.prior.mixed else np.zeros(rows, np.float32)
        h = self.prior(context, u, normal((rows, self.dims[-1])))
        for layer in reversed(self.layers):
            mean, sigma = layer(h, layer.condition(context))
            h = mean + sigma * normal(mean.shape)
        return h

    def mode(self, context: Array, n: int) -> Array:
        codes = sobol_codes(n, sum(self.dims), seed=0).numpy()
        noise = np.split(codes[:, 1:], np.cumsum(self.dims)[:-1], axis=1)
        return np.stack([self._best(row[None], codes[:, 0], noise) for row in context])

    def _best(self, context: Array, u: Array, noise: list[Array]) -> Array:
        """The decoder's mean of highest density in the mixture over all codes, one context."""
        h = self.prior(np.repeat(context, len(u), 0), u, noise[-1])
        for depth in range(len(self.layers) - 1, 0, -1):
            mean, sigma = self.layers[depth](h, self.layers[depth].condition(context))
            h = mean + sigma * noise[depth - 1]
        mean, sigma = self.layers[0](h, self.layers[0].condition(context))
        z = (mean[:, None] - mean) / sigma
        log_density = -0.5 * (z * z).sum(-1) - np.log(sigma).sum(-1)
        highest = log_density.max(1, keepdims=True)
        total = highest[:, 0] + np.log(np.exp(log_density - highest).sum(1))
        return mean[total.argmax()]


class _NormalLayer:
    """μ and σ of a `NormalLayer`."""

    def __init__(self, layer: NormalLayer) -> None:
        net = layer.net
        self.width, self.child = net.hidden, layer.child_dim
        self.condition = _linear(net.film)
        self.enter, self.leave = _linear(net.enter), _linear(net.leave)
        pairs: Any = zip(net.up, net.down, strict=True)
        self.blocks = [(_linear(up), _linear(down)) for up, down in pairs]
        self.range = _smooth_range(layer.log_sigma_bounds)

    def __call__(self, parent: Array, film: Array) -> tuple[Array, Array]:
        width = self.width
        h = self.enter(parent) + film[:, :width]
        for b, (up, down) in enumerate(self.blocks):
            start = (2 * b + 1) * width
            x = up(h) * film[:, start : start + width] + film[:, start + width : start + 2 * width]
            h = h + down(x * expit(x))
        out = self.leave(h * expit(h))
        return out[:, : self.child], np.exp(self.range(out[:, self.child :]))


class _Prior:
    """The top layer's point for a uniform u (which picks a component) and a noise."""

    mixed = False

    def __init__(self, prior: nn.Module) -> None:
        self.range = _smooth_range((-5.0, 2.0))

    def __call__(self, context: Array, u: Array, noise: Array) -> Array:
        return noise


class _GaussianPrior(_Prior):
    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__(prior)
        self.head = _linear(prior.head)

    def __call__(self, context: Array, u: Array, noise: Array) -> Array:
        mean, raw = np.split(self.head(context), 2, axis=1)
        return mean + np.exp(self.range(raw)) * noise


class _MixturePrior(_Prior):
    mixed = True

    def __init__(self, prior: MixturePrior) -> None:
        super().__init__(prior)
        self.shape = (prior.components, prior.latent_dim)
        self.head = _linear(prior.head)
        self.logits = None if prior.logits is None else _linear(prior.logits)
        log_weight = torch.full((prior.components,), -math.log(prior.components))
        self.edges = torch.exp(log_weight).cumsum(0)[:-1].numpy()

    def __call__(self, context: Array, u: Array, noise: Array) -> Array:
        edges = self.edges
        if self.logits is not None:
            logits = self.logits(context)
            weights = np.exp(logits - logits.max(1, keepdims=True))
            edges = (weights / weights.sum(1, keepdims=True)).cumsum(1)[:, :-1]
        component = (u[:, None] >= edges).sum(1)
        mean, raw = (
            part.reshape(-1, *self.shape)[np.arange(len(u)), component]
            for part in np.split(self.head(context), 2, axis=1)
        )
        return mean + np.exp(self.range(raw)) * noise


def _prior(prior: nn.Module) -> _Prior:
    if isinstance(prior, MixturePrior):
        return _MixturePrior(prior)
    return _GaussianPrior(prior) if isinstance(prior, GaussianPrior) else _Prior(prior)


# -- the parts -------------------------------------------------------------------------------------


def _view(parameter: Tensor) -> Array:
    return parameter.detach().numpy()


def _linear(layer: nn.Linear) -> Callable[[Array], Array]:
    weight = _view(layer.weight)
    across = weight.T
    if layer.bias is None:
        return lambda x: x @ across
    bias = _view(layer.bias)

    def apply(x: Array) -> Array:
        if len(x) == 1:  # a product with a vector reads the weights in their own order
            return (weight @ x[0] + bias)[None]
        return x @ across + bias

    return apply


def _sequential(network: nn.Sequential) -> Callable[[Array], Array]:
    steps: list[Callable[[Array], Array]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            steps.append(_linear(module))
        else:
            steps.append(np.tanh if isinstance(module, nn.Tanh) else _relu)

    def apply(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return apply


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0.0))


def _smooth_range(bounds: tuple[float, float]) -> Callable[[Array], Array]:
    slope, offset, width, low = (np.float32(x) for x in smooth_range_terms(*bounds))
    return lambda raw: expit(slope * raw + offset) * width + low


def _is_plain(network: nn.Module) -> bool:
    kinds = (nn.Linear, nn.ReLU, nn.Tanh)
    return type(network) is nn.Sequential and all(type(module) in kinds for module in network)


def _known_gaussian(density: nn.Module) -> bool:
    return (
        isinstance(density, Gaussian)
        and density.mean_kind == "linear"
        and density.variance_kind == "predicted"
    )


def _known_cvae(density: nn.Module) -> bool:
    if not isinstance(density, CVAE):
        return False
    chain = density.chain
    context: Any = chain.generative_context
    layers = all(
        type(layer) is NormalLayer and type(layer.net) is FiLMNet for layer in chain.generative
    )
    priors = (StandardPrior, GaussianPrior, MixturePrior)
    same = type(context) is nn.Identity or (type(context) is nn.Sequential and not len(context))
    return layers and type(chain.prior) in priors and same
