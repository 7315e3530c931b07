"""The studies of the experiment: which rows, on which demonstrations, in chunks of which length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vaerl.experiments.cloning.rows import ROWS

HEADLINE = ("gaussian", "mixture-16", "flow-matching", "cvae")
FEW = HEADLINE[1:]
Column = tuple[str, str, int]
"""Heading, key of the number, and digits."""
WAYS: Sequence[Column] = (
    ("success", "success", 3),
    ("entropy", "entropy", 3),
    ("pooled", "pooled", 3),
    ("ways", "ways", 1),
    ("NLL", "nll", 3),
)
WRITING: Sequence[Column] = (
    ("recognised", "recognised", 3),
    ("ended", "ended", 3),
    ("start", "distance_start", 3),
    ("direction", "distance_direction", 3),
    ("order", "distance_order", 3),
    ("all three", "distance_all", 3),
    ("NLL", "nll", 3),
)


class Place(NamedTuple):
    """A cell of a study without its seed; 0 stands for what the task's own table uses."""

    task: str
    row: str
    demonstrations: int = 0
    chunk: int = 0
    seeds: int = 2


@dataclass(frozen=True)
class Study:
    """One table.

    Args:
        title: of the table.
        places: its cells.
        columns: of the table.
        caption: what the columns are.
        bounds: keys of the numbers to compare with.
    """

    title: str
    places: Sequence[Place]
    columns: Sequence[Column] = WAYS
    caption: str = (
        "entropy: over the ways of successful episodes from one first state; pooled: over all "
        "first states"
    )
    bounds: Sequence[str] = ("ceiling",)


STUDIES: Mapping[str, Study] = {
    "rows": Study(
        "Behaviour cloned from demonstrations",
        [
            *(Place("avoiding", row, seeds=5 if row in HEADLINE else 2) for row in ROWS),
            *(Place("avoiding", row, 96, seeds=5) for row in ("cvae", "flow-matching")),
            *(Place("cube", row, seeds=3 if row in HEADLINE else 1) for row in ROWS),
        ],
    ),
    "handwriting": Study(
        "Handwriting learned from people, beside people nobody learned from",
        [Place("handwriting", row, seeds=3 if row in HEADLINE else 1) for row in ROWS],
        WRITING,
        "recognised: share of drawings in which a recogniser reads the character; start, direction "
        "and order of the strokes, all three: total variation to how held-out people write it; "
        "people: their own share; floor: distance between people",
        ("people", "floor_start", "floor_direction", "floor_order", "floor_all"),
    ),
    "demonstrations": Study(
        "Success against the number of demonstrations",
        [Place("avoiding", row, count) for count in (24, 96, 480, 960) for row in FEW],
    ),
    "chunks": Study(
        "Success against the length of a chunk",
        [Place("avoiding", row, chunk=chunk) for chunk in (1, 4, 16, 50) for row in FEW],
    ),
}
