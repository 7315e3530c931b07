"""Cells of a table worked out one after the other or in several processes, on few threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import TypeVar

from vaerl.lab.workers import worker_pool
from vaerl.threads import limit_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_result(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int = 1
) -> Iterator[tuple[Item, Result]]:
    """Every item with its result as it ends: in this process for one job, else in `jobs` others.

    >>> sorted(each_result(abs, [-1, 2]))
    [(-1, 1), (2, 2)]
    """
    if jobs == 1:
        yield from ((item, _limited(work, item)) for item in items)
        return
    with worker_pool(jobs) as pool:
        waiting = {pool.submit(_limited, work, item): item for item in items}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _limited(work: Callable[[Item], Result], item: Item) -> Result:
    with limit_threads():
        return work(item)
