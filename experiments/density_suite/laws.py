"""Density targets: conditional laws with known log-density, sampler and entropy.

Most are finite mixtures p(x | c) = Σ_m w_m(c) p_m(x | c) of closed-form parts, so that the
log-density is exact, in nats, and the sampler draws from the very same law. Sizes: n points,
C context dimensions, X event dimensions, M parts. Everything is computed in float64. The modules
`mixtures` and `arms` define the targets themselves, `targets` lists them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import MultivariateNormal

LOG_2PI = math.log(2.0 * math.pi)

Sampler = Callable[[Tensor], Tensor]
"""Contexts (n, C) to one draw for each (n, X)."""


class Estimate(NamedTuple):
    """A Monte-Carlo mean with its standard error."""

    value: float
    standard_error: float


def estimate(samples: Tensor) -> Estimate:
    """Mean of `samples` (n,) and its standard error sd/√n.

    >>> estimate(torch.tensor([1.0, 3.0])).value
    2.0
    """
    return Estimate(samples.mean().item(), samples.std().item() / math.sqrt(len(samples)))


@dataclass(frozen=True)
class Target(ABC):
    """A conditional law p(x | c)."""

    name: ClassVar[str]
    summary: ClassVar[str]
    context_dim: ClassVar[int]
    event_dim: ClassVar[int]

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n pairs: contexts (n, C) and x (n, X)."""

    @abstractmethod
    def sample(self, contexts: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one x ~ p(x | c) for each context (n, C): (n, X)."""

    @abstractmethod
    def log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        """log p(x | c) in nats for contexts (n, C) and x (n, X): (n,)."""

    def entropy(self, n: int = 2**17, seed: int = 0) -> Estimate:
        """Conditional entropy E_c H(p(· | c)) in nats, with its standard error."""
        return estimate(-self.log_prob(*self.draw(n, torch.Generator().manual_seed(seed))))

    def judge(self, sampler: Sampler) -> dict[str, float]:
        """Further scores of a sampler of this law, for targets that have some."""
        return {}

    def shown(self) -> Tensor:
        """Three contexts (3, C) for pictures: by default −0.7, 0 and 0.7 in every coordinate."""
        return torch.tensor([[-0.7], [0.0], [0.7]], dtype=torch.float64).expand(3, self.context_dim)

    def outlines(self, x: Tensor) -> NDArray[np.float64] | None:
        """Lines (n, P, 2) that stand for events (n, X) in pictures, where dots do not."""
        return None


@dataclass(frozen=True)
class MixtureTarget(Target):
    """p(x | c) = Σ_m w_m(c) p_m(x | c) with c ~ U(−1, 1)^C.

    Subclasses give the weights, one sampler for the parts and the log-densities of the parts.
    """

    @abstractmethod
    def log_weights(self, contexts: Tensor) -> Tensor:
        """log w_m(c): (n, M), normalised over M."""

    @abstractmethod
    def part_log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        """log p_m(x | c): (n, M)."""

    @abstractmethod
    def sample_part(self, contexts: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x ~ p_m(x | c) for the given index m (n,): (n, X)."""

    def part_entropy(self, contexts: Tensor) -> Tensor | None:
        """Entropy of p_m(· | c): (n, M), or None where it has no closed form."""
        return None

    def sample_context(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n contexts from U(−1, 1)^C: (n, C)."""
        return 2.0 * torch.rand(n, self.context_dim, generator=generator, dtype=torch.float64) - 1.0

    def sample(self, contexts: Tensor, generator: torch.Generator) -> Tensor:
        contexts = contexts.double()
        part = torch.multinomial(self.log_weights(contexts).exp(), 1, generator=generator)
        return self.sample_part(contexts, part.squeeze(-1), generator)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        contexts = self.sample_context(n, generator)
        return contexts, self.sample(contexts, generator)

    def log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        contexts, x = contexts.double(), x.double()
        return torch.logsumexp(self.log_weights(contexts) + self.part_log_prob(contexts, x), dim=-1)

    def entropy(self, n: int = 2**17, seed: int = 0) -> Estimate:
        """With closed-form parts by H(x|c) = H(m|c) + H(x|m, c) − H(m|x, c), whose last term alone
        needs x and is almost constant for separated modes; else as the mean of −log p(x | c).
        """
        contexts, x = self.draw(n, torch.Generator().manual_seed(seed))
        parts = self.part_entropy(contexts)
        if parts is None:
            return estimate(-self.log_prob(contexts, x))
        log_w = self.log_weights(contexts)
        posterior = torch.log_softmax(log_w + self.part_log_prob(contexts, x), dim=-1)
        return estimate(_entropy(log_w) + (log_w.exp() * parts).sum(-1) - _entropy(posterior))


def _entropy(log_weights: Tensor) -> Tensor:
    """Entropy of finite laws (n, M) given by their log-weights: (n,)."""
    return torch.special.entr(log_weights.exp()).sum(-1)


@dataclass(frozen=True)
class GaussianTarget(MixtureTarget):
    """A mixture of Gaussians: subclasses give weights, means (n, M, X) and Cholesky factors."""

    @abstractmethod
    def means(self, contexts: Tensor) -> Tensor:
        """Means of the parts: (n, M, X)."""

    @abstractmethod
    def tril(self, contexts: Tensor) -> Tensor:
        """Lower Cholesky factors of the covariances, broadcastable to (n, M, X, X)."""

    def _parts(self, contexts: Tensor) -> MultivariateNormal:
        """The Gaussians, batch shape (n, M)."""
        tril = self.tril(contexts)
        return MultivariateNormal(self.means(contexts), scale_tril=tril, validate_args=False)

    def warp(self, contexts: Tensor, x: Tensor, inverse: bool) -> Tensor:
        """Volume-preserving map of the Gaussian space u (n, X) to x, or back; identity here."""
        return x

    def sample_part(self, contexts: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
        rows, parts = torch.arange(len(contexts)), self._parts(contexts)
        noise = torch.randn(len(rows), self.event_dim, 1, generator=generator, dtype=torch.float64)
        u = parts.loc[rows, part] + (parts.scale_tril[rows, part] @ noise).squeeze(-1)
        return self.warp(contexts, u, inverse=False)

    def part_log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        u = self.warp(contexts, x, inverse=True)
        return self._parts(contexts).log_prob(u.unsqueeze(-2))

    def part_entropy(self, contexts: Tensor) -> Tensor:
        return self._parts(contexts).entropy()
