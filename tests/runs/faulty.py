"""An operating system that fails where a test says: every call counted, one of them fatal.

After a crash nothing more happens, as after a power cut: what was written but not flushed is cut in
half. A call that only fails raises its error once, and the machine lives on.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any


class Crash(BaseException):
    """The process is gone."""


class FaultyOs:
    """Stands for the module `os` in `vaerl.disk.files`.

    Fails at call number `at` (from 0); mode crash, torn, or the name of an errno.
    """

    def __init__(self, at: int | None = None, mode: str = "crash") -> None:
        self.at, self.mode = at, mode
        self.calls: list[str] = []
        self.dead = False
        self._paths: dict[int, str] = {}
        self._unflushed: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "ftruncate", "replace", "rename", "makedirs", "unlink"):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(name)
            result = real(*arguments, **options)
            if name == "open":
                self._paths[result] = str(arguments[0])
            return result

        return call

    def _before(self, call: str) -> None:
        if self.dead:
            raise Crash(call)
        number = len(self.calls)
        self.calls.append(call)
        if number != self.at or (self.mode == "torn" and call == "write"):
            return
        if self.mode in ("crash", "torn"):
            self._die()
        raise OSError(getattr(errno, self.mode), os.strerror(getattr(errno, self.mode)))

    def _die(self) -> None:
        self.dead = True
        for name in self._unflushed:
            if os.path.exists(name):
                os.truncate(name, os.path.getsize(name) // 2)
        raise Crash(self.calls[-1])

    def write(self, fd: int, data: Any) -> int:
        self._before("write")
        if len(self.calls) - 1 == self.at and self.mode == "torn":
            os.write(fd, data[: len(data) // 2])
            self._unflushed.add(self._paths[fd])
            self._die()
        written = os.write(fd, data[:8192])  # short writes are legal
        self._unflushed.add(self._paths[fd])
        return written

    def fsync(self, fd: int) -> None:
        self._before("fsync")
        self._unflushed.discard(self._paths[fd])  # the real call is slow and proves nothing here


def read_all(folder: Path) -> dict[str, bytes]:
    """Every plain file below a folder, by its relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
