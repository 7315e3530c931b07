"""Every write of a run goes through here, so that a kill or a full disk never costs what was good.

A whole file is written beside its place, flushed to the disk, and renamed onto it: a reader sees
the old bytes or the new ones, nothing between. A growing file (`LineWriter`) only ever loses its
torn last line. A directory (a checkpoint) is filled under a hidden name and renamed when complete.
Order of operations after Pillai et al. (2014), "All File Systems Are Not Created Equal".

Failures surface as one `WriteError` (an OSError). A failed fsync counts as a failed write and is
not repeated on the same file, since the system may already have dropped the bytes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from vaerl.disk.errors import WriteError

PARTIAL = ".partial-"  # a directory still being filled, or left so by a kill
TRASH = ".trash-"  # a directory being deleted

StrPath = str | os.PathLike[str]


class FileOps:
    """The operating system's calls, one method each; a test puts a failing one in `files.ops`."""

    def open(self, path: StrPath, flags: int) -> int:
        return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        if sys.platform == "darwin":  # there fsync leaves the bytes in the drive's cache
            import fcntl

            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def replace(self, source: StrPath, target: StrPath) -> None:
        os.replace(source, target)

    def rename(self, source: StrPath, target: StrPath) -> None:
        os.rename(source, target)

    def mkdir(self, path: StrPath) -> None:
        os.mkdir(path)

    def unlink(self, path: StrPath) -> None:
        os.unlink(path)

    def rmdir(self, path: StrPath) -> None:
        os.rmdir(path)


ops: FileOps = FileOps()


@contextlib.contextmanager
def _writing(path: StrPath) -> Iterator[None]:
    """Turn any OSError inside into the one `WriteError` that names `path`."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error, path) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[ops.write(fd, view) :]


def sync_directory(path: StrPath) -> None:
    """Make the names inside `path` durable (no such call exists on Windows)."""
    if os.name == "nt":
        return
    with _writing(path):
        fd = ops.open(path, os.O_RDONLY)
        try:
            ops.fsync(fd)
        finally:
            os.close(fd)


def make_directory(path: StrPath) -> Path:
    """Create `path` and the directories above it that are missing."""
    path = Path(path)
    if not path.is_dir():
        if path.parent != path:
            make_directory(path.parent)
        with _writing(path):
            try:
                ops.mkdir(path)
            except FileExistsError:
                if not path.is_dir():
                    raise
    return path


def check_folder(argument: str, path: StrPath) -> Path:
    """Return `path` if it is a folder or can become one, else raise a ValueError of one line.

    >>> check_folder("out", ".").name
    ''
    """
    path = Path(path)
    for place in (path, *path.parents):
        if os.path.isdir(place):
            if not os.access(place, os.W_OK | os.X_OK):
                raise ValueError(
                    f"{argument}: got {str(path)!r}, expected a folder that can be written: "
                    f"{str(place)!r} is closed to this user"
                )
            break
        if os.path.lexists(place):
            raise ValueError(
                f"{argument}: got {str(path)!r}, expected a folder: "
                f"{str(place)!r} is in the way and is none"
            )
    return path


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
        fd = ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _write_all(fd, data)
            ops.fsync(fd)
        finally:
            os.close(fd)


def write_bytes(path: StrPath, data: bytes) -> Path:
    """Put `data` at `path` as a whole or not at all; on an error the old file stays as it was.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_bytes(Path(folder.name) / "note.txt", b"one").read_bytes()
    b'one'
    >>> write_bytes(Path(folder.name) / "note.txt", b"two").read_bytes()
    b'two'
    >>> folder.cleanup()
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with _writing(path):
            write_new(temporary, data)
            ops.replace(temporary, path)
    except WriteError as error:
        with contextlib.suppress(OSError):
            ops.unlink(temporary)
        raise WriteError(error, path) from error
    sync_directory(path.parent)
    return path


def write_text(path: StrPath, text: str) -> Path:
    """`write_bytes` of UTF-8 text."""
    return write_bytes(path, text.encode("utf-8"))


def publish_directory(staging: Path, final: Path) -> None:
    """Rename a filled directory to its final, unused name, durably."""
    with _writing(final):
        sync_directory(staging)
        if final.exists():
            raise FileExistsError(17, "the name is taken", str(final))
        ops.rename(staging, final)
    sync_directory(final.parent)


def remove_tree(path: Path) -> None:
    """Delete a directory (or file) so that a kill halfway leaves only a `.trash-` name behind."""
    with _writing(path):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            ops.unlink(path)
            return
        if not path.name.startswith((TRASH, PARTIAL)):
            trash = path.with_name(f"{TRASH}{secrets.token_hex(4)}")
            ops.rename(path, trash)
            path = trash
        for folder, folders, names in os.walk(path, topdown=False):
            for name in names:
                ops.unlink(os.path.join(folder, name))
            for name in folders:
                inner = os.path.join(folder, name)
                if os.path.islink(inner):
                    ops.unlink(inner)
                else:
                    ops.rmdir(inner)
        ops.rmdir(path)


class LineWriter:
    """A file that only grows, one line a call; a kill loses at most the line being written.

    Opening it drops a torn last line. A line that does not fit (disk full) is taken back whole, so
    the file never holds half of one. Lines reach the operating system at once, the disk at
    `sync()`: a killed process loses nothing, a power cut what came after the last `sync()`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "log.jsonl"
    >>> _ = path.write_bytes(b'{"a": 1}\\n{"a": ')
    >>> writer = LineWriter(path)
    >>> writer.write('{"a": 2}'); writer.close()
    >>> read_lines(path)
    ['{"a": 1}', '{"a": 2}']
    >>> folder.cleanup()
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._fd: int | None = None
        with _writing(self.path):
            fd = ops.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                self._size = _complete_size(fd)
                if self._size != os.fstat(fd).st_size:
                    ops.truncate(fd, self._size)
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd

    def write(self, line: str) -> None:
        """Append one line (without its newline); ValueError if it holds a newline."""
        if "\n" in line or self._fd is None:
            raise ValueError(
                f"{self.path.name}: "
                + ("the file is closed" if self._fd is None else "one line a call, got several")
            )
        data = line.encode("utf-8") + b"\n"
        with _writing(self.path):
            if os.fstat(self._fd).st_size != self._size:  # what an earlier failure left
                ops.truncate(self._fd, self._size)
            try:
                _write_all(self._fd, data)
            except OSError:
                with contextlib.suppress(OSError):
                    ops.truncate(self._fd, self._size)
                raise
            self._size += len(data)

    def sync(self) -> None:
        """Flush to the disk."""
        if self._fd is not None:
            with _writing(self.path):
                ops.fsync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _complete_size(fd: int) -> int:
    """Bytes up to and with the last newline of an open file."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        os.lseek(fd, start, os.SEEK_SET)
        block = os.read(fd, end - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read_lines(path: StrPath) -> list[str]:
    """The complete lines of a file, without newlines; a torn last line is left out.

    Raises UnicodeDecodeError for bytes that are not UTF-8, OSError if the file cannot be read.
    """
    data = Path(path).read_bytes()
    return data[: data.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
