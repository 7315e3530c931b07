"""Writes: whole or not at all, at every point where the machine may fail."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from tests.runs.faulty import Crash, FaultyOs
from vaerl.disk import files
from vaerl.disk.errors import VaerlLoadError, WriteError
from vaerl.disk.files import LineWriter, write_bytes
from vaerl.disk.reading import read_file


def count_calls(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    ops = FaultyOs()
    monkeypatch.setattr(files, "os", ops)
    write_bytes(path, b"n" * 20000)
    return len(ops.calls)


@pytest.mark.parametrize("mode", ["crash", "torn", "ENOSPC", "EROFS", "EIO"])
def test_a_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Whatever call fails, a reader finds old or new bytes, and an error is one WriteError."""
    total = count_calls(monkeypatch, tmp_path / "count")
    assert total >= 7
    for at in range(total):
        path = tmp_path / f"{mode}-{at}"
        path.write_bytes(b"old")
        monkeypatch.setattr(files, "os", FaultyOs(at, mode))
        if mode in ("crash", "torn"):
            with pytest.raises(Crash):
                write_bytes(path, b"n" * 20000)
        else:
            with pytest.raises(WriteError, match=r"^cannot write ") as caught:
                write_bytes(path, b"n" * 20000)
            assert caught.value.errno == getattr(errno, mode)
            assert "\n" not in str(caught.value)
            left = [p.name for p in tmp_path.iterdir() if p.name.startswith(files.PARTIAL)]
            assert left == []
        assert path.read_bytes() in (b"old", b"n" * 20000), at


def test_lines_survive_a_torn_end(tmp_path: Path) -> None:
    """A torn last line is neither read nor left in the way of the next one."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    writer = LineWriter(path)
    writer.write('{"a": 3}')
    writer.close()
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    long = tmp_path / "long"
    long.write_bytes(b"x\n" + b"y" * 200_000)
    LineWriter(long).close()
    assert long.read_bytes() == b"x\n"


def test_a_line_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of a line takes the line back; the next one stands alone."""
    ops = FaultyOs()
    monkeypatch.setattr(files, "os", ops)
    writer = LineWriter(tmp_path / "log")
    writer.write("first")
    ops.at, ops.mode = len(ops.calls) + 1, "ENOSPC"  # the second piece of the next line
    with pytest.raises(WriteError, match="No space left"):
        writer.write("x" * 12000)
    assert writer.path.read_bytes() == b"first\n"
    writer.write("last")
    writer.close()
    assert writer.path.read_bytes() == b"first\nlast\n"
    with pytest.raises(ValueError, match="got several lines, expected one"):
        LineWriter(tmp_path / "log").write("a\nb")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_real_size_limit_leaves_the_old_file(tmp_path: Path) -> None:
    """Under a real RLIMIT_FSIZE a file beyond the limit fails and the old one stays."""
    path = tmp_path / "file"
    write_bytes(path, b"old")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # Python ignores SIGXFSZ
            write_bytes(path, b"n" * 5000)
        except WriteError as error:
            code = 0 if error.errno == errno.EFBIG else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_trees_are_removed_without_following_links(tmp_path: Path) -> None:
    """A link inside a removed directory goes, what it points to stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    gone = tmp_path / "gone"
    (gone / "inner").mkdir(parents=True)
    (gone / "inner" / "file").write_text("x")
    (gone / "link").symlink_to(kept)
    files.remove_tree(gone)
    assert os.listdir(tmp_path) == ["kept"] and (kept / "file").exists()


def test_a_file_that_is_almost_all_hole_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte of memory that costs nobody a disk; smaller ones and full ones are read."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"head")
    os.truncate(path, 2**20)
    assert len(read_file(path, 2**31)) == 2**20
    os.truncate(path, 2**30)
    monkeypatch.setattr("vaerl.disk.reading._read", lambda *given: pytest.fail("it was read"))
    words = "a.safetensors: got 1,073,741,824 bytes with .* expected a file without holes"
    with pytest.raises(VaerlLoadError, match=words):
        read_file(path, 2**31)
