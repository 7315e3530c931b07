"""Pictures of a learned model: its laws and the true ones, its calibration, its roll-outs.

Pictures are drawn from arrays of samples; they need neither the model nor the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaerl.report.figures import INK, MUTED, density_color, figure_style, new_figure

Array = NDArray[np.floating]

BINS = 60
PIT_BINS = 20
BANDS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of a fan


def transition_figure(
    draws: Mapping[str, Array],
    truth: Array | None = None,
    *,
    names: Sequence[str],
    outcomes: Array | None = None,
    axis: str = "next state",
) -> Figure:
    """One coordinate of s' at P pairs (s, a): one row per pair, one column per model.

    Args:
        draws: samples of each model, ``(n, P)``.
        truth: samples of the true law, ``(m, P)``, in grey.
        names: names of the pairs.
        outcomes: observed outcomes, ``(P,)``, marked by lines.
        axis: name of the coordinate.

    >>> rng = np.random.default_rng(0)
    >>> figure = transition_figure({"cvae": rng.normal(size=(50, 2))}, names=["here", "there"])
    >>> len(figure.axes)
    2
    """
    rows = len(names)
    with figure_style():
        figure = new_figure(1.9 * len(draws) + 0.5, 1.5 * rows + 0.5)
        grid = figure.subplots(rows, len(draws), squeeze=False, sharex="row")
        for row, name in enumerate(names):
            seen = [d[:, row] for d in draws.values()] + ([] if truth is None else [truth[:, row]])
            edges = _edges(np.concatenate(seen), None if outcomes is None else outcomes[row])
            for column, (model, found) in enumerate(draws.items()):
                ax = grid[row, column]
                if truth is not None:
                    ax.hist(truth[:, row], edges, density=True, color=MUTED, alpha=0.45)
                ax.hist(
                    found[:, row],
                    edges,
                    density=True,
                    histtype="step",
                    color=density_color(model),
                    linewidth=1.3,
                )
                if outcomes is not None:
                    ax.axvline(outcomes[row], color=INK, linewidth=0.9)
                ax.set_yticks([])
                ax.locator_params(axis="x", nbins=4)
                ax.tick_params(labelsize=7)
                if row == 0:
                    ax.set_title(model, color=density_color(model))
                if column == 0:
                    ax.set_ylabel(name, fontsize=8)
        figure.supxlabel(axis if truth is None else f"{axis} (grey: the truth)", fontsize=9)
    return figure


def calibration_figure(pit: Mapping[str, Array]) -> Figure:
    """Histograms of PIT values, and the share of outcomes inside central intervals.

    Args:
        pit: PIT values of each model, any shape; uniform on (0, 1) if it is calibrated.

    >>> len(calibration_figure({"cvae": np.linspace(0, 1, 40)}).axes)
    2
    """
    with figure_style():
        figure = new_figure(1.7 * len(pit) + 3.2, 2.6)
        axes = figure.subplots(1, len(pit) + 1, width_ratios=[1.0] * len(pit) + [1.8])
        last = axes[-1]
        levels = np.linspace(0.0, 1.0, 41)
        for ax, (model, values) in zip(axes[:-1], pit.items(), strict=True):
            color = density_color(model)
            flat = np.asarray(values).ravel()
            ax.hist(flat, np.linspace(0.0, 1.0, PIT_BINS + 1), density=True, color=color, alpha=0.7)
            ax.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
            ax.set_title(model, color=color)
            ax.set_yticks([])
            ax.set_xticks([0.0, 1.0])
            inside = (2.0 * np.abs(flat - 0.5) <= levels[:, None]).mean(axis=1)
            last.plot(levels, inside, color=color, label=model)
        last.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        last.set_xlabel("central interval")
        last.set_ylabel("share inside")
        last.legend(fontsize=6.5)
        figure.supxlabel("PIT of the outcomes", fontsize=8, x=0.35)
    return figure


def fan_figure(
    paths: Mapping[str, Array], truth: Array | None = None, *, axis: str = "state"
) -> Figure:
    """Roll-outs of one coordinate under fixed actions: quantiles as bands, a few paths as lines.

    Args:
        paths: roll-outs of each model, ``(T + 1, n)``.
        truth: true paths, ``(T + 1, m)``.
        axis: name of the coordinate.

    >>> len(fan_figure({"cvae": np.zeros((5, 3))}, np.zeros((5, 1))).axes)
    2
    """
    panels = {**({} if truth is None else {"truth": truth}), **paths}
    with figure_style():
        figure = new_figure(2.1 * len(panels) + 0.5, 2.6)
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, path) in zip(grid, panels.items(), strict=True):
            color = MUTED if name == "truth" and truth is not None else density_color(name)
            steps = np.arange(len(path))
            low, lower, middle, upper, high = np.quantile(path, BANDS, axis=1)
            ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
            ax.fill_between(steps, lower, upper, color=color, alpha=0.3, linewidth=0)
            ax.plot(steps, path[:, :8], color=color, linewidth=0.5, alpha=0.7)
            ax.plot(steps, middle, color=color, linewidth=1.4)
            if truth is not None and name != "truth" and truth.shape[1] == 1:
                ax.plot(steps, truth[:, 0], color=INK, linewidth=1.0, linestyle="--")
            ax.set_title(name, color=color)
            ax.set_xlabel("step")
        grid[0].set_ylabel(axis)
    return figure


def _edges(values: Array, also: float | None) -> NDArray[np.float64]:
    """Bins over the middle 99.8 % of the values, and over `also`."""
    low, high = np.quantile(values, [0.001, 0.999])
    if also is not None:
        low, high = min(low, also), max(high, also)
    margin = 0.05 * (high - low) + 1e-3
    return np.linspace(low - margin, high + margin, BINS + 1)
