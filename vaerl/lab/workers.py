"""Worker processes that end with the process that started them, however that one ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

_under_way = threading.Lock()


def worker_pool(
    jobs: int, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of at most `jobs` fresh processes, each of which first calls `begin(*arguments)`.

    A pool shuts its workers down itself unless the process that made it is killed. Here they end
    then too: at once, or after what they do under `ends_first`.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(begin, arguments)
    )


@contextmanager
def ends_first() -> Iterator[None]:
    """Let the body end, in a worker process, before that follows its parent."""
    with _under_way:
        yield


def _begin(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    with _under_way:
        os._exit(1)
