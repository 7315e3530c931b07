"""Pictures of p(a | s): curves for 1-D actions, heat maps for 2-D, pairwise projections beyond.

Rows are states, columns are densities (or runs); all panels of a row share one colour scale.
Drawing neither moves the global random stream nor builds a graph, so it can be done in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vaerl.report.density_values import (
    Array,
    centres,
    grid_density,
    how_drawn,
    is_exact,
    sample_rows,
)
from vaerl.report.figures import MUTED, density_color, figure_style, new_figure, quiet_axes

COLORMAP = "viridis"
MAX_PAIR_DIMS = 6  # a projection of more dimensions shows the six that vary most
ROW_NAME = 0.3  # inches at the left that the names of rows take


def density_figure(
    values: Any,
    low: ArrayLike,
    high: ArrayLike,
    titles: Sequence[str] | None = None,
    *,
    states: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    cells: int | None = None,
    k: int = 64,
    samples: int = 20_000,
) -> Figure:
    """The policy density at chosen states, one column per value, one row per state.

    Args:
        values: one value p(a | s) or a sequence of them, each with batch shape (S,) or () and the
            same event dimension D: what calling a density, `policy.action_density` or
            `agent.density_value` returns, or a `PolicyDensity`.
        low, high: the box to draw, scalars or shape (D,).
        titles: one per column. `states`: one per row.
        names: the density name of each column, which chooses its colour.
        cells: grid cells per dimension, default 400 for D = 1, 120 for D = 2 (half of these for a
            bound, which costs k times as much), 40 beyond.
        k: auxiliary paths of the lower bound that stands in for an intractable density.
        samples: draws per state for the pairwise projections (D > 2).

    Raises:
        ValueError: columns of unlike shape, an empty box, or titles that do not fit the columns.

    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> value = Independent(Normal(torch.zeros(2, 1), torch.ones(2, 1)), 1)
    >>> len(density_figure(value, -3.0, 3.0, ["normal"]).axes)
    2
    """
    columns = list(values) if isinstance(values, list | tuple) else [values]
    dims, rows = _check_columns(columns)
    box = _check_box(low, high, dims)
    sheet = _Sheet(
        *box,
        _labels("titles", titles, len(columns), "density"),
        _labels("names", names, len(columns), ""),
        [how_drawn(value, k) for value in columns],
        _labels("states", states, rows, "state"),
        [f"a{i + 1}" for i in range(dims)] if dims > 1 else ["action"],
    )
    with figure_style():
        if dims > 2:
            axes = _projections(sheet, [sample_rows(v, samples) for v in columns], cells or 40)
        else:
            draw, fine = (_curves, 400) if dims == 1 else (_heat_maps, 120)
            counts = [cells or (fine if is_exact(v) else fine // 2) for v in columns]
            axes = draw(
                sheet,
                [grid_density(v, *box, cells=n, k=k) for v, n in zip(columns, counts, strict=True)],
            )
        return _titled(axes, sheet)


class _Sheet(NamedTuple):
    """What all panels share: the box, and the names of columns, rows and axes."""

    low: Array
    high: Array
    titles: list[str]
    names: list[str]
    how: list[str]
    states: list[str]
    axis_names: list[str]

    @property
    def sideways(self) -> bool:
        """One column alone lies on its side."""
        return len(self.titles) == 1

    def panels(self, panel: tuple[float, float], margin: float, **share: Any) -> NDArray[Any]:
        """Axes (rows, columns) of a new figure, sizes in inches."""
        rows, columns = len(self.states), len(self.titles)
        if self.sideways:
            figure = new_figure(0.4 + panel[0] * rows, margin + panel[1])
            return figure.subplots(1, rows, squeeze=False, **share).T
        width = margin + panel[0] * columns
        figure = new_figure(width, margin + panel[1] * rows)
        layout: Any = figure.get_layout_engine()
        layout.set(rect=(ROW_NAME / width, 0.0, 1.0 - ROW_NAME / width, 1.0))
        return figure.subplots(rows, columns, squeeze=False, **share)


def _curves(sheet: _Sheet, columns: list[Array]) -> NDArray[Any]:
    axes = sheet.panels((2.3, 1.35), 0.9, sharex=True)
    for (row, column), ax in np.ndenumerate(axes):
        density, color = columns[column][row], density_color(sheet.names[column])
        x = centres(sheet.low[0], sheet.high[0], len(density))
        ax.fill_between(x, density, color=color, alpha=0.28, linewidth=0)
        ax.plot(x, density, color=color, linewidth=1.6)
        ax.set_xlim(sheet.low[0], sheet.high[0])
        ax.set_ylim(0.0, 1.08 * _row_top([c[row] for c in columns]))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.tick_params(labelleft=column == 0)
        if row == len(axes) - 1 or sheet.sideways:
            ax.set_xlabel(sheet.axis_names[0])
    return axes


def _heat_maps(sheet: _Sheet, columns: list[Array]) -> NDArray[Any]:
    low, high = sheet.low, sheet.high
    panel = (2.1, 2.5) if sheet.sideways else (2.2, 1.95)
    axes = sheet.panels(panel, 0.75, sharex=True, sharey=True)
    for row, norm in enumerate(_norms(columns)):
        for column, ax in enumerate(axes[row]):
            ax.imshow(
                columns[column][row].T,
                origin="lower",
                extent=(low[0], high[0], low[1], high[1]),
                norm=norm,
                cmap=COLORMAP,
                interpolation="bilinear",
                aspect="auto",
            )
            ax.set_box_aspect(1.0)
            ax.set_xticks([low[0], (low[0] + high[0]) / 2, high[0]])
            ax.set_yticks([low[1], (low[1] + high[1]) / 2, high[1]])
            ax.xaxis.set_major_formatter("{x:.4g}")
            ax.yaxis.set_major_formatter("{x:.4g}")
            if row == len(axes) - 1 or sheet.sideways:
                ax.set_xlabel(sheet.axis_names[0], labelpad=1)
            if column == 0 and not (sheet.sideways and row):
                ax.set_ylabel(sheet.axis_names[1], labelpad=1)
        bar = axes[0, 0].figure.colorbar(
            ScalarMappable(norm, COLORMAP),
            ax=list(axes[row]),
            location="bottom" if sheet.sideways else "right",
            fraction=0.05 if sheet.sideways else 0.03,
            pad=0.02,
            aspect=18,
            ticks=MaxNLocator(2 if sheet.sideways else 4),
        )
        bar.outline.set_visible(False)
        bar.set_label("density", fontsize=8.0, color=MUTED)
    return axes


def _projections(sheet: _Sheet, draws: list[Array], cells: int) -> NDArray[Any]:
    box = sheet.low, sheet.high
    shown = _widest_dims(draws, box)
    places = [i + 0.5 for i in range(len(shown))]
    axes = sheet.panels((3.1, 3.0), 0.7)
    mosaics = [[_pair_mosaic(rows, box, shown, cells) for rows in d] for d in draws]
    for row, norm in enumerate(_norms(mosaics)):
        for column, ax in enumerate(axes[row]):
            ax.imshow(
                mosaics[column][row],
                origin="upper",
                extent=(0, len(shown), len(shown), 0),
                norm=norm,
                cmap=COLORMAP,
                interpolation="nearest",
            )
            color = density_color(sheet.names[column])
            _marginals(ax, draws[column][row], box, shown, cells, color)
            quiet_axes(ax)
            ax.set_xticks(places, [sheet.axis_names[d] for d in shown])
            ax.set_yticks(places, [sheet.axis_names[d] for d in shown])
            ax.tick_params(length=0)
    return axes


def _pair_mosaic(draws: Array, box: tuple[Array, Array], shown: list[int], cells: int) -> Array:
    """Pairwise histograms as one picture: block (i, j), j < i, is the density of (a_j, a_i).

    Blocks on and above the diagonal are NaN, as is a gap of one cell between blocks.
    Blocks are in units of the uniform density over the box, so that they compare.
    """
    low, high = box
    side = cells + 2
    mosaic = np.full((side * len(shown), side * len(shown)), np.nan)
    for i, row_dim in enumerate(shown):
        for j, column_dim in enumerate(shown[:i]):
            counts, _, _ = np.histogram2d(
                draws[:, column_dim],
                draws[:, row_dim],
                bins=cells,
                range=[(low[column_dim], high[column_dim]), (low[row_dim], high[row_dim])],
            )
            block = counts.T[::-1] * cells * cells / len(draws)
            mosaic[i * side + 1 : (i + 1) * side - 1, j * side + 1 : (j + 1) * side - 1] = block
    return mosaic


def _marginals(
    ax: Axes, draws: Array, box: tuple[Array, Array], shown: list[int], cells: int, color: str
) -> None:
    """Draw the marginal of each shown dimension into its block on the diagonal."""
    low, high = box
    for i, dim in enumerate(shown):
        counts, _ = np.histogram(draws[:, dim], bins=cells, range=(low[dim], high[dim]))
        heights = counts / max(counts.max(), 1)
        x = i + 0.03 + 0.94 * (np.arange(cells) + 0.5) / cells
        floor = i + 0.97
        ax.fill_between(x, floor, floor - 0.86 * heights, color=color, alpha=0.85, linewidth=0)


def _widest_dims(draws: list[Array], box: tuple[Array, Array]) -> list[int]:
    """The dimensions to project on: all, or the `MAX_PAIR_DIMS` whose samples vary most."""
    spread = sum(d.std(axis=1).mean(axis=0) for d in draws) / (box[1] - box[0])
    widest = np.argsort(-spread, kind="stable")[:MAX_PAIR_DIMS]
    return sorted(int(d) for d in widest)


def _titled(axes: NDArray[Any], sheet: _Sheet) -> Figure:
    """Name rows and columns: states at the left and densities on top, or all on top if sideways."""
    figure: Figure = axes[0, 0].figure
    colors = [density_color(name) for name in sheet.names]
    if sheet.sideways:
        for ax, state in zip(axes[:, 0], sheet.states, strict=True):
            ax.set_title(state)
        title = ", ".join(filter(None, [sheet.titles[0], sheet.how[0]]))
        figure.suptitle(title, color=colors[0], weight="bold", size=9.5)
        return figure
    bold: Any = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "ha": "center",
        "weight": "bold",
    }
    for ax, title, kind, color in zip(axes[0], sheet.titles, sheet.how, colors, strict=True):
        ax.set_title(kind, fontsize=8.0, color=MUTED, pad=4)
        ax.annotate(title, (0.5, 1.0), xytext=(0, 15), color=color, size=9.5, **bold)
    for ax, state in zip(axes[:, 0], sheet.states, strict=True):
        beside = (-40 if ax.get_ylabel() else -32, 0)
        name = ax.annotate(
            state, (0.0, 0.5), xytext=beside, rotation=90, va="center", size=9.0, **bold
        )
        name.set_in_layout(False)  # constrained layout misjudges it; `ROW_NAME` keeps it a place
    return figure


def _norms(columns: Sequence[Iterable[Array]]) -> list[PowerNorm]:
    """The colour scale of each row."""
    rows = zip(*columns, strict=True)
    return [PowerNorm(0.5, vmin=0.0, vmax=_row_top([p[np.isfinite(p)] for p in r])) for r in rows]


def _row_top(panels: Sequence[Array]) -> float:
    """The top of a row's common scale: the largest value, except for a last half percent of cells.

    A squashed density piles up in a few cells at the edge of the box, which would hide the rest.
    """
    top = max(float(np.quantile(p, 0.995)) if p.size > 1000 else float(p.max()) for p in panels)
    return top if np.isfinite(top) and top > 0.0 else 1.0


def _check_columns(columns: list[Any]) -> tuple[int, int]:
    """Event dimension and number of rows that all columns share."""
    if not columns:
        raise ValueError("values: got none, expected at least one value p(a | s)")
    shapes = [(tuple(v.batch_shape), tuple(v.event_shape)) for v in columns]
    batch, event = shapes[0]
    if len(batch) > 1 or len(event) != 1 or any(s != shapes[0] for s in shapes):
        raise ValueError(
            f"values: got (batch, event) shapes {shapes}, expected the same ((S,), (D,)) for all"
        )
    return event[0], batch[0] if batch else 1


def _check_box(low: ArrayLike, high: ArrayLike, dims: int) -> tuple[Array, Array]:
    try:
        box = tuple(np.broadcast_to(np.asarray(b, float), (dims,)) for b in (low, high))
    except ValueError:
        box = ()
    if len(box) != 2 or not np.isfinite(box).all() or (box[0] >= box[1]).any():
        raise ValueError(
            f"low, high: got {low!r} and {high!r}, expected finite low < high, "
            f"numbers or shape ({dims},)"
        )
    return box


def _labels(argument: str, given: Sequence[str] | None, count: int, default: str) -> list[str]:
    if given is None:
        return [f"{default} {i + 1}" if default and count > 1 else default for i in range(count)]
    if len(given) != count:
        raise ValueError(f"{argument}: got {len(given)} ({list(given)}), expected {count}")
    return list(given)
