"""A run's directory: read as it was written, and one line for what is broken in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from vaerl.disk.errors import VaerlLoadError
from vaerl.runs.directory import RunDirectory
from vaerl.track import JsonlTracker


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
    first, second = again.metrics()
    assert np.isnan(first["loss"]) and first["n"] == 4
    assert (second["loss"], second["top"], second["note"]) == (0.5, np.inf, "x")
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
    with pytest.raises(ValueError, match="is not a run"):
        RunDirectory(other).create({}, overwrite=True)
    assert os.listdir(other) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run: it has no config.json"),
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
def test_a_broken_row_is_named_by_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    """A complete line that is no row is left out and named; the others are read."""
    run = RunDirectory(tmp_path / "run").create({})
    run.metrics_path.write_text(f'{{"global_step": 0}}\n{line}\n{{"global_step": 9}}\n')
    assert [row["global_step"] for row in run.metrics()] == [0, 9]
    (said,) = capsys.readouterr().err.splitlines()
    assert re.match(f"left out 1 rows: .*{message}", said)
    run.drop_metrics_after(0)
    assert run.metrics_path.read_text() == '{"global_step": 0}\n'


def test_a_run_that_is_not_there_and_config_that_is_not_data(tmp_path: Path) -> None:
    """Errors name the run, or the key of what is not pure data."""
    with pytest.raises(VaerlLoadError, match="no such run"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"a:b:1: .* is not pure data"):
        RunDirectory(tmp_path / "run").create({"a": {"b": [1, object()]}})
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="state: got 'done'"):
        RunDirectory(tmp_path / "run").create({}).set_status("done", 1)
