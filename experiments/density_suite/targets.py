"""The targets of the density suite by name, and the variants on which settings are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from vaerl.experiments.density_suite.arms import Arm4, Arm8, Arm16
from vaerl.experiments.density_suite.laws import Target
from vaerl.experiments.density_suite.mixtures import (
    Corners,
    FourModes,
    LowRank,
    Moerland,
    Overlap,
    Pinwheel,
    Ring,
    RotatedModes,
    SkewNormal,
    TwoModes1D,
    TwoModes2D,
)
from vaerl.names import check_name


def _by_name(*targets: Target) -> Mapping[str, Target]:
    return MappingProxyType({target.name: target for target in targets})


TARGETS = _by_name(
    TwoModes1D(), Moerland(), SkewNormal(), TwoModes2D(), FourModes(), RotatedModes(), Ring(),
    Pinwheel(), Overlap(), Corners(), LowRank(), Arm4(), Arm8(), Arm16(),
)  # fmt: skip

#: The same families with other parameters: settings are tuned on these, never on TARGETS.
VALIDATION_TARGETS = _by_name(
    TwoModes1D(scale=0.2, steepness=1.0),
    Moerland(scale=0.12, slope=3.0),
    SkewNormal(skewness=4.0, spread=0.7),
    TwoModes2D(scale=0.07, reach=0.8),
    FourModes(scale=0.08, steepness=1.0),
    RotatedModes(scale=0.08, turns=1.2),
    Ring(scale=0.12, widening=0.4),
    Pinwheel(arms=4, length=0.25, width=0.09, swirl=2.5),
    Overlap(parts=10, scale=0.3),
    Corners(scale=0.12, steepness=1.0, codes=(1, 6, 24, 43, 53, 62)),
    LowRank(scale=0.12, breadth=0.5),
    Arm4(sigma=0.03),
    Arm8(sigma=0.03),
    Arm16(sigma=0.03),
)


def target_names() -> tuple[str, ...]:
    """Names of all targets: mixtures by rising event dimension, then arms."""
    return tuple(TARGETS)


def make_target(name: str, validation: bool = False, **parameters: float) -> Target:
    """Give the target of that name, its validation variant, or one with other parameters.

    Raises ValueError for an unknown name, TypeError for an unknown parameter.

    >>> make_target("ring-2d", scale=0.2).scale
    0.2
    """
    check_name("target", name, TARGETS)
    return replace((VALIDATION_TARGETS if validation else TARGETS)[name], **parameters)
