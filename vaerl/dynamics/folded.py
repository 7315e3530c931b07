"""Draws from a cvae in roll-outs, with everything linear folded into few large products.

A planner steps a model a thousand times an action, and what a step costs is the number of its
small operations. Between two non-linearities all is linear: the normalisers go into the first and
the last weights, the FiLM coefficients and the prior come from one product, biases added one after
the other become one, and of the prior's components only the one that is drawn is worked out. Random
numbers are read in the order in which the density reads them, so that the same generator gives the
same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import PRIOR_LOG_SIGMA, MixturePrior, NormalLayer
from vaerl.densities.noise import standard_normal, uniform
from vaerl.dynamics.normaliser import Normaliser
from vaerl.nets import smooth_range_terms


class FoldedSampler:
    """Draws of (Δs, r) in their own units ``(E, B, X)`` at raw inputs ``(E, B, C)``.

    Args:
        density: a batched `CVAE` of E members that `can_fold`.
        inputs, targets: normalisers of what the density sees and of what it draws.
    """

    def __init__(self, density: CVAE, inputs: Normaliser, targets: Normaliser) -> None:
        assert can_fold(density), density
        chain = density.chain
        embedding: Any = list(chain.generative_context.children())
        trunk = [_Affine(layer) for layer in embedding if _is_affine(layer)]
        self._activations = [layer for layer in embedding if not _is_affine(layer)]
        self._prior = _Prior(chain.prior)
        self._layers = [_Layer(layer) for layer in reversed(list(chain.generative))]  # x comes last
        self._layers[-1].rescale(targets.mean, targets.scale)
        heads = [*(layer.film for layer in self._layers), *self._prior.heads]
        self._sizes = [head.bias.shape[-1] for head in heads]
        trunk.append(_side_by_side(heads))
        trunk[0].take_raw(inputs.mean, inputs.scale)
        self._trunk = trunk

    def __call__(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw a row."""
        h = raw
        for affine, activation in zip(self._trunk, self._activations, strict=False):
            h = activation(affine(h))
        films = self._trunk[-1](h).split(self._sizes, dim=-1)
        x = self._prior.draw(films[len(self._layers) :], generator)
        for layer, film in zip(self._layers, films, strict=False):
            x = layer.draw(x, film, generator)
        return x


def can_fold(density: nn.Module) -> bool:
    """Whether a density is a cvae of the usual layers with a mixture prior, without a squash."""
    return (
        isinstance(density, CVAE)
        and not density.squash
        and type(density.chain) is LatentChain
        and type(density.chain.prior) is MixturePrior
        and all(type(layer) is NormalLayer for layer in density.chain.generative)
        and isinstance(density.chain.generative_context, nn.Sequential | nn.Identity)
    )


def _is_affine(layer: nn.Module) -> bool:
    return hasattr(layer, "weight")


class _Affine:
    """x W + b of E members: ``(E, B, in)`` → ``(E, B, out)``."""

    def __init__(self, layer: Any) -> None:
        self.weight = layer.weight.detach().mT.contiguous()
        self.bias = layer.bias.detach().clone()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)

    def take_raw(self, mean: Tensor, scale: Tensor) -> None:
        """Take x instead of (x − mean) / scale."""
        self.weight = self.weight / scale.unsqueeze(-1)
        self.bias = self.bias - (mean @ self.weight).unsqueeze(-2)

    def stretch(self, slope: float | Tensor, offset: float | Tensor, part: slice) -> None:
        """Give slope · y + offset instead of y in a part of the outputs."""
        self.weight[..., part] *= slope
        self.bias[..., part] = self.bias[..., part] * slope + offset


def _side_by_side(affines: Sequence[_Affine]) -> _Affine:
    """One product that gives all outputs."""
    whole = affines[0]
    whole.weight = torch.cat([each.weight for each in affines], dim=-1)
    whole.bias = torch.cat([each.bias for each in affines], dim=-1)
    return whole


class _Spread:
    """σ = exp(smooth_range(raw)) of an output whose slope and offset are in the weights before."""

    def __init__(self, affine: _Affine, part: slice, bounds: tuple[float, float]) -> None:
        slope, offset, self.width, low = smooth_range_terms(*bounds)
        affine.stretch(slope, offset, part)
        self.low = torch.tensor(low).to(affine.bias)

    def __call__(self, raw: Tensor) -> Tensor:
        return torch.add(self.low, torch.sigmoid(raw), alpha=self.width).exp_()


class _Prior:
    """Draws of a `MixturePrior`: mean and σ of the component that is drawn, and of no other."""

    def __init__(self, prior: Any) -> None:
        self.components, self.size = prior.components, prior.latent_dim
        head, half = _Affine(prior.head), prior.components * prior.latent_dim
        self.sigma = _Spread(head, slice(half, None), PRIOR_LOG_SIGMA)
        # mean and log σ of a component side by side: one gather picks both
        order = torch.arange(2 * half).view(2, self.components, self.size).movedim(0, 1).flatten()
        head.weight, head.bias = head.weight[..., order], head.bias[..., order]
        self.heads = [head] if prior.logits is None else [head, _Affine(prior.logits)]

    def draw(self, heads: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        """z ``(E, B, Z)`` from what the heads give."""
        normals = heads[0].unflatten(-1, (self.components, 2 * self.size))
        batch = normals.shape[:-2]
        u = uniform(batch, normals, generator)
        noise = standard_normal((*batch, self.size), normals, generator)
        if len(heads) > 1:
            # components first: over a short last dimension softmax takes eight times as long
            edges = torch.softmax(heads[1].movedim(-1, 0), dim=0).cumsum(0)[:-1]
            index = (u >= edges).sum(0)
        else:
            index = (u * self.components).long()
        at = index[..., None, None].expand(*batch, 1, 2 * self.size)
        mean, raw = normals.gather(-2, at).squeeze(-2).split(self.size, dim=-1)
        return torch.addcmul(mean, self.sigma(raw), noise)


class _Layer:
    """Draws of a `NormalLayer`."""

    def __init__(self, layer: Any) -> None:
        net = layer.net
        self.hidden, self.size = net.hidden, layer.child_dim
        self.film, self.enter, self.leave = (_Affine(a) for a in (net.film, net.enter, net.leave))
        self.blocks = [
            (_Affine(up), _Affine(down)) for up, down in zip(net.up, net.down, strict=True)
        ]
        self.sigma = _Spread(self.leave, slice(self.size, None), layer.log_sigma_bounds)
        # All biases that are added to h go into its shift by the context; a block reads h before
        # its own and later ones are added, which its first bias takes back.
        later = torch.zeros_like(self.enter.bias)
        for up, down in reversed(self.blocks):
            later = later + down.bias
            up.bias = up.bias - later @ up.weight
        self.film.bias[..., : self.hidden] += self.enter.bias + later

    def rescale(self, mean: Tensor, scale: Tensor) -> None:
        """Draw mean + scale · x instead of x."""
        self.leave.stretch(scale, mean, slice(0, self.size))
        self.sigma.low = self.sigma.low + scale.log()

    def draw(self, parent: Tensor, film: Tensor, generator: torch.Generator | None) -> Tensor:
        """The child ``(E, B, X)`` of a parent ``(E, B, Z)``."""
        shift, *parts = film.split(self.hidden, dim=-1)
        h = torch.baddbmm(shift, parent, self.enter.weight)
        for b, (up, down) in enumerate(self.blocks):
            inner = torch.addcmul(parts[2 * b + 1], up(h), parts[2 * b])
            h = torch.baddbmm(h, functional.silu(inner), down.weight)
        mean, raw = self.leave(functional.silu(h)).split(self.size, dim=-1)
        return torch.addcmul(mean, self.sigma(raw), standard_normal(mean.shape, mean, generator))
