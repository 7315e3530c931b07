"""SIGINT, SIGTERM and SIGHUP stop work at its next step; a second signal acts at once.

The second one raises KeyboardInterrupt, so that the run still says how it ended; the third has the
effect it had before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stopped(Exception):
    """A stop signal ended work that is not the training, such as an evaluation."""


def ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches the whole process group of a terminal, to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave_to_parent() -> None:
    """Leave all stop signals to the parent process: a queue or a terminal sends them to the group.

    They are handled, not ignored: processes that this one starts would inherit that.
    """
    for number in STOPPING:
        signal.signal(number, _leave_to_parent)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        os._exit(128 + number)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold stop signals back inside the block; a process that is started there does so for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class StopSignals:
    """Stores the first stop signal in `received`, between `install` and `restore`.

    Only the main thread can install handlers; elsewhere, and if not `enabled`, nothing happens.
    Signals that the process ignores, such as SIGHUP under nohup, stay ignored.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.received: str | None = None
        self._again = False
        self._enabled = enabled
        self._former: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers; while they are installed, nothing happens."""
        if self._enabled and not self._former:
            if threading.current_thread() is not threading.main_thread():
                return
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._handle)

    def clear(self) -> None:
        """Forget what was received."""
        self.received, self._again = None, False

    def check(self) -> None:
        """Raise `Stopped` if a signal has been received."""
        if self.received is not None:
            raise Stopped(self.received)

    def restore(self) -> None:
        """Restore the former handlers."""
        former, self._former = self._former, {}
        for number, handler in former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:  # nothing is printed here: a handler may interrupt a print
            self.received = signal.Signals(number).name
        elif not self._again:
            self._again = True
            raise KeyboardInterrupt
        else:
            self.restore()  # the former handler, by default the end
            signal.raise_signal(number)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handlers that are installed inside the block."""
    signals = StopSignals()
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()
