"""The one way in which files of unknown origin are read.

A run, a checkpoint or a data set may come from a stranger. Instead of a file there may be a link
to another place, a pipe that never ends, a device, or more bytes than fit into memory. Whatever is
read goes through `read_file`: a plain file, within its folder, of bounded size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vaerl.disk.errors import VaerlLoadError

StrPath = str | os.PathLike[str]

PIECE = 2**30  # bytes of one read; Linux reads no more than 2 GiB at once
LARGE = 2**26
"""Bytes of a file from which holes are refused: it may take gigabytes of memory and no disk."""
SPARSE = 64
"""Bytes of such a file to one on the disk; compressing file systems stay below."""
BLOCK = 512
"""Bytes of a block, as `stat` counts them."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def read_file(
    path: StrPath, limit: int, *, root: StrPath | None = None, follow: bool = False
) -> bytes:
    """Return the bytes of a plain file.

    Args:
        path: the file.
        limit: most bytes; a larger file is refused before it is opened.
        root: no folder between this one and the file may be a link; default: the file's own.
        follow: whether the file itself may be a link to a plain file, as in caches of data sets.

    Raises:
        VaerlLoadError: in one line, which begins with the path below `root`.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    name = str(path.relative_to(root))
    try:
        for folder in reversed(path.relative_to(root).parents[:-1]):
            check_kind(root / folder, stat.S_IFDIR, str(folder))
        check_kind(path, stat.S_IFREG, name, follow)
        blocking = getattr(os, "O_NONBLOCK", 0)  # a pipe put there meanwhile would block
        closed = 0 if follow else getattr(os, "O_NOFOLLOW", 0)
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | blocking | closed)
        try:
            status = os.fstat(fd)
            _check_mode(status.st_mode, stat.S_IFREG, name)
            if status.st_size > limit:
                raise VaerlLoadError(
                    f"{name}: got {status.st_size:,} bytes, expected at most {limit:,}"
                )
            _check_holes(status, name)
            return _read(fd, status.st_size)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise VaerlLoadError(f"{name}: missing") from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise VaerlLoadError(f"{name}: {reason}") from None


def _check_holes(status: os.stat_result, name: str) -> None:
    stored = getattr(status, "st_blocks", status.st_size) * BLOCK
    if status.st_size > max(LARGE, SPARSE * stored):
        raise VaerlLoadError(
            f"{name}: got {status.st_size:,} bytes with {stored:,} on the disk, expected a file "
            "without holes"
        )


def _read(fd: int, size: int) -> bytes:
    """The bytes that a file had when it was opened; a growing one is read no further."""
    pieces = []
    while size > 0 and (piece := os.read(fd, min(size, PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_kind(path: StrPath, kind: int, name: str, follow: bool = False) -> None:
    """Raise a VaerlLoadError unless a plain file or folder (`stat.S_IFREG`, `S_IFDIR`) is there.

    Raises FileNotFoundError if nothing is there.
    """
    _check_mode((os.stat(path) if follow else os.lstat(path)).st_mode, kind, name)


def check_tree(folder: StrPath) -> None:
    """Raise a VaerlLoadError if a pipe or a device is in a folder that a library will read."""
    for path in Path(folder).rglob("*"):
        if path.exists() and not path.is_dir():
            check_kind(path, stat.S_IFREG, str(path), follow=True)


def _check_mode(mode: int, kind: int, name: str) -> None:
    found = stat.S_IFMT(mode)
    if found != kind:
        wanted = "a plain file" if kind == stat.S_IFREG else KINDS[kind]
        raise VaerlLoadError(f"{name}: got {KINDS.get(found, 'a device')}, expected {wanted}")
