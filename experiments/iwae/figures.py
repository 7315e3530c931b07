"""Pictures of the IWAE table: samples beside real digits, reconstructions, units, bound against k.

Everything is read from the finished cells; no data set is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaerl.experiments.iwae.score import THRESHOLD
from vaerl.lab.cells import Result
from vaerl.lab.experiment import Results

SHOWN = 3  # cells whose samples are shown, the best ones


def draw_figures(results: Results, out: Path) -> list[Path]:
    """Draw the four pictures into out/figures; give their paths."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    seen = [result for result in results if result.arrays()]
    best = sorted(seen, key=lambda result: float(result.data["nll"]))[:SHOWN]
    drawn = {"units": _units(results), "bounds": _bounds(results)}
    if best:
        drawn["samples"] = _samples(best)
        drawn["reconstructions"] = _reconstructions(best)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=80)
    return [folder / f"{name}.png" for name in drawn]


def label(result: Result) -> str:
    """Such as "IWAE k 50, 1 layer (full)"."""
    cell = result.cell
    layers = f"{cell['layers']} layer{'s' if cell['layers'] > 1 else ''}"
    return f"{cell['objective'].upper()} k {cell['k']}, {layers} ({cell['group']})"


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _samples(best: Results) -> Figure:
    figure = _figure(3.2 * (1 + len(best)), 4.2)
    axes = figure.subplots(1, 1 + len(best), squeeze=False)[0]
    _show(axes[0], best[0].arrays()["real"], "real digits")
    for axis, result in zip(axes[1:], best, strict=True):
        title = f"samples, {label(result)}\nNLL {result.data['nll']:.2f}"
        _show(axis, result.arrays()["samples"], title)
    return figure


def _reconstructions(best: Results) -> Figure:
    """Rows in pairs: the input of the model and its reconstruction."""
    figure = _figure(3.2 * len(best), 4.2)
    for axis, result in zip(figure.subplots(1, len(best), squeeze=False)[0], best, strict=True):
        saved = result.arrays()
        count = len(saved["binary"]) // 10 * 5
        pairs = [
            part[start : start + 5]
            for start in range(0, count, 5)
            for part in (saved["binary"], saved["again"])
        ]
        _show(
            axis,
            np.concatenate(pairs),
            f"digit above, again below\n{label(result)}",
        )
    return figure


def _show(axis: Axes, images: NDArray[np.float32], title: str, columns: int = 5) -> None:
    """Images in a grid of `columns`."""
    rows = len(images) // columns
    grid = images[: rows * columns].reshape(rows, columns, 28, 28)
    axis.imshow(grid.transpose(0, 2, 1, 3).reshape(rows * 28, columns * 28), cmap="gray_r")
    axis.set_title(title, fontsize=8)
    axis.axis("off")


def _units(results: Results) -> Figure:
    """Variance of each unit's posterior mean, largest first; active ones lie above the line."""
    depths = sorted({(r.cell["layers"], l) for r in results for l in range(r.cell["layers"])})
    figure = _figure(4.2 * len(depths), 3.6)
    for axis, (layers, l) in zip(
        figure.subplots(1, len(depths), squeeze=False)[0], depths, strict=True
    ):
        for result in results:
            if result.cell["layers"] == layers:
                variances = sorted(result.data["unit_variances"][l], reverse=True)
                axis.semilogy(
                    range(1, len(variances) + 1),
                    variances,
                    label=f"{label(result)}: {result.data['active'][l]}",
                )
        axis.axhline(THRESHOLD, color="black", linewidth=0.8, linestyle=":")
        axis.set_xlabel(f"unit of h{l + 1}, {layers} layer{'s' if layers > 1 else ''}")
        axis.set_ylabel("variance of the posterior mean")
        axis.legend(fontsize=6)
    return figure


def _bounds(results: Results) -> Figure:
    """L_k against k, on the first test images."""
    depths = sorted({result.cell["layers"] for result in results})
    figure = _figure(4.8 * len(depths), 3.6)
    for axis, layers in zip(figure.subplots(1, len(depths), squeeze=False)[0], depths, strict=True):
        for result in results:
            if result.cell["layers"] == layers:
                points = sorted((int(k), bound) for k, bound in result.data["bound_by_k"].items())
                axis.semilogx(*zip(*points, strict=True), marker="o", label=label(result))
        axis.set_xlabel(f"samples k at test, {layers} layer{'s' if layers > 1 else ''}")
        axis.set_ylabel("mean L_k, nats")
        axis.legend(fontsize=6)
    return figure
