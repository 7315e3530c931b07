"""Pictures of p(a | s): curves for 1-D actions, heat maps for 2-D, pairwise projections beyond.

Rows are states, columns are densities (or runs); all panels of a row share one colour scale.
Drawing neither moves the global random stream nor builds a graph, so it can be done in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vaerl.report.figures import (
    INK,
    MUTED,
    density_color,
    figure_style,
    new_figure,
    quiet_axes,
)

Array = NDArray[np.float64]

COLORMAP = "viridis"
MAX_PAIR_DIMS = 6  # a projection of more dimensions shows the six that vary most
ROW_NAME = 0.3  # inches at the left that the names of rows take
MAX_POINTS = 1_000_000  # points × states × auxiliary paths evaluated at once: bounds the memory


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
    axis_names: Sequence[str] | None = None,
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
        axis_names: one name per action dimension.

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
    titles = _labels("titles", titles, len(columns), "density")
    states = _labels("states", states, rows, "state")
    names = _labels("names", names, len(columns), "")
    if axis_names is None:
        axis_names = [f"a{i + 1}" for i in range(dims)] if dims > 1 else ["action"]

    with figure_style():
        if dims == 1:
            panels = [grid_density(v, *box, cells=cells or _cells(v, 400), k=k) for v in columns]
            return _curves(panels, box, titles, states, names, columns, k, axis_names)
        if dims == 2:
            panels = [grid_density(v, *box, cells=cells or _cells(v, 120), k=k) for v in columns]
            return _heat_maps(panels, box, titles, states, names, columns, k, axis_names)
        return _projections(columns, box, titles, states, names, cells or 40, samples, axis_names)


def how_drawn(value: Any, k: int = 64) -> str:
    """What the numbers in a panel of `value` are, in a few words for its caption."""
    if value.event_shape[0] > 2:
        return "samples"
    codes = getattr(value, "codes", 0)
    if codes:
        return f"mean over {codes} codes"
    return "exact density" if is_exact(value) else f"lower bound, k = {k}"


def grid_density(value: Any, low: Array, high: Array, *, cells: int, k: int = 64) -> Array:
    """p(a | s), or its lower bound, at the centres of a grid over the box, in 1/volume.

    Cell centres never touch the edge of the box, where a squashed density may be infinite.
    Returns shape (S, cells) for D = 1 and, first action dimension first, (S, cells, cells) for 2.
    """
    dims = len(low)
    centres = [_centres(low[d], high[d], cells) for d in range(dims)]
    points = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, dims)
    with _own_randomness():
        like = value.sample()
        rows = like.shape[0] if like.ndim == 2 else 1
        grid = torch.as_tensor(points, dtype=like.dtype, device=like.device)
        if like.ndim == 2:
            grid = grid[:, None, :].expand(-1, rows, -1)
        exact = is_exact(value)
        paths = getattr(value, "codes", 0) or (1 if exact else k)
        step = max(1, MAX_POINTS // (rows * paths))
        parts = [
            value.log_prob(chunk) if exact else value.log_prob_bounds(chunk, k=k).lower
            for chunk in grid.split(step)
        ]
        log_density = torch.cat(parts).double().cpu().numpy().reshape(len(points), rows)
    density = np.exp(np.nan_to_num(log_density, nan=-np.inf, neginf=-np.inf, posinf=700.0).T)
    return density.reshape(rows, *([cells] * dims))


def sample_rows(value: Any, samples: int) -> Array:
    """Draws from p(a | s), shape (S, samples, D), from a random stream of their own."""
    with _own_randomness():
        draws = value.sample((samples,)).double().cpu().numpy()
    return draws[None] if draws.ndim == 2 else np.moveaxis(draws, 0, 1)


def share_outside(value: Any, low: ArrayLike, high: ArrayLike, samples: int = 2000) -> float:
    """Share of draws, over all states, that fall outside the box [low, high].

    >>> from torch.distributions import Independent, Uniform
    >>> value = Independent(Uniform(torch.full((1, 1), -4.0), torch.full((1, 1), 4.0)), 1)
    >>> round(share_outside(value, -2.0, 2.0), 1)
    0.5
    """
    draws = sample_rows(value, samples)
    return float(((draws < np.asarray(low)) | (draws > np.asarray(high))).any(-1).mean())


def _curves(
    panels: list[Array],
    box: tuple[Array, Array],
    titles: Sequence[str],
    states: Sequence[str],
    names: Sequence[str],
    columns: list[Any],
    k: int,
    axis_names: Sequence[str],
) -> Figure:
    rows = len(states)
    axes = _panels(rows, len(panels), (2.3, 1.35), 0.9, sharex=True)
    for column, density in enumerate(panels):
        x = _centres(box[0][0], box[1][0], density.shape[1])
        color = density_color(names[column])
        for row in range(rows):
            ax = axes[row, column]
            ax.fill_between(x, density[row], color=color, alpha=0.28, linewidth=0)
            ax.plot(x, density[row], color=color, linewidth=1.6)
            ax.set_xlim(box[0][0], box[1][0])
    for row in range(rows):
        for column, ax in enumerate(axes[row]):
            if row == rows - 1 or len(panels) == 1:
                ax.set_xlabel(axis_names[0])
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set_ylim(0.0, 1.08 * _row_top([p[row] for p in panels]))
            ax.tick_params(labelleft=column == 0)
    how = [how_drawn(value, k) for value in columns]
    return _titled(axes, states, titles, names, how)


def _heat_maps(
    panels: list[Array],
    box: tuple[Array, Array],
    titles: Sequence[str],
    states: Sequence[str],
    names: Sequence[str],
    columns: list[Any],
    k: int,
    axis_names: Sequence[str],
) -> Figure:
    rows = len(states)
    low, high = box
    sideways = len(panels) == 1
    panel = (2.1, 2.5) if sideways else (2.2, 1.95)
    axes = _panels(rows, len(panels), panel, 0.75, sharex=True, sharey=True)
    for row in range(rows):
        norm = PowerNorm(0.5, vmin=0.0, vmax=_row_top([p[row] for p in panels]))
        for column, density in enumerate(panels):
            ax = axes[row, column]
            ax.imshow(
                density[row].T,
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
            if row == rows - 1 or sideways:
                ax.set_xlabel(axis_names[0], labelpad=1)
            if column == 0 and not (sideways and row):
                ax.set_ylabel(axis_names[1], labelpad=1)
        bar = axes[0, 0].figure.colorbar(
            ScalarMappable(norm, COLORMAP),
            ax=list(axes[row]),
            location="bottom" if sideways else "right",
            fraction=0.05 if sideways else 0.03,
            pad=0.02,
            aspect=18,
        )
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(2 if sideways else 4)
        bar.update_ticks()
        bar.set_label("density", fontsize=8.0, color=MUTED)
    return _titled(axes, states, titles, names, [how_drawn(value, k) for value in columns])


def _projections(
    columns: list[Any],
    box: tuple[Array, Array],
    titles: Sequence[str],
    states: Sequence[str],
    names: Sequence[str],
    cells: int,
    samples: int,
    axis_names: Sequence[str],
) -> Figure:
    rows = len(states)
    draws = [sample_rows(value, samples) for value in columns]
    shown = _widest_dims(draws, box)
    axes = _panels(rows, len(columns), (3.1, 3.0), 0.7)
    for row in range(rows):
        mosaics = [_pair_mosaic(d[row], box, shown, cells) for d in draws]
        norm = PowerNorm(0.5, vmin=0.0, vmax=_row_top([m[np.isfinite(m)] for m in mosaics]))
        for column, mosaic in enumerate(mosaics):
            ax = axes[row, column]
            ax.imshow(
                mosaic,
                origin="upper",
                extent=(0, len(shown), len(shown), 0),
                norm=norm,
                cmap=COLORMAP,
                interpolation="nearest",
            )
            _marginals(ax, draws[column][row], box, shown, cells, density_color(names[column]))
            _mosaic_ticks(ax, [axis_names[d] for d in shown])
    return _titled(axes, states, titles, names, ["samples"] * len(columns))


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


def _mosaic_ticks(ax: Axes, names: list[str]) -> None:
    quiet_axes(ax)
    places = [i + 0.5 for i in range(len(names))]
    ax.set_xticks(places, names)
    ax.set_yticks(places, names)
    ax.tick_params(length=0)


def _widest_dims(draws: list[Array], box: tuple[Array, Array]) -> list[int]:
    """The dimensions to project on: all, or the `MAX_PAIR_DIMS` whose samples vary most."""
    spread = sum(d.std(axis=1).mean(axis=0) for d in draws) / (box[1] - box[0])
    widest = np.argsort(-spread, kind="stable")[:MAX_PAIR_DIMS]
    return sorted(int(d) for d in widest)


def _panels(
    rows: int,
    columns: int,
    panel: tuple[float, float],
    margin: float,
    **share: Any,
) -> NDArray[Any]:
    """Axes (rows, columns) of a new figure, sizes in inches; one column alone lies on its side."""
    if columns == 1:
        figure = new_figure(0.4 + panel[0] * rows, margin + panel[1])
        return figure.subplots(1, rows, squeeze=False, **share).T
    width = margin + panel[0] * columns
    figure = new_figure(width, margin + panel[1] * rows)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(ROW_NAME / width, 0.0, 1.0 - ROW_NAME / width, 1.0))
    return figure.subplots(rows, columns, squeeze=False, **share)


def _titled(
    axes: NDArray[Any],
    states: Sequence[str],
    titles: Sequence[str],
    names: Sequence[str],
    how: Sequence[str],
) -> Figure:
    """Name rows and columns: states at the left and densities on top, or all on top if sideways."""
    figure: Figure = axes[0, 0].figure
    colors = [density_color(name) if name else INK for name in names]
    if axes.shape[1] == 1:
        for ax, state in zip(axes[:, 0], states, strict=True):
            ax.set_title(state)
        title = ", ".join(filter(None, [titles[0], how[0]]))
        figure.suptitle(title, color=colors[0], weight="bold", size=9.5)
        return figure
    for ax, title, kind, color in zip(axes[0], titles, how, colors, strict=True):
        ax.set_title(kind, fontsize=8.0, color=MUTED, pad=4)
        _beside(ax, title, (0.5, 1.0), (0, 15), color=color, size=9.5)
    for ax, state in zip(axes[:, 0], states, strict=True):
        left = -40 if ax.get_ylabel() else -32
        name = _beside(ax, state, (0.0, 0.5), (left, 0), rotation=90, va="center", size=9.0)
        name.set_in_layout(False)  # constrained layout misjudges it; `_panels` keeps it a place
    return figure


def _beside(
    ax: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], **style: Any
) -> Annotation:
    """Bold text beside a panel: `place` in parts of the axes, `shift` in points."""
    return ax.annotate(
        text,
        place,
        xycoords="axes fraction",
        xytext=shift,
        textcoords="offset points",
        ha="center",
        weight="bold",
        **style,
    )


def _row_top(panels: Sequence[Array]) -> float:
    """The top of a row's common scale: the largest value, except for a last half percent of cells.

    A squashed density piles up in a few cells at the edge of the box, which would hide the rest.
    """
    top = max(float(np.quantile(p, 0.995)) if p.size > 1000 else float(p.max()) for p in panels)
    return top if np.isfinite(top) and top > 0.0 else 1.0


def _cells(value: Any, cells: int) -> int:
    return cells if is_exact(value) else cells // 2


def _centres(low: float, high: float, cells: int) -> Array:
    return low + (high - low) * (np.arange(cells) + 0.5) / cells


def is_exact(value: Any) -> bool:
    """Whether `log_prob` of a value is exact; torch's own distributions are."""
    return bool(getattr(value, "exact", True))


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Draw from a stream that starts at 0 and leave the global one where it was; no gradients."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(0)
        yield


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
