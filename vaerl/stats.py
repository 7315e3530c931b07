"""The one interval that tables and pictures show: Student's t, 95 %, over independent seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t


def half_width(values: ArrayLike) -> NDArray[np.float64]:
    """Half width of the 95 % interval of the mean over the first axis, n values.

    half width = t(0.975, n − 1) · s / √n, s the standard deviation; 0 for one value, for which
    there is no interval.

    >>> float(half_width([0.8, 0.9, 1.0]).round(3)), float(half_width([4.0]))
    (0.248, 0.0)
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 1:
        return np.zeros(array.shape[1:])
    return student_t.ppf(0.975, n - 1) * array.std(axis=0, ddof=1) / np.sqrt(n)
