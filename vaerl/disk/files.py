"""Files written so that neither a kill nor a full disk damages what was there before.

A whole file is written under a temporary name, flushed to the disk and renamed: a reader sees the
old bytes or the new ones, never a mixture. A growing file (`LineWriter`) can lose only its last
line. A directory (a checkpoint) is filled under a hidden name and renamed when it is complete.
Order of operations after Pillai et al. (2014), "All File Systems Are Not Created Equal".

Every failure raises a `WriteError` (an OSError). A failed fsync counts as a failed write and is not
repeated on the same file, since the system may already have dropped the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from vaerl.disk.errors import WriteError
from vaerl.disk.reading import StrPath

PARTIAL = ".partial-"  # a file or directory still being written, or left so by a kill
TRASH = ".trash-"  # a directory being deleted
BLOCK = 2**16  # bytes read at once in search of the last line
SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # no link, no waiting for a pipe


def is_leftover(path: Path) -> bool:
    """Whether a write or a deletion that was cut off left this file or directory."""
    return path.name.startswith((PARTIAL, TRASH))


@contextlib.contextmanager
def _writing(path: StrPath) -> Iterator[None]:
    """Turn any OSError inside into the one `WriteError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(error, path) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: StrPath) -> None:
    """Make the names inside `path` durable (no such call exists on Windows)."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: StrPath) -> Path:
    """Create `path` and the missing directories above it."""
    with _writing(path):
        os.makedirs(path, exist_ok=True)
    return Path(path)


def check_folder(argument: str, path: StrPath) -> Path:
    """Return `path` if it is a folder or can become one, else raise a ValueError of one line.

    >>> check_folder("out", ".").name
    ''
    """
    path = Path(path)
    place = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not os.path.isdir(place):
        problem = f"{str(place)!r} is in the way: it is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        problem = f"no permission to write in {str(place)!r}"
    else:
        return path
    raise ValueError(f"{argument}: got {str(path)!r}, expected a writable folder; {problem}")


def check_file(argument: str, path: StrPath) -> Path:
    """Return `path` if a file can be written there, else raise a ValueError of one line."""
    path = Path(path)
    if os.path.isdir(path):
        raise ValueError(f"{argument}: got the folder {str(path)!r}, expected the name of a file")
    check_folder(argument, path.parent)
    return path


def write_new(path: StrPath, data: bytes) -> None:
    """Write a file that must not exist yet and flush it to the disk."""
    with _writing(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)


def write_bytes(path: StrPath, data: bytes) -> Path:
    """Put all of `data` at `path`, or raise WriteError and leave the old file.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_bytes(Path(folder.name) / "note.txt", b"one").read_bytes()
    b'one'
    >>> write_bytes(Path(folder.name) / "note.txt", b"two").read_bytes()
    b'two'
    >>> folder.cleanup()
    """
    path = Path(path)
    temporary = path.with_name(f"{PARTIAL}{path.name}-{secrets.token_hex(4)}")
    try:
        with _writing(path):
            write_new(temporary, data)
            os.replace(temporary, path)
            _sync_directory(path.parent)
    except WriteError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


def write_text(path: StrPath, text: str) -> Path:
    """`write_bytes` of UTF-8 text."""
    return write_bytes(path, text.encode("utf-8"))


def publish_directory(staging: Path, final: Path) -> None:
    """Rename a filled directory to its final name, durably."""
    with _writing(final):
        _sync_directory(staging)
        os.rename(staging, final)
        _sync_directory(final.parent)


def remove_tree(path: Path) -> None:
    """Delete a directory or file; a kill halfway leaves only a `.trash-` directory behind."""
    with _writing(path):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        if not path.name.startswith((TRASH, PARTIAL)):
            trash = path.with_name(f"{TRASH}{secrets.token_hex(4)}")
            os.rename(path, trash)
            path = trash
        shutil.rmtree(path)


def _end_of_lines(fd: int) -> int:
    """Where the last complete line of a plain file ends."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    end = status.st_size
    while end > 0:
        start = max(0, end - BLOCK)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


class LineWriter:
    """Appends lines to a file; a kill loses at most the line that is being written.

    Opening the file removes an incomplete last line. If a line does not fit (disk full), what was
    written of it is removed. Lines reach the operating system at once and the disk at `sync()`: a
    killed process loses nothing, a power cut whatever came after the last `sync()`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "log.jsonl"
    >>> _ = path.write_bytes(b'{"a": 1}\\n{"a": ')
    >>> writer = LineWriter(path)
    >>> writer.write('{"a": 2}'); writer.close()
    >>> path.read_text().splitlines()
    ['{"a": 1}', '{"a": 2}']
    >>> folder.cleanup()
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        with _writing(self.path):
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | SAFE, 0o666)
            self._size = _end_of_lines(self._fd)
            self._drop_torn_line(self._fd)

    def write(self, line: str) -> None:
        """Append one line (without its newline); ValueError if it holds a newline."""
        if self._fd is None:
            raise ValueError(f"{self.path.name}: the file is closed")
        if "\n" in line:
            raise ValueError(f"{self.path.name}: got several lines, expected one")
        data = line.encode("utf-8") + b"\n"
        with _writing(self.path):
            self._drop_torn_line(self._fd)  # if an earlier failure left one
            try:
                _write_all(self._fd, data)
            except OSError:
                with contextlib.suppress(OSError):
                    self._drop_torn_line(self._fd)
                raise
            self._size += len(data)

    def _drop_torn_line(self, fd: int) -> None:
        if os.fstat(fd).st_size != self._size:
            os.ftruncate(fd, self._size)

    def sync(self) -> None:
        """Flush to the disk."""
        if self._fd is not None:
            with _writing(self.path):
                os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
