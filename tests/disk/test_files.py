"""Writes: whole or not at all, at every point where the machine may fail."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from tests.runs.faulty import Crash, FaultyOs
from vaerl.disk import files
from vaerl.disk.errors import VaerlLoadError, WriteError
from vaerl.disk.files import LineWriter, read_lines, write_bytes
from vaerl.runs.directory import RunDirectory
from vaerl.track import JsonlTracker


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
    assert read_lines(path) == ['{"a": 1}']
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
    assert read_lines(writer.path) == ["first"]
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


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Config, status and metrics are read as written, non-finite numbers included."""
    run = RunDirectory(tmp_path / "run").create({"agent": "sac", "seed": 3, "nested": {"a": [1]}})
    rows = JsonlTracker(run.metrics_path)
    rows.log({"loss": float("nan"), "n": np.int64(4)}, 1)
    rows.log({"loss": np.float32(0.5), "top": float("inf"), "note": "x"}, 2)
    rows.finish()
    run.set_status("finished", 2, seconds=1.5)
    again = RunDirectory.open(run.path)
    assert {k: again.config[k] for k in ("agent", "seed")} == {"agent": "sac", "seed": 3}
    assert {"vaerl", "torch", "sb3", "python"} <= set(again.config["versions"])
    assert again.status() == {"state": "finished", "steps": 2, "seconds": 1.5}
    assert [row["global_step"] for row in again.metrics()] == [1, 2]
    columns = again.columns()
    assert np.isnan(columns["loss"][0]) and columns["loss"][1] == 0.5
    assert columns["top"][1] == np.inf and "note" not in columns
    assert [list(part) for part in again.series("n")] == [[1], [4.0]]
    again.drop_metrics_after(1)
    assert [row["global_step"] for row in again.metrics()] == [1]
    assert again.checkpoints_path.is_dir() and again.figures_path.is_dir()


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    """An existing run needs `overwrite`; another directory with files is never touched."""
    run = RunDirectory(tmp_path / "run").create({"seed": 1})
    (run.path / "mine.txt").write_text("keep")
    run.metrics_path.write_text('{"global_step": 1}\n')
    (run.path / "tensorboard").mkdir()
    with pytest.raises(ValueError, match="holds a run already"):
        RunDirectory(run.path).create({"seed": 2})
    again = RunDirectory(run.path).create({"seed": 2}, overwrite=True)
    assert again.metrics() == [] and not (run.path / "tensorboard").exists()
    assert (run.path / "mine.txt").read_text() == "keep"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds no run"):
        RunDirectory(other).create({}, overwrite=True)
    assert os.listdir(other) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run: it holds no config.json"),
        (b"", "config.json: not JSON"),
        (b"[]", "config.json: expected an object"),
        (b'{"a": 1, "a": 2}', "config.json: not JSON: the key 'a' appears twice"),
        (b'{"a": NaN}', "config.json: not JSON: NaN is not a JSON number"),
        (b'\xef\xbb\xbf{"a": 1}', "config.json: not JSON"),
        (b"\xff\xfe{", "config.json: not JSON: 'utf-8' codec"),
        (b"[" * 200_000, "maximum recursion depth"),
    ],
)
def test_a_broken_config_is_one_line(tmp_path: Path, text: bytes | None, message: str) -> None:
    """Whatever is wrong with config.json, the error is one line that names the file."""
    if text is not None:
        (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(VaerlLoadError, match=message) as caught:
        RunDirectory.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1}', "metrics.jsonl:2:global_step: got {'a': 1}, expected a whole"),
        (
            '{"global_step": -1}',
            "metrics.jsonl:2:global_step: got -1, expected a whole number, 0 or more",
        ),
        ('{"global_step": true}', "metrics.jsonl:2:global_step: got True"),
        ("{", "metrics.jsonl:2: not JSON"),
        ("[1]", "metrics.jsonl:2:global_step: got \\[1\\]"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    """A complete line that is no row is refused with its number."""
    run = RunDirectory(tmp_path / "run").create({})
    run.metrics_path.write_text(f'{{"global_step": 0}}\n{line}\n')
    with pytest.raises(VaerlLoadError, match=message):
        run.metrics()


def test_a_run_that_is_not_there_and_config_that_is_not_data(tmp_path: Path) -> None:
    """Errors name the run, or the key of what is not pure data."""
    with pytest.raises(VaerlLoadError, match="no such run"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"a:b\[1\]: .* is not pure data"):
        RunDirectory(tmp_path / "run").create({"a": {"b": [1, object()]}})
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="state 'done' is unknown"):
        RunDirectory(tmp_path / "run").create({}).set_status("done", 1)
