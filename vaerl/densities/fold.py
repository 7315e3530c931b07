"""The fast form of a density, without gradients: weights folded into few large products.

Acting and planning call a density thousands of times on a few rows, and a call costs what the
number of its small operations costs. Between two non-linearities everything is linear: normalisers
go into the first and the last weights, the FiLM coefficients and the prior come from one product,
consecutive biases become one, and of the prior's components only the one drawn is computed. Random
numbers are read in the order in which the modules read them, so the same generator gives the same
draws up to rounding.

Parameters may carry a leading dimension of members: contexts are ``(B, C)``, or ``(E, B, C)`` for
weights ``(E, out, in)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.noise import standard_normal, uniform
from vaerl.nets import FiLMNet, smooth_range_terms

Standardise = tuple[Tensor, Tensor]
"""Mean and scale: what is seen or drawn is (x − mean) / scale."""


class Folded(ABC):
    """A snapshot of a density for drawing: it does not follow later changes of the parameters."""

    @abstractmethod
    def __call__(self, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw at each context, ``batch + (X,)``."""


class Affine:
    """x W + b, for all members at once where weights have three dimensions."""

    def __init__(self, layer: Any) -> None:
        self.weight = layer.weight.detach().mT.contiguous()
        self.bias = layer.bias.detach().clone()

    def __call__(self, x: Tensor) -> Tensor:
        return self.add(self.bias, x)

    def add(self, start: Tensor, x: Tensor) -> Tensor:
        """start + x W."""
        return (torch.addmm if x.ndim == 2 else torch.baddbmm)(start, x, self.weight)

    def take_raw(self, mean: Tensor, scale: Tensor) -> None:
        """Take x instead of (x − mean) / scale."""
        self.weight = self.weight / scale.unsqueeze(-1)
        self.bias = self.bias - (mean @ self.weight).reshape(self.bias.shape)

    def stretch(self, slope: float | Tensor, offset: float | Tensor, part: slice) -> None:
        """Give slope · y + offset instead of y in a part of the outputs."""
        self.weight[..., part] *= slope
        self.bias[..., part] = self.bias[..., part] * slope + offset


def side_by_side(affines: Sequence[Affine]) -> Affine:
    """One product that gives all outputs."""
    whole = affines[0]
    whole.weight = torch.cat([each.weight for each in affines], dim=-1)
    whole.bias = torch.cat([each.bias for each in affines], dim=-1)
    return whole


class Trunk:
    """Affine layers with activations between them, and several heads as one last product."""

    def __init__(self, network: nn.Module, heads: Sequence[Affine]) -> None:
        layers: Any = list(network.children())
        self.affines = [Affine(layer) for layer in layers if hasattr(layer, "weight")]
        self.activations = [layer for layer in layers if not hasattr(layer, "weight")]
        self.sizes = [head.bias.shape[-1] for head in heads]
        self.affines.append(side_by_side(heads))

    @staticmethod
    def folds(network: nn.Module) -> bool:
        """Whether the network is such a stack, as `vaerl.nets.mlp` makes it."""
        return isinstance(network, nn.Sequential | nn.Identity)

    def __call__(self, context: Tensor) -> tuple[Tensor, ...]:
        """What each head gives."""
        h = context
        for affine, activation in zip(self.affines, self.activations, strict=False):
            h = activation(affine(h))
        return self.affines[-1](h).split(self.sizes, dim=-1)


class Spread:
    """σ = exp(smooth_range(raw)) of an output whose slope and offset are in the weights before."""

    def __init__(self, affine: Affine, part: slice, bounds: tuple[float, float]) -> None:
        slope, offset, self.width, low = smooth_range_terms(*bounds)
        affine.stretch(slope, offset, part)
        self.low = torch.tensor(low).to(affine.bias)

    def __call__(self, raw: Tensor) -> Tensor:
        return torch.add(self.low, torch.sigmoid(raw), alpha=self.width).exp_()


class FoldedPrior(ABC):
    """Draws of a chain's top layer from what its `heads` give."""

    heads: list[Affine]

    @abstractmethod
    def draw(self, heads: Sequence[Tensor], batch: tuple[int, ...], generator: Any) -> Tensor:
        """z ``batch + (Z,)``."""


class FoldedMixturePrior(FoldedPrior):
    """Mean and σ of the component that is drawn, and of no other."""

    def __init__(
        self, head: Any, logits: Any, components: int, size: int, bounds: tuple[float, float]
    ) -> None:
        self.components, self.size = components, size
        first, half = Affine(head), components * size
        self.sigma = Spread(first, slice(half, None), bounds)
        # mean and log σ of a component side by side: one gather picks both
        order = torch.arange(2 * half).view(2, components, size).movedim(0, 1).flatten()
        first.weight, first.bias = first.weight[..., order], first.bias[..., order]
        self.heads = [first] if logits is None else [first, Affine(logits)]

    def draw(self, heads: Sequence[Tensor], batch: tuple[int, ...], generator: Any) -> Tensor:
        normals = heads[0].unflatten(-1, (self.components, 2 * self.size))
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


class FoldedLayer:
    """Draws of a normal whose mean and log σ come from a `FiLMNet` over the parent."""

    def __init__(self, net: FiLMNet, size: int, bounds: tuple[float, float]) -> None:
        self.hidden, self.size = net.hidden, size
        self.film, self.enter, self.leave = (Affine(a) for a in (net.film, net.enter, net.leave))
        self.blocks = [
            (Affine(up), Affine(down)) for up, down in zip(net.up, net.down, strict=True)
        ]
        self.sigma = Spread(self.leave, slice(size, None), bounds)
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
        """The child ``batch + (X,)`` of a parent ``batch + (Z,)``."""
        shift, *parts = film.split(self.hidden, dim=-1)
        h = self.enter.add(shift, parent)
        for b, (up, down) in enumerate(self.blocks):
            inner = torch.addcmul(parts[2 * b + 1], up(h), parts[2 * b])
            h = down.add(h, functional.silu(inner))
        mean, raw = self.leave(functional.silu(h)).split(self.size, dim=-1)
        return torch.addcmul(mean, self.sigma(raw), standard_normal(mean.shape, mean, generator))


class FoldedChain(Folded):
    """Ancestral draws down a chain of stochastic layers, that of x last.

    Args:
        context: embedding of the context, for which `Trunk.folds`.
        prior, layers: parts of the chain, that of x first.
        inputs, targets: what contexts and events are standardised with.
    """

    def __init__(
        self,
        context: nn.Module,
        prior: FoldedPrior,
        layers: Sequence[FoldedLayer],
        inputs: Standardise | None = None,
        targets: Standardise | None = None,
    ) -> None:
        self._prior, self._layers = prior, list(reversed(layers))
        if targets is not None:
            layers[0].rescale(*targets)
        self._trunk = Trunk(context, [*(layer.film for layer in self._layers), *prior.heads])
        if inputs is not None:
            self._trunk.affines[0].take_raw(*inputs)

    def __call__(self, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        films = self._trunk(context)
        count = len(self._layers)
        x = self._prior.draw(films[count:], context.shape[:-1], generator)
        for layer, film in zip(self._layers, films, strict=False):
            x = layer.draw(x, film, generator)
        return x
