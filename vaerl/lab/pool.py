"""Independent tasks, run one after the other or side by side.

`Executor` is the seam: whoever runs a piece of work somewhere and says how it ended. A failing
piece does not stop the others. An interrupt gives the running ones time to save their state.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

from vaerl.densities.options import check_positive
from vaerl.runs.signals import ignore_interrupts

POLL = 0.25  # seconds between two looks at the progress
LAST_SAVE = 60.0  # seconds that a worker has to save its state after its parent has died

Tick = Callable[[float], None]
"""Called with the amount of work done so far."""
Work = Callable[[Any, Tick], Any]
"""A picklable function of an item; it reports its progress through `Tick`."""
Show = Callable[[int, float], None]
"""Called with the place of an item and the amount of work done for it."""


class Ended(NamedTuple):
    """How the work on the item at `place` ended: with a value or with an error."""

    place: int
    value: Any
    error: Exception | None


class Executor(Protocol):
    """Runs work on items and yields each as it ends, in any order."""

    def run(self, work: Work, items: Sequence[Any], show: Show) -> Iterator[Ended]:
        """Run all items; KeyboardInterrupt stops the rest."""
        ...


def make_processes(jobs: int, address: str = "", storage: Path | None = None) -> Executor:
    """One job runs in this process, more run in worker processes; no address, no storage.

    Raises:
        ValueError: an address was given.
    """
    if address:
        raise ValueError(f"--ray-address: got {address!r}, expected --executor ray with it")
    return InProcess() if jobs == 1 else Processes(jobs)


MakeExecutor = Callable[[int], Executor]
_chosen: ContextVar[MakeExecutor] = ContextVar("executor", default=make_processes)


@contextmanager
def work_on(make: MakeExecutor) -> Iterator[None]:
    """Have `make_executor` use `make` inside the block."""
    token = _chosen.set(make)
    try:
        yield
    finally:
        _chosen.reset(token)


def make_executor(jobs: int) -> Executor:
    """The chosen executor (`work_on`; by default `make_processes`) for so many items at a time.

    >>> [end.value for end in make_executor(1).run(lambda x, tick: -x, [1, 2], print)]
    [-1, -2]
    """
    return _chosen.get()(check_positive("jobs", jobs))


class InProcess:
    """Runs the items in order in this process."""

    def run(self, work: Work, items: Sequence[Any], show: Show) -> Iterator[Ended]:
        """See `Executor.run`."""
        for place, item in enumerate(items):
            try:
                ended = Ended(place, work(item, partial(show, place)), None)
            except Exception as error:
                ended = Ended(place, None, error)
            yield ended


class Processes:
    """Runs up to `jobs` items at a time, each in a fresh process.

    Workers end with the process that started them, even if it is killed. On an interrupt each
    worker receives one SIGTERM: a training saves its state, other work stops at once.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, work: Work, items: Sequence[Any], show: Show) -> Iterator[Ended]:
        """See `Executor.run`."""
        if not items:
            return
        context = multiprocessing.get_context("spawn")
        done = context.RawArray("d", len(items))
        stop = context.Event()
        jobs = min(self.jobs, len(items))
        pool = ProcessPoolExecutor(jobs, context, _begin_worker, (done, stop))
        waiting = {pool.submit(_work_in_worker, work, item, i): i for i, item in enumerate(items)}
        try:
            while waiting:
                ended, _ = wait(waiting, POLL, FIRST_COMPLETED)
                for place, amount in enumerate(done):
                    show(place, amount)
                for future in ended:
                    place, error = waiting.pop(future), future.exception()
                    if isinstance(error, Exception):
                        yield Ended(place, None, error)
                    else:  # raises the KeyboardInterrupt of a worker that was stopped
                        yield Ended(place, future.result(), None)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker(NamedTuple):
    """What a worker process shares with its parent."""

    done: Any
    stop: Event


_worker: _Worker | None = None
_busy = threading.Lock()


def _begin_worker(done: Any, stop: Event) -> None:
    global _worker
    _worker = _Worker(done, stop)
    ignore_interrupts()
    signal.signal(signal.SIGTERM, _handle_stop)
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()


def _work_in_worker(work: Work, item: Any, place: int) -> Any:
    assert _worker is not None
    done, stop = _worker
    if stop.is_set():
        raise KeyboardInterrupt
    try:
        with _busy:
            return work(item, partial(done.__setitem__, place))
    except KeyboardInterrupt:
        if not stop.is_set():  # killed, or left alone by its parent
            os._exit(1)
        raise


def _watch_parent(stop: Event) -> None:
    """Interrupt the work once the parent asks for it or is dead; outlive a dead parent briefly."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while parent.is_alive() and not stop.wait(POLL):
        pass
    if _busy.locked():
        os.kill(os.getpid(), signal.SIGTERM)
    if not stop.is_set():
        _busy.acquire(timeout=LAST_SAVE)
        os._exit(1)


def _handle_stop(number: int, frame: FrameType | None) -> None:
    if _busy.locked():
        raise KeyboardInterrupt
    if _worker is None or not _worker.stop.is_set():
        os._exit(1)
