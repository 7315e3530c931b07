"""The Gaussian mixture density, exact: Σ_m w_m(c) N(x; μ_m(c), diag σ_m(c)²)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaerl.densities.base import ConditionalDensity, ConditionalValue
from vaerl.densities.noise import Shape, sobol_codes
from vaerl.densities.normal import NormalMixture
from vaerl.densities.options import check_choice, check_positive, check_sizes
from vaerl.densities.whole import WholeMixture, log_sigma_range
from vaerl.nets import log_shares, mlp, smooth_range


class MixtureValue(ConditionalValue):
    """A Gaussian mixture at given contexts; samples carry no gradient to the weights."""

    def __init__(self, mixture: NormalMixture) -> None:
        super().__init__(mixture.mean.shape[:-2], mixture.mean.shape[-1])
        self.mixture = mixture

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        return self.mixture.rsample(sample_shape, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.mixture.log_prob(self._check_event(x))

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """The component mean of highest density (candidates are the means; n is not needed)."""
        check_positive("n", n)
        candidates = self.mixture.places.movedim(-2, 0)
        best = self.log_prob(candidates).argmax(0)
        index = best[None, ..., None].expand(1, *candidates.shape[1:])
        return candidates.gather(0, index).squeeze(0)

    @property
    def mean(self) -> Tensor:
        """E[x | c], ``batch + (X,)``."""
        return self.mixture.moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of each dimension, ``batch + (X,)``."""
        return self.mixture.moments()[1].square()


class Mixture(ConditionalDensity):
    """Gaussian mixture; weights, means and scales follow the context (Bishop 1994).

    Args:
        components: number of Gaussians.
        hidden: widths of the network over the context; ``()`` makes every parameter linear in c.
        weights: "learned" from c, or "equal".
        log_sigma_bounds: range of log σ, in nats.
        spread: scale of the components' means at the start.
        whole: events are whole numbers (`vaerl.densities.whole`).

    >>> from vaerl.densities import make_density
    >>> density = make_density("mixture", context_dim=3, event_dim=2, components=4)
    >>> density(torch.zeros(5, 3)).log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    name: ClassVar[str] = "mixture"

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        components: int = 8,
        hidden: Sequence[int] = (64, 64),
        weights: str = "learned",
        log_sigma_bounds: tuple[float, float] = (-7.0, 2.0),
        spread: float = 1.0,
        whole: bool = False,
        squash: bool = False,
    ) -> None:
        super().__init__(context_dim, event_dim, squash=squash, whole=whole)
        self.components = check_positive("components", components)
        self.weights = check_choice("weights", weights, ("learned", "equal"))
        self.log_sigma_bounds = log_sigma_range(log_sigma_bounds, whole)
        hidden = check_sizes("hidden", hidden, allow_empty=True)
        width = hidden[-1] if hidden else context_dim
        self.trunk = mlp(context_dim, hidden)
        self.logits = nn.Linear(width, components) if weights == "learned" else None
        self.head = nn.Linear(width, 2 * components * event_dim)
        with torch.no_grad():
            centres = spread * sobol_codes(components, event_dim, seed=1)[:, 1:]
            self.head.bias[: components * event_dim].copy_(centres.flatten())
            self.head.bias[components * event_dim :].zero_()

    def _value(self, context: Tensor) -> MixtureValue:
        features = self.trunk(context)
        shape = (*context.shape[:-1], self.components, self.event_dim)
        mean, raw = self.head(features).chunk(2, dim=-1)
        logits = mean.new_zeros(shape[:-1]) if self.logits is None else self.logits(features)
        law = WholeMixture if self.whole else NormalMixture
        return MixtureValue(
            law(
                log_shares(logits),
                mean.reshape(shape),
                smooth_range(raw.reshape(shape), *self.log_sigma_bounds),
            )
        )
