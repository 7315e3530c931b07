"""Pictures and videos from files or arrays: (H, W, 3) and (T, H, W, 3) of uint8."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from imageio import v3 as imageio

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4", ".gif")
MOST_FRAMES = 200


def kind_of(value: Any) -> str | None:
    """Return "image" or "video" for a path or an array of pixels, None for anything else.

    >>> kind_of("a.png"), kind_of(np.zeros((9, 4, 4, 3), np.uint8)), kind_of(1.5)
    ('image', 'video', None)
    """
    if isinstance(value, str | os.PathLike):
        suffix = Path(value).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return "image"
        return "video" if suffix in VIDEO_SUFFIXES else None
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return {3: "image", 4: "video"}.get(value.ndim)
    return None


def pixels(picture: str | os.PathLike[str] | np.ndarray, what: str) -> np.ndarray:
    """A picture, from its file or its pixels, as (H, W, 3) of uint8; ValueError otherwise."""
    if isinstance(picture, np.ndarray):
        return check_pixels(picture, 3, what)
    return imageio.imread(Path(picture), mode="RGB")


def frames(video: str | os.PathLike[str] | np.ndarray, what: str) -> np.ndarray:
    """A video as (T, H, W, 3) of uint8; of a long file every n-th frame, `MOST_FRAMES` at most."""
    if isinstance(video, np.ndarray):
        return check_pixels(video, 4, what)
    shown = list(imageio.imiter(os.fspath(video)))
    step = max(1, -(-len(shown) // MOST_FRAMES))
    return np.stack([np.asarray(frame)[..., :3] for frame in shown[::step]])


def check_pixels(array: np.ndarray, ndim: int, what: str) -> np.ndarray:
    """Return `array` if it holds pixels with `ndim` axes, the last one of 3; else ValueError."""
    if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-1] != 3:
        wanted = "(H, W, 3)" if ndim == 3 else "(T, H, W, 3)"
        raise ValueError(
            f"{what}: got {array.shape} of {array.dtype}, expected {wanted} of uint8, or a path"
        )
    return array


def gif_bytes(frames: np.ndarray, fps: float = 20.0) -> bytes:
    """(T, H, W, 3) of uint8 as an animated GIF."""
    duration = max(20, round(1000 / fps))  # milliseconds; browsers slow shorter ones down
    return imageio.imwrite("<bytes>", frames, extension=".gif", duration=duration, loop=0)
