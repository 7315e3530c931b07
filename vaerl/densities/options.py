"""Checks of constructor options: each raises one line that names the argument, the value and what
is legal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

MOST = 2**16
"""Largest number of units, components or samples that are kept at once."""


def check_positive(argument: str, value: int, at_least: int = 1, at_most: int | None = None) -> int:
    """A whole number of at least `at_least`; of at most `at_most` where memory grows with it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(
            f"{argument}: got {value!r}, expected a whole number of at least {at_least}"
        )
    if at_most is not None and value > at_most:
        raise ValueError(f"{argument}: got {value:,}, expected at most {at_most:,}")
    return value


def check_flag(argument: str, value: bool) -> bool:
    """Return a flag, or raise one line."""
    if not isinstance(value, bool):
        raise ValueError(f"{argument}: got {value!r}, expected True or False")
    return value


def check_choice(argument: str, value: str, choices: Sequence[str]) -> str:
    """One of the named choices."""
    if value not in choices:
        raise ValueError(f"{argument}: got {value!r}, expected one of {', '.join(choices)}")
    return value


def check_named(argument: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options by name as a dict of their own; None stands for none."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{argument}: got {value!r}, expected a dict of options")
    return dict(value or {})


def check_sizes(
    argument: str, value: Sequence[int], allow_empty: bool = False, at_most: int = MOST
) -> tuple[int, ...]:
    """A sequence of positive whole numbers."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{argument}: got {value!r}, expected a list of whole numbers")
    sizes = tuple(value)
    legal = all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes)
    if legal and any(size > at_most for size in sizes):
        raise ValueError(f"{argument}: got {max(sizes):,}, expected sizes of at most {at_most:,}")
    if not legal or (not sizes and not allow_empty):
        needed = "a list" if allow_empty else "a non-empty list"
        raise ValueError(f"{argument}: got {value!r}, expected {needed} of positive whole numbers")
    return sizes


def check_range(argument: str, value: Sequence[float]) -> tuple[float, float]:
    """Two finite numbers, the lower first."""
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"{argument}: got {value!r}, expected two finite numbers (low, high), low < high"
        )
    return low, high


def check_seed(argument: str, value: int) -> int:
    """A whole number in [0, 2³²): what torch, numpy and gymnasium all take."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise ValueError(f"{argument}: got {value!r}, expected a whole number from 0 to 2^32 - 1")
    return value


def check_share(argument: str, value: float, all_too: bool = True) -> float:
    """A number in [0, 1], or in [0, 1) without `all_too`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0 or (value == 1.0 and not all_too):
        legal = "[0, 1]" if all_too else "[0, 1)"
        raise ValueError(f"{argument}: got {value!r}, expected a number in {legal}")
    return float(value)


def check_above_zero(argument: str, value: float, at_most: float = math.inf) -> float:
    """A positive finite number, of at most `at_most`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf or value > at_most:
        legal = "positive finite number" if at_most == math.inf else f"number in (0, {at_most:g}]"
        raise ValueError(f"{argument}: got {value!r}, expected a {legal}")
    return float(value)


def check_at_least_zero(argument: str, value: float) -> float:
    """A finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{argument}: got {value!r}, expected a finite number of at least 0")
    return float(value)
