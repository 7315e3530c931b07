"""Where a run's numbers and pictures go. A tracker never stops and never changes training.

`JsonlTracker` writes metrics.jsonl, the truth; `TensorBoardTracker` and `WandbTracker` hold copies.
`Trackers` speaks to several at once and keeps their failures to itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vaerl.disk import files, jsonio
from vaerl.disk.errors import one_line
from vaerl.disk.jsonio import take
from vaerl.runs.directory import MetricsFile

Media = str | os.PathLike[str] | np.ndarray


@runtime_checkable
class Tracker(Protocol):
    """What a run tells about itself. `step` is the number of environment steps so far."""

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin, with the run's pure-data description."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Note numbers (and texts, and arrays as histograms) by key."""

    def image(self, key: str, picture: Media, step: int) -> None:
        """Note a picture: a path, or (H, W, 3) uint8."""

    def video(self, key: str, video: Media, step: int) -> None:
        """Note a video: a path to an mp4 or gif, or (T, H, W, 3) uint8."""

    def finish(self) -> None:
        """Write what is left and let go; a second call does nothing."""


def plain(value: Any) -> Any:
    """A number as Python's own, text as it is, anything longer as an array; None if none of these.

    >>> plain(np.float32(2.0)), plain(np.array([3])), plain("on"), plain(object())
    (2.0, 3, 'on', None)
    """
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray | list | tuple):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array.item() if array.size == 1 else array
    return None


class JsonlTracker:
    """metrics.jsonl: a line per call with `global_step`, `time` in seconds of training, values.

    Where the file holds lines already (a resumed run), `time` goes on from the last one.

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
        self._file: MetricsFile | None = None
        self._started = time.monotonic()

    def start(self, config: Mapping[str, Any]) -> None:
        """Start the clock; the file opens with the first line."""
        self._started = time.monotonic() - _last_time(self.path)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Append a line with the numbers and texts of `values`; histograms have no place here."""
        row: dict[str, Any] = {
            "global_step": int(step),
            "time": round(time.monotonic() - self._started, 3),
        }
        for key, value in values.items():
            number = plain(value)
            if number is not None and not isinstance(number, np.ndarray):
                row[key] = number
        if len(row) == 2:
            return
        if self._file is None:
            self._file = MetricsFile(self.path)
        self._file.append(row)

    def image(self, key: str, picture: Media, step: int) -> None:
        """Pictures lie in the run's directory already."""

    def video(self, key: str, video: Media, step: int) -> None:
        """Videos lie in the run's directory already."""

    def sync(self) -> None:
        """Flush to the disk."""
        if self._file is not None:
            self._file.sync()

    def finish(self) -> None:
        """Flush and close."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.sync()
            finally:
                file.close()


def _last_time(path: Path) -> float:
    try:
        lines = files.read_lines(path)
        return take(jsonio.loads(lines[-1].encode(), path.name), "time", float, path.name, 0.0)
    except (OSError, ValueError, IndexError):
        return 0.0


class Trackers:
    """Several trackers as one that never raises: a failure is said once per cause, then counted.

    >>> class Broken:
    ...     def log(self, values, step): raise OSError("no network")
    >>> trackers = Trackers([Broken()], say=print)
    >>> trackers.log({"a": 1}, 0); trackers.log({"a": 1}, 1)
    Broken.log: no network; training goes on
    >>> trackers.failures
    2
    """

    def __init__(self, trackers: Iterable[Any], say: Callable[[str], None] | None = None) -> None:
        self.trackers = list(trackers)
        self._say = say or to_stderr
        self._failed: Counter[str] = Counter()

    @property
    def failures(self) -> int:
        """Calls that failed so far."""
        return self._failed.total()

    def start(self, config: Mapping[str, Any]) -> None:
        """Start each."""
        self._each("start", config)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log to each."""
        if values:
            self._each("log", values, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """Hand a picture to each."""
        self._each("image", key, picture, step)

    def video(self, key: str, video: Media, step: int) -> None:
        """Hand a video to each."""
        self._each("video", key, video, step)

    def finish(self) -> None:
        """Finish each."""
        self._each("finish")

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in self.trackers:
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # by design: no tracker may end a training run
                cause = f"{type(tracker).__name__}.{method}: {one_line(error, 200)}"
                self._failed[cause] += 1
                if self._failed[cause] == 1:
                    self._say(f"{cause}; training goes on")


def to_stderr(line: str) -> None:
    """Print a line where it does not mix with results."""
    print(line, file=sys.stderr, flush=True)
