"""A side view of a MuJoCo scene without OpenGL: its geoms as thick lines on the x–z plane.

MuJoCo's own pictures need EGL, OSMesa or a screen, which many training machines lack. Spheres,
capsules and cylinders are drawn as what they are, everything else as a ball of its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 480, 320  # pixels
METRES = 4.0  # width of the view
SUPERSAMPLE = 2  # drawn this much larger, then scaled down: smooth edges
SKY, GROUND, LINE, BODY = (244, 246, 249), (223, 228, 234), (176, 184, 194), (0, 82, 147)
FAR_BODY = (120, 160, 196)  # limbs on the far side of the middle plane


def draw_scene(model: Any, data: Any) -> NDArray[np.uint8]:
    """Draw one frame (HEIGHT, WIDTH, 3); the view follows the first moving body.

    Args:
        model, data: MuJoCo's `MjModel` and `MjData`.
    """
    scale = SUPERSAMPLE * WIDTH / METRES
    width, height = SUPERSAMPLE * WIDTH, SUPERSAMPLE * HEIGHT
    root = data.xpos[1] if model.nbody > 1 else np.zeros(3)
    floor = height * 0.82 + max(0.0, float(root[2]) - 1.6) * scale

    def pixel(point: NDArray[np.float64]) -> tuple[float, float]:
        return width / 2 + (float(point[0]) - float(root[0])) * scale, floor - point[2] * scale

    image = Image.new("RGB", (width, height), SKY)
    pen = ImageDraw.Draw(image)
    pen.rectangle([0, floor, width, height], fill=GROUND)
    left = float(root[0]) - METRES / 2
    for mark in np.arange(np.ceil(left * 2) / 2, left + METRES, 0.5):  # a tick every half metre
        x, _ = pixel(np.array([mark, 0.0, 0.0]))
        pen.line([x, floor, x, floor + 12], fill=LINE, width=3)
    middle = float(root[1])
    bodies = [i for i in range(model.ngeom) if model.geom_bodyid[i] != 0]
    for i in sorted(bodies, key=lambda i: -data.geom_xpos[i][1]):
        start, end, radius = _span(model, data, i)
        color = FAR_BODY if data.geom_xpos[i][1] - middle > 0.02 else BODY
        ends, r = [pixel(start), pixel(end)], max(radius * scale, 2.0)
        pen.line([*ends[0], *ends[1]], fill=color, width=round(2 * r))
        for x, y in ends:
            pen.ellipse([x - r, y - r, x + r, y + r], fill=color)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _span(
    model: Any, data: Any, geom: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return both ends of a geom's axis and its radius, in metres."""
    centre, size = data.geom_xpos[geom], model.geom_size[geom]
    capsule, cylinder = 3, 5  # mjtGeom
    if model.geom_type[geom] not in (capsule, cylinder):
        return centre, centre, float(size.max())
    axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * size[1]
    return centre - axis, centre + axis, float(size[0])
