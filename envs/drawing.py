"""How the environments look: colours, goals, and frames for videos.

Matplotlib's Agg canvas is used as an object: no pyplot, no change of backend or settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

WALL = "#3b4252"
FAINT = "#c9ced6"
OUTSIDE = "#e9ecf1"
INK = "#20242c"
TRACE = "#c0392b"
_GOALS = ("#2a7fb8", "#e08a1e", "#2e9e5b", "#8e5bb5", "#c2477f", "#7a6a3a", "#1b9aa0", "#5a6b8c")

FRAME_SIDE = 480  # pixels; a multiple of 16, which video codecs ask for


def goal_color(index: int) -> str:
    """Return the colour of a goal; the same goal has the same colour in every picture.

    >>> goal_color(0), goal_color(8) == goal_color(0)
    ('#2a7fb8', True)
    """
    return _GOALS[index % len(_GOALS)]


def prepare(ax: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    """Set a map's limits, one scale on both axes, no ticks."""
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(FAINT)


def draw_goals(
    ax: Axes,
    positions: NDArray[np.float64],
    radius: float,
    *,
    square: bool = False,
    removed: Sequence[int] = (),
) -> None:
    """Draw numbered goal regions: discs, or squares for the Chebyshev distance.

    `positions` is (G, 2), `radius` in map units; removed goals are dashed outlines.
    """
    for index, (x, y) in enumerate(positions):
        gone = index in removed
        color = FAINT if gone else goal_color(index)
        style: dict[str, Any] = {
            "facecolor": "none" if gone else color + "40",
            "edgecolor": color,
            "linewidth": 1.5,
            "linestyle": "--" if gone else "-",
            "zorder": 2,
        }
        if square:
            ax.add_patch(Rectangle((x - radius, y - radius), 2 * radius, 2 * radius, **style))
        else:
            ax.add_patch(Circle((x, y), radius, **style))
        ax.text(x, y, str(index), color=color, ha="center", va="center", fontsize=9, zorder=3)


def draw_start(ax: Axes, x: float, y: float) -> None:
    """Mark where episodes start."""
    ax.plot([x], [y], marker="x", markersize=6, markeredgewidth=1.5, color=INK, zorder=4)


class Painter:
    """Frames of one environment: the map is drawn once, then only the trace on top of it.

    The first frame takes about 50 ms, each later one a few.
    """

    def __init__(self, map_artist: Callable[[Axes], None], *, joined: bool = True) -> None:
        """Draw the map; `joined=False` shows the trace's points without a line between them."""
        inches = FRAME_SIDE / 100
        self._figure = Figure(figsize=(inches, inches), dpi=100, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)
        self._axes = self._figure.add_axes((0.02, 0.02, 0.96, 0.91))
        map_artist(self._axes)
        (self._line,) = self._axes.plot(
            [], [], color=TRACE, linewidth=1.6 if joined else 0.0, marker=".", animated=True,
            markersize=3.5, alpha=0.9 if joined else 0.5, zorder=6,
        )  # fmt: skip
        (self._point,) = self._axes.plot(
            [], [], color=TRACE, marker="o", markersize=8, markeredgecolor="white", animated=True,
            zorder=7,
        )  # fmt: skip
        self._caption = self._figure.text(
            0.03, 0.965, "", color=INK, fontsize=11, va="center", animated=True
        )
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._figure.bbox)

    def frame(self, trace: Sequence[tuple[float, float]], caption: str) -> NDArray[np.uint8]:
        """Return the map, the trace (T, 2) and the caption as an image (480, 480, 3)."""
        points = np.array(trace, dtype=np.float64).reshape(-1, 2)
        self._canvas.restore_region(self._background)
        self._line.set_data(points[:, 0], points[:, 1])
        self._point.set_data(points[-1:, 0], points[-1:, 1])
        self._caption.set_text(caption)
        self._axes.draw_artist(self._line)
        self._axes.draw_artist(self._point)
        self._figure.draw_artist(self._caption)
        return np.array(self._canvas.buffer_rgba())[..., :3].copy()
