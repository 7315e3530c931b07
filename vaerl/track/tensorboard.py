"""TensorBoard, through torch's event writer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from vaerl.track import media
from vaerl.track.base import Media, Tracker, plain


class TensorBoardTracker(Tracker):
    """Event files in `directory`, to be read with `tensorboard --logdir`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._open_writer: Any = None

    @classmethod
    def for_run(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """Event files in `folder`/tensorboard."""
        return cls(folder / "tensorboard")

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._open_writer = SummaryWriter(str(self.directory))

    @property
    def _writer(self) -> Any:
        if self._open_writer is None:
            raise RuntimeError("not started, or already finished")
        return self._open_writer

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers as scalars, texts as text, arrays as histograms."""
        for key, given in values.items():
            value = plain(given)
            if isinstance(value, np.ndarray):
                self._writer.add_histogram(key, value, step)
            elif isinstance(value, str):
                self._writer.add_text(key, value, step)
            elif value is not None:
                self._writer.add_scalar(key, value, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """A picture, from its file or its pixels."""
        self._writer.add_image(key, media.pixels(picture, key), step, dataformats="HWC")

    def video(self, key: str, video: Media, step: int) -> None:
        """A video as an animated GIF, which is how TensorBoard shows one."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        frames = media.frames(video, key)
        _, height, width, _ = frames.shape
        gif = Summary.Image(
            height=height,
            width=width,
            colorspace=3,
            encoded_image_string=media.gif_bytes(frames),
        )
        summary = Summary(value=[Summary.Value(tag=key, image=gif)])
        self._writer.file_writer.add_summary(summary, step)

    def finish(self) -> None:
        """Write the rest and close."""
        writer, self._open_writer = self._open_writer, None
        if writer is not None:
            writer.close()
