"""How a table says what several seeds gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

from scipy import stats


def interval(values: Sequence[float], digits: int) -> str:
    """Mean ± half width of the 95 % interval of Student's t; the value itself where it is alone.

    >>> interval([0.8, 0.9, 1.0], 2), interval([4.0], 1)
    ('0.90 ± 0.25', '4.0')
    """
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.{digits}f} ± {half:.{digits}f}"
