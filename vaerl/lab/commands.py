"""Which calls of an experiment make the cells of its table again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Call(NamedTuple):
    """Tasks that have one choice of names (models, policies) and seeds."""

    tasks: list[str]
    names: tuple[str, ...]
    seeds: tuple[int, ...]


def calls_for(cells: Iterable[tuple[str, str, int]]) -> list[Call]:
    """The fewest calls found for cells (task, name, seed), in their order.

    >>> for call in calls_for([("a", "x", 0), ("a", "x", 1), ("b", "x", 0), ("b", "x", 1)]):
    ...     print(call.tasks, call.names, call.seeds)
    ['a', 'b'] ('x',) (0, 1)
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    for task, name, seed in cells:
        seeds.setdefault((task, name), []).append(seed)
    names: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (task, name), own in seeds.items():
        names.setdefault((task, tuple(sorted(own))), []).append(name)
    tasks: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for (task, chosen), some in names.items():
        tasks.setdefault((tuple(some), chosen), []).append(task)
    return [Call(some, *key) for key, some in tasks.items()]
