"""The Gaussian mixture density, exact: Σ_m w_m(c) N(x; μ_m(c), diag σ_m(c)²)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vaerl.densities.base import ConditionalDensity, Folded, Standardise
from vaerl.densities.fold import Affine, FoldedDensity, MixtureHead, fold_stack
from vaerl.densities.kernel import Kernel
from vaerl.densities.noise import sobol_codes
from vaerl.densities.normal import MixtureValue, NormalMixture
from vaerl.densities.options import MOST, check_choice, check_positive, check_sizes
from vaerl.densities.whole import WholeMixture, log_sigma_range
from vaerl.nets import log_shares, mlp, smooth_range, smooth_range_terms


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

    name = "mixture"
    sample_mean_kind = "latent"
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {"hidden": (), "weights": "equal", "log_sigma_bounds": (-5.0, 2.0)},
        "on": {"hidden": (), "weights": "learned", "log_sigma_bounds": (-5.0, 2.0)},
        "chunk": {"hidden": (), "components": 16, "log_sigma_bounds": (-5.0, 2.0)},
    }

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
    ) -> None:
        super().__init__(context_dim, event_dim, whole=whole)
        self.components = check_positive("components", components, at_most=MOST)
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

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """The fast form, where events are real numbers."""
        steps = fold_stack(self.trunk)
        if steps is None or self.whole:
            return None
        logits = None if self.logits is None else Affine.of(self.logits)
        mixture = MixtureHead(
            Affine.of(self.head), logits, self.components, self.event_dim, self.log_sigma_bounds
        )
        return FoldedDensity(steps, mixture, (), inputs, targets)

    def kernel(self) -> Kernel | None:
        """The mixture, where its weights are equal and the rest is linear in the context."""
        plain = type(self) is Mixture and self.logits is None and not len(self.trunk)
        if not plain or self.whole:
            return None
        weights = log_shares(torch.zeros(self.components)).exp()
        terms = smooth_range_terms(*self.log_sigma_bounds)
        return Kernel(
            [self.head.weight],
            [self.head.bias],
            sizes={"components": self.components, "learned": 1, "action_range": terms},
            edges=weights.cumsum(0)[:-1],
        )
