"""Conditional densities p(x | c), exchangeable by name."""

from vaerl.densities.base import (
    Bounds,
    ConditionalDensity,
    ConditionalValue,
    IntractableError,
)
from vaerl.densities.registry import (
    DENSITIES,
    density_class,
    density_names,
    density_options,
    make_density,
)

__all__ = [
    "DENSITIES",
    "Bounds",
    "ConditionalDensity",
    "ConditionalValue",
    "IntractableError",
    "density_class",
    "density_names",
    "density_options",
    "make_density",
]
