"""The fast form of a density, without gradients: weights folded into few large products.

Acting and planning call a density thousands of times on a few rows, where the number of small
operations determines the cost. Between two non-linearities everything is linear: normalisers go
into the first and the last weights, the FiLM coefficients and the prior come from one product,
consecutive biases become one, and of the prior's components only the one drawn is computed. Random
numbers are read in the order in which the modules read them, so the same generator gives the same
draws up to rounding.

Parameters may carry a leading dimension of members: contexts are ``(B, C)``, or ``(E, B, C)`` for
weights ``(E, out, in)``. Codes are for densities without members.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.base import ConditionalValue, Folded, Standardise
from vaerl.densities.noise import Noise, candidate_codes, standard_normal, uniform
from vaerl.densities.normal import DiagonalNormal, GaussianValue, MixtureValue, NormalMixture
from vaerl.native.library import plain
from vaerl.native.sample import Sampler, make_sampler
from vaerl.nets import FILM_SCALE, FiLMNet, log_shares, smooth_range_terms

Range = tuple[float, float]
"""Bounds of a log σ, in nats."""
NARROW = 16
"""Outputs below which a batched product is several times as fast the other way round, Wᵀ xᵀ."""


class Affine:
    """x W + b, for all members at once where weights have three dimensions."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.detach().mT.contiguous(), bias.detach().clone()

    @classmethod
    def of(cls, layer: Any) -> Affine:
        """A copy of a linear layer."""
        return cls(layer.weight, layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self.add(self.bias, x)

    def add(self, start: Tensor, x: Tensor) -> Tensor:
        """start + x W."""
        if x.ndim != self.weight.ndim:  # rows of codes
            return (x @ self.weight).add_(start)
        if x.ndim == 2:
            return torch.addmm(start, x, self.weight)
        if self.weight.shape[-1] < NARROW:
            return torch.baddbmm(start.mT, self.weight.mT, x.mT).mT
        return torch.baddbmm(start, x, self.weight)

    def take_raw(self, mean: Tensor, scale: Tensor) -> None:
        """Take x instead of (x − mean) / scale."""
        self.weight = self.weight / scale.unsqueeze(-1)
        self.bias = self.bias - (mean @ self.weight).reshape(self.bias.shape)

    def stretch(self, slope: float | Tensor, offset: float | Tensor, part: slice) -> None:
        """Give slope · y + offset instead of y in a part of the outputs."""
        self.weight[..., part] *= slope
        self.bias[..., part] = self.bias[..., part] * slope + offset

    def split(self, inputs: int) -> tuple[Affine, Affine]:
        """The layer of the first inputs, and that of the others, whose bias is 0."""
        one, other = copy.copy(self), copy.copy(self)
        one.weight, other.weight = self.weight.tensor_split([inputs], dim=-2)
        other.bias = torch.zeros_like(self.bias)
        return one, other

    def part(self, outputs: Tensor | slice) -> Affine:
        """A layer of some of the outputs, in any order."""
        made = copy.copy(self)
        made.weight, made.bias = self.weight[..., outputs], self.bias[..., outputs]
        return made


def side_by_side(affines: Sequence[Affine]) -> Affine:
    """One product that gives all outputs."""
    whole = affines[0]
    whole.weight = torch.cat([each.weight for each in affines], dim=-1)
    whole.bias = torch.cat([each.bias for each in affines], dim=-1)
    return whole


def fold_stack(network: nn.Module) -> list[Callable[[Tensor], Tensor]] | None:
    """The steps of a stack of linear layers and activations, as `vaerl.nets.mlp` makes it.

    None for any other network.
    """
    if type(network) not in (nn.Sequential, nn.Identity):
        return None
    steps: list[Callable[[Tensor], Tensor]] = []
    for layer in network.children():
        if _is_affine(layer):
            steps.append(Affine.of(layer))
        elif list(layer.parameters()):
            return None
        else:
            steps.append(layer)
    return steps


def _is_affine(layer: Any) -> bool:
    """Whether it is torch's linear layer, or several of them with members in front."""
    return type(layer) is nn.Linear or getattr(getattr(layer, "weight", None), "ndim", 0) == 3


class Spread:
    """log σ = smooth_range(raw) of an output; slope and offset go into the weights before."""

    def __init__(self, affine: Affine, part: slice, bounds: Range) -> None:
        slope, offset, self.width, low = smooth_range_terms(*bounds)
        affine.stretch(slope, offset, part)
        self.low = torch.tensor(low).to(affine.bias)

    def log(self, raw: Tensor) -> Tensor:
        """log σ."""
        return torch.add(self.low, torch.sigmoid(raw), alpha=self.width)

    def __call__(self, raw: Tensor) -> Tensor:
        """σ."""
        return self.log(raw).exp_()


class NormalHead:
    """Diagonal normals whose mean and log σ are linear in what comes before; N(0, I) without
    `affine`."""

    def __init__(self, size: int, affine: Affine | None = None, bounds: Range = (-1, 1)) -> None:
        self.size = size
        self.heads = [] if affine is None else [affine]
        if affine is not None:
            self.sigma = Spread(affine, slice(size, None), bounds)

    def rescale(self, mean: Tensor, scale: Tensor) -> None:
        """Draw mean + scale · x instead of x."""
        self.heads[0].stretch(scale, mean, slice(0, self.size))
        self.sigma.low = self.sigma.low + scale.log()

    def draw(self, given: Sequence[Tensor], like: Tensor, generator: Noise) -> Tensor:
        """One point at each row of `like`, from the outputs of the heads."""
        noise = standard_normal((*like.shape[:-1], self.size), like, generator)
        if not given:
            return noise
        mean, raw = given[0].chunk(2, dim=-1)
        return torch.addcmul(mean, self.sigma(raw), noise)

    def at_codes(self, u: Tensor) -> Affine | None:
        """None: u picks nothing."""
        return None

    def place(self, given: Sequence[Tensor], like: Tensor, u: Tensor, noise: Tensor) -> Tensor:
        """The points ``(B, K, X)`` of K codes."""
        if not given:
            return noise.expand(len(like), *noise.shape)
        mean, raw = given[0].unsqueeze(-2).chunk(2, dim=-1)
        return torch.addcmul(mean, self.sigma(raw), noise)

    def value(self, given: Sequence[Tensor]) -> ConditionalValue:
        """The normals themselves."""
        mean, raw = given[0].chunk(2, dim=-1)
        return GaussianValue(DiagonalNormal(mean, self.sigma.log(raw)))


class MixtureHead:
    """Mixtures of normals; a draw needs mean and σ of the component drawn, and of no other."""

    def __init__(
        self, affine: Affine, logits: Affine | None, components: int, size: int, bounds: Range
    ) -> None:
        self.components, self.size, half = components, size, components * size
        self.sigma = Spread(affine, slice(half, None), bounds)
        # mean and log σ of a component side by side: one gather picks both
        order = torch.arange(2 * half).view(2, components, size).movedim(0, 1).flatten()
        affine = affine.part(order)
        self.heads = [affine] if logits is None else [affine, logits]

    def rescale(self, mean: Tensor, scale: Tensor) -> None:
        """Draw mean + scale · x instead of x."""
        slope = torch.cat((scale, torch.ones_like(scale))).repeat(self.components)
        offset = torch.cat((mean, torch.zeros_like(mean))).repeat(self.components)
        self.heads[0].stretch(slope, offset, slice(None))
        self.sigma.low = self.sigma.low + scale.log()

    def draw(self, given: Sequence[Tensor], like: Tensor, generator: Noise) -> Tensor:
        """One point at each row of `like`, from the outputs of the heads."""
        u = uniform(like.shape[:-1], like, generator)
        noise = standard_normal((*like.shape[:-1], self.size), like, generator)
        mean, raw = self._pick(given, u.unsqueeze(-1))
        return torch.addcmul(mean.squeeze(-2), self.sigma(raw.squeeze(-2)), noise)

    def place(self, given: Sequence[Tensor], like: Tensor, u: Tensor, noise: Tensor) -> Tensor:
        """The points ``(B, K, X)`` of K codes."""
        mean, raw = self._pick(given, u.expand(len(like), *u.shape))
        return torch.addcmul(mean, self.sigma(raw), noise)

    def at_codes(self, u: Tensor) -> Affine | None:
        """Means, then raw log σ, of the components that K numbers u pick; None if weights vary."""
        if len(self.heads) > 1:
            return None
        column = torch.arange(self.size)
        first = (u * self.components).long().unsqueeze(-1) * 2 * self.size
        picked = torch.cat(((first + column).flatten(), (first + self.size + column).flatten()))
        return self.heads[0].part(picked)

    def _pick(self, given: Sequence[Tensor], u: Tensor) -> tuple[Tensor, ...]:
        """Mean and raw log σ ``batch + (K, X)`` of the components that u ``batch + (K,)`` picks."""
        if len(given) > 1:
            # components first: over a short last dimension softmax takes eight times as long
            edges = torch.softmax(given[1].movedim(-1, 0), dim=0).cumsum(0)[:-1]
            index = (u >= edges.unsqueeze(-1)).sum(0)
        else:
            index = (u * self.components).long()
        normals = given[0].unflatten(-1, (self.components, 2 * self.size))
        at = index.unsqueeze(-1).expand(*index.shape, 2 * self.size)
        return normals.gather(-2, at).chunk(2, dim=-1)

    def value(self, given: Sequence[Tensor]) -> ConditionalValue:
        """The mixtures themselves."""
        normals = given[0].unflatten(-1, (self.components, 2 * self.size))
        mean, raw = normals.chunk(2, dim=-1)
        logits = given[1] if len(given) > 1 else mean.new_zeros(mean.shape[:-1])
        return MixtureValue(NormalMixture(log_shares(logits), mean, self.sigma.log(raw)))


class FoldedLayer:
    """Normals whose mean and log σ come from a `FiLMNet` over the parent."""

    def __init__(self, net: FiLMNet, size: int, bounds: Range) -> None:
        self.hidden, self.size = net.hidden, size
        self.film, self.enter, self.leave = (Affine.of(a) for a in (net.film, net.enter, net.leave))
        self.blocks = [
            (Affine.of(up), Affine.of(down)) for up, down in zip(net.up, net.down, strict=True)
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

    def __call__(self, parent: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and raw log σ of the child of each parent."""
        shift, *parts = film.chunk(2 * len(self.blocks) + 1, dim=-1)
        h = self.enter.add(shift, parent)
        for b, (up, down) in enumerate(self.blocks):
            scale = parts[2 * b].clamp(-FILM_SCALE, FILM_SCALE)
            inner = torch.addcmul(parts[2 * b + 1], up(h), scale)
            h = down.add(h, functional.silu(inner))
        mean, raw = self.leave(functional.silu(h)).chunk(2, dim=-1)
        return mean, raw

    def draw(self, parent: Tensor, film: Tensor, generator: Noise) -> Tensor:
        """The child ``batch + (X,)`` of each parent ``batch + (Z,)``."""
        mean, raw = self(parent, film)
        return torch.addcmul(mean, self.sigma(raw), standard_normal(mean.shape, mean, generator))


class _Codes(NamedTuple):
    """Codes ``(K, E)`` in parts, and the last product before the layers if it depends on them."""

    codes: Tensor
    u: Tensor
    noises: Sequence[Tensor]
    last: Affine | None = None
    sizes: Sequence[int] = ()


class FoldedDensity(Folded):
    """A head over a stack of layers; below it, for a latent density, the layers of its chain.

    Args:
        steps: the network over the context, as `fold_stack` returns it.
        head: of x, or of the top latent.
        layers: of the chain, that of x first; none for a density without latents.
        inputs, targets: see `ConditionalDensity.fold`.
    """

    def __init__(
        self,
        steps: Sequence[Callable[[Tensor], Tensor]],
        head: NormalHead | MixtureHead,
        layers: Sequence[FoldedLayer] = (),
        inputs: Standardise | None = None,
        targets: Standardise | None = None,
    ) -> None:
        self._head, self._layers = head, list(reversed(layers))
        if targets is not None:
            (layers[0] if layers else head).rescale(*targets)
        heads = [*(layer.film for layer in self._layers), *head.heads]
        self._sizes = [each.bias.shape[-1] for each in heads]
        self._steps: list[Callable[[Tensor], Tensor]] = [*steps, side_by_side(heads)]
        if inputs is not None:
            first = self._steps[0]
            assert isinstance(first, Affine), first
            first.take_raw(*inputs)
        self._raw = inputs is None
        self._candidates: dict[int, Tensor] = {}
        self._codes: _Codes | None = None
        self._sampler: Sampler | None = None
        self._uncovered = len(layers) > 1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sampler": None}

    def _native(self, context: Tensor) -> Sampler | None:
        """The native library's form, where it covers the density and these contexts."""
        if self._uncovered or not plain(context):
            return None
        if self._sampler is None:
            parts = self._steps, self._head, self._layers
            self._sampler = make_sampler(*parts, self.matmul_precision)
            self._uncovered = self._sampler is None
        return self._sampler if self._sampler and self._sampler.takes(context) else None

    def _given(self, context: Tensor) -> tuple[Tensor, ...]:
        """FiLM coefficients of all layers from the top down, then the inputs of the head."""
        for step in self._steps:
            context = step(context)
        return context.split_with_sizes(self._sizes, dim=-1)

    def __call__(self, context: Tensor, generator: Noise = None) -> Tensor:
        native = self._native(context)
        if native is not None:
            return native(context, generator)
        given, depth = self._given(context), len(self._layers)
        x = self._head.draw(given[depth:], context, generator)
        for layer, film in zip(self._layers, given, strict=False):
            x = layer.draw(x, film, generator)
        return x

    def value(self, context: Tensor, codes: Tensor | None = None) -> ConditionalValue:
        if not self._layers:
            return self._head.value(self._given(context))
        assert codes is not None, "a latent density needs codes"
        return MixtureValue(self._mixture(context, codes))

    def _mixture(self, context: Tensor, codes: Tensor) -> NormalMixture:
        """The equal mixture of the decoded codes."""
        if self._codes is None or self._codes.codes is not codes:  # often the same
            self._codes = self._prepare(codes)
        noises, depth = list(self._codes.noises), len(self._layers)
        if self._codes.last is None:
            given = self._given(context)
            x = self._head.place(given[depth:], context, self._codes.u, noises.pop())
        else:
            h = context
            for step in self._steps[:-1]:
                h = step(h)
            given = self._codes.last(h).split_with_sizes(self._codes.sizes, dim=-1)
            at = given[depth]
            mean, raw = at.unflatten(-1, (2, len(codes), self._head.size)).unbind(-3)
            x = torch.addcmul(mean, self._head.sigma(raw), noises.pop())
        one = len(context) == 1  # then the codes are the rows
        x = x[0] if one else x
        for layer, film in zip(self._layers, given, strict=False):
            mean, raw = layer(x, film if one else film.unsqueeze(-2))
            if noises:
                x = torch.addcmul(mean, layer.sigma(raw), noises.pop())
        log_sigma = layer.sigma.log(raw)
        if one:
            mean, log_sigma = mean.unsqueeze(0), log_sigma.unsqueeze(0)
        log_weights = mean.new_full(mean.shape[:-1], -math.log(len(codes)))
        return NormalMixture(log_weights, mean, log_sigma)

    def _prepare(self, codes: Tensor) -> _Codes:
        """Codes in parts (u, then noise from h_1 up), and a last product of what they pick."""
        sizes = [1, *(layer.size for layer in self._layers[-2::-1]), self._head.size]
        u, *noises = codes.split(sizes, dim=-1)
        picked = self._head.at_codes(u.squeeze(-1)) if self._raw else None
        if picked is None:
            return _Codes(codes, u.squeeze(-1), noises)
        last, films = self._steps[-1], self._sizes[: len(self._layers)]
        assert isinstance(last, Affine), last
        last = side_by_side([last.part(slice(sum(films))), picked])
        return _Codes(codes, u.squeeze(-1), noises, last, [*films, picked.bias.shape[-1]])

    def mode(self, context: Tensor, n: int = 32) -> Tensor:
        if not self._layers:
            return self.value(context).mode(n)
        if n not in self._candidates:
            dims = self._head.size + sum(layer.size for layer in self._layers[:-1])
            self._candidates[n] = candidate_codes(n, dims).to(context)
        return self._mixture(context, self._candidates[n]).best()
