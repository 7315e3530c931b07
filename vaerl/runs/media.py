"""Pictures and videos between files and arrays: (H, W, 3) and (T, H, W, 3), uint8."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4", ".gif")


def check_pixels(array: Any, ndim: int, what: str) -> np.ndarray:
    """`array` as uint8 pixels with `ndim` axes, the last one of 3; ValueError otherwise."""
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8 or pixels.ndim != ndim or pixels.shape[-1] != 3:
        wanted = "(H, W, 3)" if ndim == 3 else "(T, H, W, 3)"
        raise ValueError(
            f"{what}: shape {pixels.shape} of {pixels.dtype}; expected {wanted} of uint8, or a path"
        )
    return pixels


def read_image(path: str | Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_frames(path: str | Path, most: int = 200) -> np.ndarray:
    """A video file as (T, H, W, 3) uint8, every n-th frame so that T ≤ `most`."""
    from imageio import v3 as imageio

    frames = list(imageio.imiter(str(path)))
    step = -(-len(frames) // most)
    return np.stack([np.asarray(frame)[..., :3] for frame in frames[:: max(step, 1)]])


def gif_bytes(frames: np.ndarray, fps: float = 20.0) -> bytes:
    """(T, H, W, 3) uint8 as an animated GIF."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(
        out,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=max(20, round(1000 / fps)),
        loop=0,
    )
    return out.getvalue()
