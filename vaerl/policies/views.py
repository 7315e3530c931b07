"""The parts of a policy in numpy: functions over views of their parameters, on float32 rows.

They do what the modules do, up to rounding, at a tenth of the cost a call; small arrays in the
process of acting are what they are made for. The views follow the parameters as optimisers and
`load_state_dict` change them in place; `Views.valid` tells when they are stale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import (
    PRIOR_LOG_SIGMA,
    GaussianPrior,
    MixturePrior,
    NormalLayer,
    StandardPrior,
)
from vaerl.nets import FiLMNet, smooth_range_terms

Array = np.ndarray
Apply = Callable[[Array], Array]


class Views:
    """Views of a policy's parameters, and whether they are still those of the policy."""

    def __init__(self, policy: nn.Module) -> None:
        modules = list(policy.modules())
        self._tensors: list[dict[str, Any]] = [
            own for m in modules for own in (m._parameters, m._buffers) if own
        ]
        self._modules: list[dict[str, Any]] = [m._modules for m in modules if m._modules]
        self._hooks = [
            hooks for m in modules[1:] for hooks in (m._forward_hooks, m._forward_pre_hooks)
        ]
        self._seen = self._look()

    def _look(self) -> list[Any]:
        """What changes when a part is replaced, moved, or watched by a hook."""
        seen: list[Any] = [
            tensor.data_ptr()
            for own in self._tensors
            for tensor in own.values()
            if tensor is not None
        ]
        seen += map(id, chain.from_iterable(own.values() for own in self._modules))
        seen.append(sum(map(len, self._hooks)))
        return seen

    @property
    def valid(self) -> bool:
        """Whether the policy still has the parts and parameters that the views were made of."""
        return self._look() == self._seen


# -- networks --------------------------------------------------------------------------------------


def view(parameter: Tensor) -> Array:
    """The parameter's own memory."""
    return parameter.detach().numpy()


def linear(layer: nn.Linear) -> Apply:
    """W x + b over rows."""
    weight = view(layer.weight)
    across = weight.T
    if layer.bias is None:
        return lambda x: x @ across
    bias = view(layer.bias)

    def apply(x: Array) -> Array:
        if len(x) == 1:  # a product with a vector reads the weights in their own order
            return (weight @ x[0] + bias)[None]
        return x @ across + bias

    return apply


def sequential(network: nn.Sequential) -> Apply:
    """Linear layers with ReLU or tanh; `is_plain` tells whether the network is one."""
    steps: list[Apply] = []
    for module in network:
        if isinstance(module, nn.Linear):
            steps.append(linear(module))
        else:
            steps.append(np.tanh if isinstance(module, nn.Tanh) else _relu)

    def apply(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return apply


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0.0))


def _silu(x: Array) -> Array:
    """x σ(x) = h (1 + tanh h) with h = x/2: numpy has a fast tanh."""
    h = x * np.float32(0.5)
    return h * (np.tanh(h) + np.float32(1.0))


def smooth_range(bounds: tuple[float, float]) -> Apply:
    """As `vaerl.nets.smooth_range`, its sigmoid written as a tanh."""
    slope, offset, width, low = smooth_range_terms(*bounds)
    terms = (slope / 2, offset / 2, width / 2, low + width / 2)
    slope_2, offset_2, width_2, middle = (np.float32(x) for x in terms)
    return lambda raw: np.tanh(slope_2 * raw + offset_2) * width_2 + middle


def is_plain(network: nn.Module) -> bool:
    """Whether `sequential` knows the network."""
    kinds = (nn.Linear, nn.ReLU, nn.Tanh)
    return type(network) is nn.Sequential and all(type(module) in kinds for module in network)


# -- layers and priors -----------------------------------------------------------------------------


class Layer:
    """μ and log σ of a `NormalLayer`."""

    def __init__(self, layer: NormalLayer) -> None:
        net = layer.net
        self.width, self.child = net.hidden, layer.child_dim
        self.condition = linear(net.film)
        self.enter, self.leave = linear(net.enter), linear(net.leave)
        pairs: Any = zip(net.up, net.down, strict=True)
        self.blocks = [(linear(up), linear(down)) for up, down in pairs]
        self.range = smooth_range(layer.log_sigma_bounds)

    def __call__(self, parent: Array, film: Array) -> tuple[Array, Array]:
        """For parents ``(N, P)`` and ``condition(c)`` of all of them, or of each."""
        width = self.width
        h = self.enter(parent) + film[:, :width]
        for b, (up, down) in enumerate(self.blocks):
            start = (2 * b + 1) * width
            x = up(h) * film[:, start : start + width] + film[:, start + width : start + 2 * width]
            h = h + down(_silu(x))
        out = self.leave(_silu(h))
        return out[:, : self.child], self.range(out[:, self.child :])


class Prior:
    """The top layer's points for a uniform u (which picks a component) and a noise."""

    mixed = False

    def __init__(self, prior: nn.Module) -> None:
        self.range = smooth_range(PRIOR_LOG_SIGMA)

    def each(self, context: Array, u: Array, noise: Array) -> Array:
        """One point at each context: ``(B, Z)`` for contexts ``(B, C)`` and noise ``(B, Z)``."""
        return noise

    def spread(self, context: Array, u: Array, noise: Array) -> Array:
        """N points ``(N, Z)`` at one context ``(1, C)``."""
        return self.each(context, u, noise)


class _GaussianPrior(Prior):
    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__(prior)
        self.head = linear(prior.head)

    def each(self, context: Array, u: Array, noise: Array) -> Array:
        mean, raw = np.split(self.head(context), 2, axis=1)
        return mean + np.exp(self.range(raw)) * noise


class _MixturePrior(Prior):
    mixed = True

    def __init__(self, prior: MixturePrior) -> None:
        super().__init__(prior)
        self.shape = (-1, 2, prior.components, prior.latent_dim)
        self.head = linear(prior.head)
        self.logits = None if prior.logits is None else linear(prior.logits)
        self.edges = equal_edges(prior.components)

    def each(self, context: Array, u: Array, noise: Array) -> Array:
        component = (u[:, None] >= self._edges(context)).sum(1)
        picked = self.head(context).reshape(self.shape)[np.arange(len(u)), :, component]
        return picked[:, 0] + np.exp(self.range(picked[:, 1])) * noise

    def spread(self, context: Array, u: Array, noise: Array) -> Array:
        component = (u[:, None] >= self._edges(context)).sum(1)
        mean, raw = self.head(context).reshape(self.shape)[0]
        return mean[component] + np.exp(self.range(raw))[component] * noise

    def _edges(self, context: Array) -> Array:
        """Where the share of one component ends and that of the next begins."""
        if self.logits is None:
            return self.edges
        logits = self.logits(context)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return (weights / weights.sum(1, keepdims=True)).cumsum(1)[:, :-1]


def equal_edges(count: int) -> Array:
    """Cumulative equal weights as torch adds them up, without the last."""
    log_weights = torch.full((count,), -math.log(count))
    return torch.exp(log_weights).cumsum(0)[:-1].numpy()


def make_prior(prior: nn.Module) -> Prior:
    """The prior of a chain for which `known_cvae` holds."""
    if isinstance(prior, MixturePrior):
        return _MixturePrior(prior)
    return _GaussianPrior(prior) if isinstance(prior, GaussianPrior) else Prior(prior)


def known_cvae(density: nn.Module) -> bool:
    """Whether `Layer` and `make_prior` know all that the density generates with."""
    if not isinstance(density, CVAE):
        return False
    latent = density.chain
    context: Any = latent.generative_context
    layers = all(
        type(layer) is NormalLayer and type(layer.net) is FiLMNet for layer in latent.generative
    )
    priors = (StandardPrior, GaussianPrior, MixturePrior)
    same = type(context) is nn.Identity or (type(context) is nn.Sequential and not len(context))
    return layers and type(latent.prior) in priors and same


def plain_policy(policy: Any, extractor: nn.Module) -> bool:
    """Whether observations are flat floats that go in as they are, to float32 on a processor, and
    no hook watches."""
    space = policy.observation_space
    flat = (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.floating)
        and type(extractor) is FlattenExtractor
    )
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in policy.parameters())
    watched = any(m._forward_hooks or m._forward_pre_hooks for m in policy.modules())
    return flat and plain and not watched
