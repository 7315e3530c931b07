"""metrics.jsonl, which every run writes. W&B and TensorBoard hold copies."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.disk import files, jsonio
from vaerl.disk.reading import read_file
from vaerl.track.base import Tracker, plain
from vaerl.track.rows import LIMIT, read_rows


class JsonlTracker(Tracker):
    """One line per call: `global_step`, `time` in seconds of training, and the values.

    If the file already has lines (a resumed run), `time` continues from the last one.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tracker = JsonlTracker(folder.name + "/metrics.jsonl")
    >>> tracker.start({}); tracker.log({"rollout/ep_rew": 1.5}, step=7); tracker.finish()
    >>> '"global_step": 7' in open(tracker.path).read()
    True
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lines: files.LineWriter | None = None
        self._started = time.monotonic()

    def start(self, config: Mapping[str, Any]) -> None:
        """Start the clock; the file opens with the first line."""
        self._started = time.monotonic() - _last_time(self.path)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Append a line with the numbers and texts of `values`, without histograms."""
        numbers = {key: _finite(plain(value)) for key, value in values.items()}
        row = {k: v for k, v in numbers.items() if not isinstance(v, np.ndarray | None)}
        if row:
            self._lines = self._lines or files.LineWriter(self.path)
            clock = round(time.monotonic() - self._started, 3)
            self._lines.write(jsonio.dumps({"global_step": int(step), "time": clock, **row}))

    def sync(self) -> None:
        """Flush to the disk."""
        if self._lines is not None:
            self._lines.sync()

    def finish(self) -> None:
        """Flush and close."""
        lines, self._lines = self._lines, None
        if lines is not None:
            try:
                lines.sync()
            finally:
                lines.close()


def _last_time(path: Path) -> float:
    try:
        row = read_rows(read_file(path, LIMIT), path.name).rows[-1]
        return max(0.0, float(row["time"]))
    except (ValueError, IndexError, KeyError, TypeError):
        return 0.0


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as "nan", "inf" and "-inf"."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
