"""What the episodes of a policy came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Judged(NamedTuple):
    """Numbers, and some paths for the picture."""

    numbers: dict[str, float]
    #: by step, (episodes, steps, …), NaN after the end
    paths: np.ndarray


def pad(paths: Sequence[np.ndarray]) -> np.ndarray:
    """Paths (steps, …) of any length as one array (paths, steps, …), NaN after the end."""
    longest = max(map(len, paths))
    return np.stack(
        [np.pad(p, ((0, longest - len(p)), (0, 0)), constant_values=np.nan) for p in paths]
    ).astype(np.float32)
