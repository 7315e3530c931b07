"""SIGINT, SIGTERM and SIGHUP stop work at its next step; a second signal acts at once."""

from __future__ import annotations

import signal
import threading
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


class StopSignals:
    """Stores the first stop signal in `received`, between `install` and `restore`.

    Only the main thread can install handlers; elsewhere, and if not `enabled`, nothing happens.
    Signals that the process ignores, such as SIGHUP under nohup, stay ignored.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.received: str | None = None
        self._enabled = enabled
        self._former: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers."""
        self.received = None
        if self._enabled and not self._former:
            if threading.current_thread() is not threading.main_thread():
                return
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._handle)

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
            return
        self.restore()  # a second signal: the former handler, by default the end
        signal.raise_signal(number)
