"""Which process may write to a run: a lock, and a number that grows with every owner.

The operating system frees the lock when its process ends, however it ends, so that the next one
takes over at once. The number is for an owner that has lost the folder without noticing: somebody
deleted it, moved it, or removed the lock. It looks before it writes, and stops.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vaerl.disk import files
from vaerl.disk.errors import RunFailed, VaerlLoadError
from vaerl.disk.reading import read_file

LOCK, OWNER = ".lock", ".owner"
HIDDEN = {LOCK, OWNER}
"""Names of what is in the folder of a run for its owner alone."""


class InUse(ValueError):
    """Another process writes to the folder; the message is one line."""


class Owner:
    """The process that writes to a folder; the next one has a greater `number`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> first, second = Owner(Path(folder.name)), Owner(Path(folder.name))
    >>> first.number, second.number
    (1, 2)
    >>> second.check()
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.number = _last_number(folder) + 1
        self._mark = f"{self.number} {secrets.token_hex(8)}".encode()
        files.write_bytes(folder / OWNER, self._mark)

    def check(self) -> None:
        """Raise a RunFailed unless the folder is still there and has no other owner."""
        try:
            found = read_file(self._folder / OWNER, len(self._mark) + 20)
        except VaerlLoadError:
            problem = "was deleted during the training"
        else:
            if found == self._mark:
                return
            problem = "has been taken over by another process"
        raise RunFailed(f"out: {str(self._folder)!r} {problem}")


def _last_number(folder: Path) -> int:
    try:
        return int(read_file(folder / OWNER, 100).split()[0])
    except (ValueError, IndexError):
        return 0


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[Owner]:
    """Keep other processes from writing to a folder inside the block; it must exist.

    Raises InUse if another process has it; WriteError.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InUse(f"out: {str(folder)!r} is in use: another process is training there") from None
    except OSError as error:
        raise ValueError(
            f"out: {str(folder / LOCK)!r} is no lock: {error.strerror or error}"
        ) from error
    try:
        yield Owner(folder)
    finally:
        with contextlib.suppress(OSError):
            lock.release()


def forget(folder: Path) -> None:
    """Remove the traces of an owner that wrote nothing, and the folder if it is empty."""
    with contextlib.suppress(OSError):
        for name in HIDDEN:
            (folder / name).unlink(missing_ok=True)
        os.rmdir(folder)
