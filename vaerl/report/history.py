"""How goals and densities developed: shares over training, and pictures kept on the way."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from vaerl.disk.errors import VaerlLoadError, only_looks
from vaerl.disk.reading import read_file
from vaerl.report.figures import (
    MUTED,
    NO_GOAL_COLOR,
    figure_style,
    goal_color,
    new_figure,
)
from vaerl.report.records import RunRecord
from vaerl.report.sections import Picture, Section

MOST_PICTURES = 4  # of the density of one run
MOST_RUNS = 6
WIDE, NARROW = 10.0, 7.0  # width in inches of pictures side by side, and of a column
MOST_GOALS = 64
PICTURE_BYTES, PICTURE_PIXELS = 2**24, 2**23
SHARE = re.compile(r"eval/goal_share_(\d{1,3})")
DENSITY = re.compile(r"density-(\d{9,18})\.png")


def share_history_section(records: Sequence[RunRecord]) -> Section | None:
    """Stacked shares of the goals in each run's evaluations, one picture per run."""
    pictures = []
    for record in records:
        steps, shares = goal_history(record)
        if len(steps) < 2:
            continue
        figure = share_history_figure(steps, shares, record.label)
        last = ", ".join(f"{share:.2f}" for share in shares[-1])
        alt = f"Shares of the goals of {record.label} over environment steps, at the end {last}"
        pictures.append(Picture(figure, alt))
    if not pictures:
        return None
    read = (
        "The height of a colour is the share of an evaluation's episodes that end in that goal; "
        "grey ones end in no goal. A goal whose colour disappears has been forgotten."
    )
    return Section("Goal shares over training", read, tuple(pictures), layout="small")


def goal_history(record: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """Steps ``(T,)`` of the evaluations and the share of each of G goals ``(T, G)``."""
    found = {int(m[1]) for row in record.rows for key in row if (m := SHARE.fullmatch(key))}
    keys = [f"eval/goal_share_{goal}" for goal in sorted(found)]
    if len(keys) > MOST_GOALS:
        keys = []
    rows = [row for row in record.rows if keys and all(_is_share(row.get(key)) for key in keys)]
    steps = np.array([float(row["global_step"]) for row in rows])
    shares = np.array([[row[key] for key in keys] for row in rows], dtype=np.float64)
    return steps, shares.reshape(len(steps), len(keys))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def share_history_figure(steps: np.ndarray, shares: np.ndarray, title: str = "") -> Figure:
    """Areas stacked from goal 0 upward, the rest up to 1 in grey; dashed lines where all are equal.

    >>> figure = share_history_figure(np.arange(3.0), np.full((3, 2), 0.4))
    >>> len(figure.axes[0].collections)  # two goals, none of them
    3
    """
    goals = shares.shape[1]
    rest = np.clip(1.0 - shares.sum(1), 0.0, 1.0)
    colors = [*map(goal_color, range(goals)), NO_GOAL_COLOR]
    with figure_style():
        figure = new_figure(3.0, 2.2)
        ax = figure.subplots()
        ax.stackplot(steps, *shares.T, rest, colors=colors, linewidth=0)
        for goal in range(1, goals + 1):
            ax.axhline(goal / goals, color=MUTED, linewidth=0.6, linestyle=(0, (4, 3)))
        ax.set_xlim(steps[0], steps[-1])
        ax.set_ylim(0.0, 1.0)
        ax.set_xlabel("environment steps")
        ax.set_ylabel("share of episodes")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if title:
            ax.set_title(title, weight="bold")
    return figure


def density_history_section(records: Sequence[RunRecord]) -> Section | None:
    """The density pictures that runs kept while they trained, oldest first."""
    pictures = []
    for record in records:
        kept = density_pictures(record)
        if len(kept) < 2:
            continue
        with only_looks(f"history of {record.label}"):
            pictures.append(_history(record, kept))
    if not pictures:
        return None
    notes = []
    if len(pictures) > MOST_RUNS:
        notes = [f"Only the first {MOST_RUNS} of {len(pictures)} runs are shown."]
    read = "The policy's density at the same states, as logged during training."
    return Section(
        "Policy density over training", read, tuple(pictures[:MOST_RUNS]), tuple(notes), "wide"
    )


def _history(record: RunRecord, kept: Sequence[tuple[int, Path]]) -> Picture:
    root = record.directory.path
    figure = strip_figure([read_picture(path, root) for _, path in kept])
    steps = ", ".join(f"{step:,}" for step, _ in kept)
    alt = f"Density of {record.label} at chosen states after {steps} steps"
    return Picture(figure, alt, f"{record.label}: after {steps} steps.")


def density_pictures(record: RunRecord) -> list[tuple[int, Path]]:
    """At most `MOST_PICTURES` kept pictures with their steps, evenly from first to last."""
    folder = record.directory.figures_path
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = [(int(m[1]), path) for path in names if (m := DENSITY.fullmatch(path.name))]
    if len(kept) <= MOST_PICTURES:
        return kept
    chosen = np.linspace(0, len(kept) - 1, MOST_PICTURES).round().astype(int)
    return [kept[i] for i in chosen]


def read_picture(path: Path, root: Path) -> np.ndarray:
    """The pixels (H, W, 4) of a PNG file below `root`.

    Raises VaerlLoadError for anything else, and for a picture larger than those that runs keep.
    """
    data = read_file(path, PICTURE_BYTES, root=root)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            width, height = picture.size
            if width * height > PICTURE_PIXELS or max(width, height) > 50 * min(width, height):
                raise VaerlLoadError(f"{path}: got {width} × {height} pixels")
            return np.asarray(picture.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        if isinstance(error, VaerlLoadError):
            raise
        raise VaerlLoadError(f"{path}: no PNG picture: {error}") from None


def strip_figure(arrays: Sequence[np.ndarray]) -> Figure:
    """Pictures below each other, all of one width; tall ones side by side, all of one height."""
    heights = [array.shape[0] / array.shape[1] for array in arrays]
    beside = min(heights) > 1.0
    with figure_style():
        if beside:
            widths = [1.0 / height for height in heights]
            figure = new_figure(WIDE, WIDE / sum(widths))
            axes = figure.subplots(1, len(arrays), width_ratios=widths, squeeze=False)
        else:
            figure = new_figure(NARROW, NARROW * sum(heights))
            axes = figure.subplots(len(arrays), 1, height_ratios=heights, squeeze=False)
        for ax, array in zip(axes.ravel(), arrays, strict=True):
            ax.imshow(array)
            ax.set_axis_off()
    return figure
