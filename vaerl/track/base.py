"""What a tracker is, and several of them together."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from vaerl.disk.errors import one_line
from vaerl.track import media

Media = str | os.PathLike[str] | np.ndarray


class Tracker:
    """Receives what a run logs. `step` is the number of environment steps so far.

    A subclass implements what it can show; the other methods do nothing.
    """

    @classmethod
    def for_run(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """Make the tracker of the run in `folder`, which may write to `folder`/NAME.

        NAME is the name in the registry: overwriting the run deletes that folder.
        """
        return cls()

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin. `config` describes the run: plain data, the fields of `TrainConfig`."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers, texts, and arrays as histograms, by key."""

    def image(self, key: str, picture: Media, step: int) -> None:
        """Log a picture: a path, or pixels (H, W, 3) of uint8."""

    def video(self, key: str, video: Media, step: int) -> None:
        """Log a video: a path to an mp4 or gif, or frames (T, H, W, 3) of uint8."""

    def keep(self, name: str, kind: str, paths: Mapping[str, Path]) -> None:
        """Keep files with the run, such as a checkpoint: each under a name of its own."""

    def alert(self, title: str, text: str) -> None:
        """Tell the user that the training failed."""

    def sync(self) -> None:
        """Write everything to the disk, before a checkpoint."""

    def finish(self) -> None:
        """Write the rest and close; a second call does nothing."""


class Trackers(Tracker):
    """Passes everything to each of several trackers. A failure is printed once for each cause.

    >>> class Broken(Tracker):
    ...     def log(self, values, step):
    ...         raise OSError("no network")
    >>> trackers = Trackers([Broken()], say=print)
    >>> trackers.log({"a": 1}, 0); trackers.log({"a": 1}, 1)
    Broken.log: no network; training goes on
    >>> trackers.failures.total()
    2
    """

    def __init__(self, trackers: Iterable[Any], say: Callable[[str], None] | None = None) -> None:
        self.trackers = list(trackers)
        self.failures: Counter[str] = Counter()
        """Failures by cause."""
        self._say = say or to_stderr

    def start(self, config: Mapping[str, Any]) -> None:
        """Start each tracker."""
        self._each("start", config)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log to each tracker, pictures and videos by their own methods; no values, no row."""
        row = {}
        for key, value in values.items():
            if kind := media.kind_of(value):
                self._each(kind, key, value, step)
            else:
                row[key] = value
        if row:
            self._each("log", row, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """Pass a picture to each tracker."""
        self._each("image", key, picture, step)

    def video(self, key: str, video: Media, step: int) -> None:
        """Pass a video to each tracker."""
        self._each("video", key, video, step)

    def keep(self, name: str, kind: str, paths: Mapping[str, Path]) -> None:
        """Pass files to each tracker."""
        self._each("keep", name, kind, paths)

    def alert(self, title: str, text: str) -> None:
        """Pass an alert to each tracker."""
        self._each("alert", title, text)

    def sync(self) -> None:
        """Let each tracker write to the disk."""
        self._each("sync")

    def finish(self) -> None:
        """Finish each tracker."""
        self._each("finish")

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in self.trackers:
            try:
                getattr(tracker, method)(*arguments)
            except (Exception, SystemExit) as error:  # no tracker may end a training run
                self.trouble(f"{type(tracker).__name__}.{method}: {one_line(error, 200)}")

    def trouble(self, cause: str, more: str = "") -> None:
        """Count a failure that does not end the training, and print it once for each cause."""
        self.failures[cause] += 1
        if self.failures[cause] == 1:
            self._say(f"{cause}{more}; training goes on")


def plain(value: Any) -> Any:
    """A number or text as Python's own type, several numbers as an array, anything else as None.

    >>> plain(np.float32(2.0)), plain(np.array([3])), plain("on"), plain(object())
    (2.0, 3, 'on', None)
    """
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):  # float64 is a float, and not one that JSON takes
        value = value.item()
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray | list | tuple):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array.item() if array.size == 1 else array
    return None


def to_stderr(line: str) -> None:
    """Print a line to stderr, apart from results."""
    print(line, file=sys.stderr, flush=True)
