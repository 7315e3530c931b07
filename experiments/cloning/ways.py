"""In which way a character was written: where the pen starts, where to, and in which order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from vaerl.envs.handwriting import resample

Signature = tuple[int, int, tuple[int, ...]]
SHORT = 5.0 / 105.0
"""Length of a stroke, in sides of the sheet, below which it is a dot: 5 of Omniglot's pixels."""
DOT = -1
"""Direction of a dot."""


def signature(strokes: Sequence[np.ndarray]) -> Signature:
    """The way in which strokes (n, 2) were written, in sides of the sheet.

    The cell 0 to 8 of the first start (3 × 3 cells of the drawing's bounding box, from the lower
    left), the direction 0 to 7 of the first stroke (0 right, 2 up), and the directions 0 to 3 of
    all strokes in order (0 right, 1 up). The direction of a stroke is that from its start to the
    middle of its arc, so that closed strokes have one.

    >>> signature([np.array([[0.1, 0.9], [0.1, 0.1]]), np.array([[0.1, 0.1], [0.9, 0.1]])])
    (6, 6, (3, 0))
    """
    ink = np.concatenate(list(strokes))
    low, size = ink.min(axis=0), np.maximum(np.ptp(ink, axis=0), 1e-9)
    column, row = np.minimum((3 * (strokes[0][0] - low) / size).astype(int), 2).tolist()
    return column + 3 * row, _direction(strokes[0], 8), tuple(_direction(s, 4) for s in strokes)


def total_variation(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Half the sum of |p − q| over the shares of two samples: 0 alike, 1 disjoint.

    >>> total_variation("aab", "abb")
    0.3333333333333333
    """
    p, q = Counter(first), Counter(second)
    return sum(abs(p[way] / len(first) - q[way] / len(second)) for way in {*p, *q}) / 2


def distance(
    first: Sequence[tuple[int, Hashable]], second: Sequence[tuple[int, Hashable]]
) -> float:
    """Mean over characters of the total variation between two sets of (character, way).

    Characters that only one set holds are left out. Small samples of one law are apart as well:
    compare distances only at equal numbers of drawings a character, and with `floor`.

    Raises:
        ValueError: no character is in both.
    """
    one, two = _by_character(first), _by_character(second)
    both = sorted(one.keys() & two.keys())
    if not both:
        raise ValueError("distance: got no character that both sets hold, expected one")
    return float(np.mean([total_variation(one[c], two[c]) for c in both]))


def floor(
    people: Sequence[tuple[int, int, Hashable]], sizes: tuple[int, int], *, repeats: int = 20,
    seed: int = 0,
) -> float:  # fmt: skip
    """Mean `distance` between two disjoint groups of people of these sizes, drawn at random.

    `people` holds (character, drawer, way). Nobody who writes as people do can be asked for less.
    """
    drawers = sorted({drawer for _, drawer, _ in people})
    if sum(sizes) > len(drawers):
        raise ValueError(f"sizes: got {sizes}, expected at most {len(drawers)} people together")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        order = rng.permutation(drawers).tolist()
        groups = set(order[: sizes[0]]), set(order[sizes[0] : sum(sizes)])
        found.append(distance(*([(c, w) for c, d, w in people if d in g] for g in groups)))
    return float(np.mean(found))


def _direction(stroke: np.ndarray, sectors: int) -> int:
    if np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum() < SHORT:
        return DOT
    points = resample(stroke, SHORT / 2)
    x, y = points[len(points) // 2] - points[0]
    return round(np.arctan2(y, x) / (2 * np.pi / sectors)) % sectors


def _by_character(drawings: Sequence[tuple[int, Hashable]]) -> dict[int, list[Hashable]]:
    found: dict[int, list[Hashable]] = defaultdict(list)
    for character, way in drawings:
        found[character].append(way)
    return found
