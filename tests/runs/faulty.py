"""An operating system that fails where a test says: every call counted, one of them fatal.

After a crash nothing more happens, as after a power cut: what was written but not flushed is cut in
half. A call that only fails raises its error once, and the machine lives on.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from vaerl.disk.files import FileOps


class Crash(BaseException):
    """The process is gone."""


class FaultyOps(FileOps):
    """Fails at call number `at` (from 0); mode crash, torn, or the name of an errno."""

    def __init__(self, at: int | None = None, mode: str = "crash") -> None:
        self.at, self.mode = at, mode
        self.calls: list[str] = []
        self.dead = False
        self._paths: dict[int, str] = {}
        self._unflushed: set[str] = set()

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

    def open(self, path: Any, flags: int) -> int:
        self._before("open")
        fd = super().open(path, flags)
        self._paths[fd] = str(path)
        return fd

    def write(self, fd: int, data: Any) -> int:
        self._before("write")
        if self._is_now() and self.mode == "torn":
            super().write(fd, data[: len(data) // 2])
            self._unflushed.add(self._paths[fd])
            self._die()
        written = super().write(fd, data[:8192])  # short writes are legal
        self._unflushed.add(self._paths[fd])
        return written

    def _is_now(self) -> bool:
        return len(self.calls) - 1 == self.at

    def fsync(self, fd: int) -> None:
        self._before("fsync")
        self._unflushed.discard(self._paths[fd])  # the real call is slow and proves nothing here

    def truncate(self, fd: int, size: int) -> None:
        self._before("truncate")
        super().truncate(fd, size)

    def replace(self, source: Any, target: Any) -> None:
        self._before("replace")
        super().replace(source, target)

    def rename(self, source: Any, target: Any) -> None:
        self._before("rename")
        super().rename(source, target)

    def mkdir(self, path: Any) -> None:
        self._before("mkdir")
        super().mkdir(path)

    def unlink(self, path: Any) -> None:
        self._before("unlink")
        super().unlink(path)

    def rmdir(self, path: Any) -> None:
        self._before("rmdir")
        super().rmdir(path)


def read_all(folder: Path) -> dict[str, bytes]:
    """Every plain file below a folder, by its relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
