"""Numbers, pictures and videos for TensorBoard, by torch's own event writer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.runs import media
from vaerl.track.base import Media, plain


class TensorBoardTracker:
    """Event files in `directory`, to be read with `tensorboard --logdir`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._writer: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.directory))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers as scalars, texts as text, arrays as histograms."""
        writer = self._open_writer()
        for key, given in values.items():
            value = plain(given)
            if isinstance(value, np.ndarray):
                writer.add_histogram(key, value, step)
            elif isinstance(value, str):
                writer.add_text(key, value, step)
            elif value is not None:
                writer.add_scalar(key, value, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """A picture, from its file or its pixels."""
        if isinstance(picture, np.ndarray):
            pixels = media.check_pixels(picture, 3, key)
        else:
            pixels = media.read_image(os.fspath(picture))
        self._open_writer().add_image(key, pixels, step, dataformats="HWC")

    def video(self, key: str, video: Media, step: int) -> None:
        """A video as an animated GIF, which is how TensorBoard shows one."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if isinstance(video, np.ndarray):
            frames = media.check_pixels(video, 4, key)
        else:
            frames = media.read_frames(os.fspath(video))
        picture = Summary.Image(
            height=frames.shape[1],
            width=frames.shape[2],
            colorspace=3,
            encoded_image_string=media.gif_bytes(frames),
        )
        summary = Summary(value=[Summary.Value(tag=key, image=picture)])
        self._open_writer().file_writer.add_summary(summary, step)

    def finish(self) -> None:
        """Write what is left and close."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _open_writer(self) -> Any:
        if self._writer is None:
            raise RuntimeError("not started, or finished already")
        return self._writer
