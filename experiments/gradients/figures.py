"""Pictures of the gradient experiment, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(part: str, data: Mapping[str, Any], path: Path) -> Path:
    """Draw the picture of a part ("linear", "network", "helmholtz") to `path`."""
    columns = len(data) if part == "network" else 1
    rows = 1 if part == "helmholtz" else 2
    figure = Figure(
        figsize=(4.4 * columns + 1.6 * (columns == 1), 3.4 * rows), layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    if part == "helmholtz":
        _curves(axes[0, 0], data)
    elif part == "linear":
        _spreads(axes[0, 0], axes[1, 0], data)
    else:
        for column, (mark, by_name) in enumerate(data.items()):
            _spreads(axes[0, column], axes[1, column], by_name)
            axes[0, column].set_title(f"after {mark} epochs", fontsize=9)
    axes[0, -1].legend(fontsize=6)
    figure.savefig(path, dpi=80)
    return path


def _spreads(variance: Axes, snr: Axes, by_name: Mapping[str, Any]) -> None:
    """Variance and SNR against k, a line an estimator."""
    for number, (name, by_k) in enumerate(by_name.items()):
        style: dict[str, Any] = {"marker": "o^sv"[number % 4], "markersize": 4, "label": name}
        ks = [int(k) for k in by_k]
        variance.loglog(ks, [cell["variance"] for cell in by_k.values()], **style)
        seen = {int(k): cell["snr"] for k, cell in by_k.items() if cell["snr"] > 0}
        snr.loglog([*seen], [*seen.values()], **style)
    for axis, label in ((variance, "trace of the variance"), (snr, "SNR")):
        axis.set_xlabel("samples k")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)


def _curves(axis: Axes, data: Mapping[str, Any]) -> None:
    for method, curve in data.items():
        axis.plot(*zip(*curve, strict=True), marker="o", label=method)
    axis.set_xlabel("epochs")
    axis.set_ylabel("test NLL, nats")
    axis.grid(alpha=0.3)
