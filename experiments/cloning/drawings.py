"""A picture of drawings: people beside policies, strokes coloured by their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaerl.envs.handwriting import strokes_of
from vaerl.report.figures import save_png

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the first to the sixth stroke; later ones keep the last."""


def draw_drawings(writers: Mapping[str, Sequence[Sequence[np.ndarray]]], path: Path) -> Path:
    """Draw a block of columns for each writer and a row for each character.

    Args:
        writers: to a title, by character, paths (steps, 3) of a few drawings.
        path: of the PNG.
    """
    widths = [max(len(drawings) for drawings in rows) for rows in writers.values()]
    count = max(len(rows) for rows in writers.values())
    figure = Figure(figsize=(0.62 * sum(widths) + 0.3, 0.62 * count + 0.4))
    blocks = figure.add_gridspec(
        1, len(widths), width_ratios=widths, left=0.01, right=0.99, bottom=0.01,
        top=1.0 - 0.35 / figure.get_figheight(), wspace=0.06,
    )  # fmt: skip
    for place, (title, rows) in enumerate(writers.items()):
        block, width = blocks[0, place], widths[place]
        frame = figure.add_subplot(block)
        frame.set_title(title, fontsize=10)
        frame.axis("off")
        cells = block.subgridspec(count, width, wspace=0.08, hspace=0.08)
        for row, drawings in enumerate(rows):
            for column, drawing in enumerate(drawings):
                _draw(figure.add_subplot(cells[row, column]), drawing)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_png(figure, path, dpi=110)


def _draw(axis: Axes, drawing: np.ndarray) -> None:
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[], yticks=[], aspect="equal")
    for spine in axis.spines.values():
        spine.set_color("0.85")
    for number, stroke in enumerate(strokes_of(drawing)):
        colour = COLOURS[min(number, len(COLOURS) - 1)]
        axis.plot(*stroke.T, color=colour, linewidth=1.2)
        axis.plot(*stroke[0], "o", color=colour, markersize=2.2)
