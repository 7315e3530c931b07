"""A density as the native update computes it (`vaerl.native`): its parameters, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Kernel:
    """Parameters and sizes of a density, or of a part of it.

    Args:
        weights, biases: of the linear maps of the context, those of `rows` one below the other.
        network: all other parameters.
        sizes: fields of the native update's specification.
        edges: between the components' shares of [0, 1), for a mixture of more than one.
    """

    weights: Sequence[Tensor] = ()
    biases: Sequence[Tensor] = ()
    network: Sequence[Tensor] = ()
    sizes: dict[str, Any] = field(default_factory=dict)
    edges: Tensor | None = None

    def beside(self, other: Kernel, **sizes: Any) -> Kernel:
        """Both, this one's parameters first."""
        return replace(
            self,
            weights=[*self.weights, *other.weights],
            biases=[*self.biases, *other.biases],
            network=[*self.network, *other.network],
            sizes={**self.sizes, **other.sizes, **sizes},
            edges=other.edges if self.edges is None else self.edges,
        )

    def without(self, parameters: Sequence[Tensor]) -> Kernel:
        """All but these parameters, with sizes as they are."""
        gone = set(map(id, parameters))
        weights, biases, network = (
            [p for p in own if id(p) not in gone]
            for own in (self.weights, self.biases, self.network)
        )
        return replace(self, weights=weights, biases=biases, network=network)


def linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias."""
    return layer.weight, layer.bias


def kernel_of(part: Any) -> Kernel | None:
    """What a part offers, None if it has no such form."""
    kernel = getattr(part, "kernel", None)
    return None if kernel is None else kernel()
