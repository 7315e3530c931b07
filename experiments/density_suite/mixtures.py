"""Eleven conditional mixtures in 1, 2 and 6 dimensions.

>>> import torch
>>> target = Ring(scale=0.2)
>>> contexts, x = target.draw(5, torch.Generator().manual_seed(0))
>>> target.log_prob(contexts, x).shape
torch.Size([5])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaerl.experiments.density_suite.laws import LOG_2PI, GaussianTarget, MixtureTarget


def _isotropic(scale: float, event_dim: int) -> Tensor:
    """Cholesky factor of scale² I."""
    return scale * torch.eye(event_dim, dtype=torch.float64)


def _polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    """Points radius·(cos angle, sin angle): (..., 2)."""
    return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1) * radius


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn points (..., 2) by `angle` (...)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], -1)


def _equal(contexts: Tensor, parts: int) -> Tensor:
    """Equal log-weights (n, M)."""
    return contexts.new_full((len(contexts), parts), -math.log(parts))


@dataclass(frozen=True)
class TwoModes1D(GaussianTarget):
    """Two modes at ±(1 + c/2); the upper one has probability σ(steepness·c)."""

    name: ClassVar[str] = "two-modes-1d"
    summary: ClassVar[str] = "two modes, weights and places from c"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 1
    scale: float = 0.15
    steepness: float = 2.0

    def log_weights(self, contexts: Tensor) -> Tensor:
        logit = self.steepness * contexts[:, 0]
        return torch.nn.functional.logsigmoid(torch.stack([logit, -logit], dim=-1))

    def means(self, contexts: Tensor) -> Tensor:
        place = 1.0 + 0.5 * contexts
        return torch.stack([place, -place], dim=-2)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 1)


@dataclass(frozen=True)
class Moerland(GaussianTarget):
    """The toy of Moerland, Broekens & Jonker (2017): 1, 2 and 3 branches in three regions of c.

    c < −0.3: 2.5. −0.3 ≤ c < 0.3: 4c + 4 (probability 0.2), −4c + 1.5 (0.8). c ≥ 0.3:
    ln(c + 1) + 5 (0.3), −c + 0.2 (0.35), 5c² (0.35); each with noise N(0, 0.1²).
    """

    name: ClassVar[str] = "moerland-1d"
    summary: ClassVar[str] = "toy of Moerland et al. (2017): 1, 2 and 3 branches"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 1
    scale: float = 0.1
    slope: float = 4.0

    def log_weights(self, contexts: Tensor) -> Tensor:
        by_region = contexts.new_tensor([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.3, 0.35, 0.35]])
        return by_region[self._region(contexts)].log()

    def means(self, contexts: Tensor) -> Tensor:
        c = contexts[:, 0]
        flat = torch.full_like(c, 2.5)
        branches = [
            [flat, flat, flat],
            [self.slope * c + 4.0, 1.5 - self.slope * c, flat],
            [torch.log1p(c) + 5.0, 0.2 - c, 5.0 * c.square()],
        ]
        table = torch.stack([torch.stack(row, dim=-1) for row in branches], dim=-2)  # (n, 3, M)
        return table[torch.arange(len(c)), self._region(contexts)].unsqueeze(-1)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 1)

    @staticmethod
    def _region(contexts: Tensor) -> Tensor:
        """Index 0, 1, 2 of the region of each context: (n,)."""
        c = contexts[:, 0]
        return (c >= -0.3).long() + (c >= 0.3).long()


@dataclass(frozen=True)
class SkewNormal(MixtureTarget):
    """Skew-normal (Azzalini 1985), p(x) = (2/s) φ(t) Φ(αt), t = (x − ξ)/s; ξ, s, α from c."""

    name: ClassVar[str] = "skewed-1d"
    summary: ClassVar[str] = "skew-normal, place, spread and skewness from c"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 1
    skewness: float = 6.0
    spread: float = 1.0

    def _place(self, contexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ξ, s and α, each (n, 1)."""
        place = torch.sin(math.pi * contexts)
        return place, 0.4 * torch.exp(self.spread * contexts), self.skewness * contexts

    def log_weights(self, contexts: Tensor) -> Tensor:
        return _equal(contexts, 1)

    def part_log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        place, scale, alpha = self._place(contexts)
        t = (x - place) / scale
        log_cdf = torch.special.log_ndtr(alpha * t)
        return math.log(2.0) - scale.log() - 0.5 * (LOG_2PI + t.square()) + log_cdf

    def sample_part(self, contexts: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
        place, scale, alpha = self._place(contexts)
        delta = alpha / (1.0 + alpha.square()).sqrt()
        noise = torch.randn(2, len(contexts), 1, generator=generator, dtype=torch.float64)
        return place + scale * (delta * noise[0].abs() + (1.0 - delta.square()).sqrt() * noise[1])


@dataclass(frozen=True)
class TwoModes2D(GaussianTarget):
    """Two equal narrow modes at ±(1, c₁/2) + (0, 0.3 c₂)."""

    name: ClassVar[str] = "two-modes-2d"
    summary: ClassVar[str] = "two equal narrow modes, places from c"
    context_dim: ClassVar[int] = 2
    event_dim: ClassVar[int] = 2
    scale: float = 0.05
    reach: float = 1.0

    def log_weights(self, contexts: Tensor) -> Tensor:
        return _equal(contexts, 2)

    def means(self, contexts: Tensor) -> Tensor:
        c1, c2 = contexts.unbind(-1)
        upper = torch.stack([torch.full_like(c1, self.reach), 0.3 * c2 + 0.5 * c1], dim=-1)
        lower = torch.stack([torch.full_like(c1, -self.reach), 0.3 * c2 - 0.5 * c1], dim=-1)
        return torch.stack([upper, lower], dim=-2)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 2)


@dataclass(frozen=True)
class FourModes(GaussianTarget):
    """Four modes whose weights softmax(ℓ(c)) and places, corners bent by c, depend on c."""

    name: ClassVar[str] = "four-modes-2d"
    summary: ClassVar[str] = "four modes, weights and places from c"
    context_dim: ClassVar[int] = 2
    event_dim: ClassVar[int] = 2
    scale: float = 0.1
    steepness: float = 1.5

    def log_weights(self, contexts: Tensor) -> Tensor:
        c1, c2 = self.steepness * contexts.unbind(-1)[0], self.steepness * contexts.unbind(-1)[1]
        return torch.log_softmax(torch.stack([c1, c2, -c1, -c2], dim=-1), dim=-1)

    def means(self, contexts: Tensor) -> Tensor:
        c1, c2 = contexts[:, :1], contexts[:, 1:]
        corner = math.pi * (0.25 + 0.5 * torch.arange(4, dtype=torch.float64))
        return _polar((1.0 + 0.3 * c2).unsqueeze(-1), corner + 0.6 * c1)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 2)


@dataclass(frozen=True)
class RotatedModes(GaussianTarget):
    """Four equal modes on the unit circle, turned by πc: the full circle as c goes from −1 to 1."""

    name: ClassVar[str] = "rotated-modes-2d"
    summary: ClassVar[str] = "four equal modes turned by c through the full circle"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 2
    scale: float = 0.1
    turns: float = 1.0

    def log_weights(self, contexts: Tensor) -> Tensor:
        return _equal(contexts, 4)

    def means(self, contexts: Tensor) -> Tensor:
        quarter = 0.5 * math.pi * torch.arange(4, dtype=torch.float64)
        return _polar(1.0, quarter + self.turns * math.pi * contexts)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 2)


@dataclass(frozen=True)
class Ring(MixtureTarget):
    """A ring x = R(c)·(cos θ, sin θ) + sε with θ uniform, ε ~ N(0, I), R = 1 + c/2.

    Integrating θ out: log p = −log 2πs² − (|x| − R)²/2s² + log I₀ₑ(R|x|/s²), I₀ₑ(y) = e^{−y} I₀(y).
    """

    name: ClassVar[str] = "ring-2d"
    summary: ClassVar[str] = "ring whose radius is c's"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 2
    scale: float = 0.1
    widening: float = 0.5

    def log_weights(self, contexts: Tensor) -> Tensor:
        return _equal(contexts, 1)

    def part_log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        ring, variance = 1.0 + self.widening * contexts, self.scale**2
        radius = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        bessel = torch.special.i0e(ring * radius / variance).log()
        return bessel - 0.5 * (radius - ring).square() / variance - LOG_2PI - math.log(variance)

    def sample_part(self, contexts: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
        angle = torch.rand(len(contexts), generator=generator, dtype=torch.float64)
        noise = torch.randn(len(contexts), 2, generator=generator, dtype=torch.float64)
        circle = _polar(1.0 + self.widening * contexts, 2.0 * math.pi * angle)
        return circle + self.scale * noise


@dataclass(frozen=True)
class Pinwheel(GaussianTarget):
    """Gaussian arms bent by a swirl: x = u turned by κc(|u| − 1), which keeps |u| and areas.

    So p(x | c) is the Gaussian mixture at u = x turned back by κc(|x| − 1): no Jacobian.
    """

    name: ClassVar[str] = "pinwheel-2d"
    summary: ClassVar[str] = "pinwheel, its swirl from c"
    context_dim: ClassVar[int] = 1
    event_dim: ClassVar[int] = 2
    arms: int = 5
    length: float = 0.3
    width: float = 0.08
    swirl: float = 2.0

    def _angles(self) -> Tensor:
        return 2.0 * math.pi / self.arms * torch.arange(self.arms, dtype=torch.float64)

    def log_weights(self, contexts: Tensor) -> Tensor:
        return _equal(contexts, self.arms)

    def means(self, contexts: Tensor) -> Tensor:
        return _polar(1.0, self._angles()).expand(len(contexts), -1, -1)

    def tril(self, contexts: Tensor) -> Tensor:
        out, across = _polar(1.0, self._angles()), _polar(1.0, self._angles() + 0.5 * math.pi)
        axes = torch.stack([self.length * out, self.width * across], dim=-1)
        return torch.linalg.cholesky(axes @ axes.mT)

    def warp(self, contexts: Tensor, x: Tensor, inverse: bool) -> Tensor:
        radius = torch.linalg.vector_norm(x, dim=-1)
        angle = self.swirl * contexts[:, 0] * (radius - 1.0)
        return _rotate(x, -angle if inverse else angle)


@dataclass(frozen=True)
class Overlap(GaussianTarget):
    """Twelve broad overlapping modes on an ellipse whose weights, shape and tilt depend on c."""

    name: ClassVar[str] = "overlap-2d"
    summary: ClassVar[str] = "twelve broad overlapping modes"
    context_dim: ClassVar[int] = 2
    event_dim: ClassVar[int] = 2
    parts: int = 12
    scale: float = 0.35

    def log_weights(self, contexts: Tensor) -> Tensor:
        phase = torch.arange(self.parts, dtype=torch.float64) * 2.4
        logits = torch.cos(phase) * contexts[:, :1] + torch.sin(phase) * contexts[:, 1:]
        return torch.log_softmax(1.5 * logits, dim=-1)

    def means(self, contexts: Tensor) -> Tensor:
        angle = 2.0 * math.pi / self.parts * torch.arange(self.parts, dtype=torch.float64)
        axes = torch.stack([1.0 + 0.3 * contexts[:, 0], 0.8 - 0.3 * contexts[:, 0]], dim=-1)
        ellipse = axes.unsqueeze(-2) * _polar(1.0, angle)
        return _rotate(ellipse, contexts[:, 1:])

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 2)


@dataclass(frozen=True)
class Corners(GaussianTarget):
    """Modes on six of the 64 corners of (±1)⁶, weights softmax(A c), all moved a little by c."""

    name: ClassVar[str] = "corners-6d"
    summary: ClassVar[str] = "modes on 6 of the 64 corners of the cube"
    context_dim: ClassVar[int] = 3
    event_dim: ClassVar[int] = 6
    scale: float = 0.1
    steepness: float = 1.5
    #: the corners in binary, bit j for coordinate j; every two differ in two coordinates or more
    codes: tuple[int, ...] = (0, 7, 25, 42, 52, 63)

    def log_weights(self, contexts: Tensor) -> Tensor:
        phase = torch.arange(len(self.codes), dtype=torch.float64).unsqueeze(-1)
        rows = torch.sin(phase * contexts.new_tensor([1.0, 2.0, 3.0]) + 1.0)
        return torch.log_softmax(self.steepness * contexts @ rows.mT, dim=-1)

    def means(self, contexts: Tensor) -> Tensor:
        bits = torch.tensor([[code >> j & 1 for j in range(6)] for code in self.codes])
        shift = 0.2 * torch.cat([contexts, -contexts], dim=-1)
        return (2.0 * bits.double() - 1.0) + shift.unsqueeze(-2)

    def tril(self, contexts: Tensor) -> Tensor:
        return _isotropic(self.scale, 6)


@dataclass(frozen=True)
class LowRank(GaussianTarget):
    """Three modes in 6-D with covariance W_m W_mᵀ + s² I: two broad directions, four narrow."""

    name: ClassVar[str] = "low-rank-6d"
    summary: ClassVar[str] = "three modes spread along two directions of six"
    context_dim: ClassVar[int] = 2
    event_dim: ClassVar[int] = 6
    scale: float = 0.1
    breadth: float = 0.6

    def log_weights(self, contexts: Tensor) -> Tensor:
        c1, c2 = contexts.unbind(-1)
        return torch.log_softmax(torch.stack([c1, c2, -c1 - c2], dim=-1), dim=-1)

    def means(self, contexts: Tensor) -> Tensor:
        c1, c2 = contexts[:, :1, None], contexts[:, 1:, None]
        mode = torch.arange(3, dtype=torch.float64).unsqueeze(-1)
        place = torch.sin(2.0 * mode + 1.3 * torch.arange(6, dtype=torch.float64))
        return place * (1.0 + 0.3 * c1) + 0.4 * c2 * torch.flip(place, dims=[-1])

    def tril(self, contexts: Tensor) -> Tensor:
        mode = torch.arange(3, dtype=torch.float64)[:, None, None]
        column = torch.arange(1, 3, dtype=torch.float64)
        row = torch.arange(6, dtype=torch.float64)[:, None]
        loadings = self.breadth * torch.cos(column * row + 2.0 * mode)
        return torch.linalg.cholesky(loadings @ loadings.mT + _isotropic(self.scale**2, 6))
