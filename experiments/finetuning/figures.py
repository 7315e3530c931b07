"""The picture of `finetuning`: entropy against success, a star for each clone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaerl.disk import files
from vaerl.lab.experiment import Results
from vaerl.report.figures import save_png
from vaerl.stats import half_width

AXES = ("success", "entropy")


def draw_figures(results: Results, out: Path) -> Path:
    """out/figures/finetuning.png: a panel a start, means with 95 % intervals over seeds."""
    groups: dict[str, dict[str, list[Any]]] = {}
    for result in results:
        cell = result.cell
        label = (
            cell["agent"] if cell["density"] == "cvae" else f"{cell['density']}, {cell['agent']}"
        )
        groups.setdefault(cell["start"], {}).setdefault(label, []).append(result.data)
    figure = Figure(figsize=(4.2 * len(groups), 3.8), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    for ax, (start, agents) in zip(axes, groups.items(), strict=True):
        for label, members in agents.items():
            points = np.array([[member[key] for key in AXES] for member in members])
            (x, y), (dx, dy) = points.mean(axis=0), half_width(points)
            marker = "*" if label.endswith("clone") and "+" not in label else "o"
            ax.errorbar(x, y, xerr=dx, yerr=dy, fmt=marker, markersize=8, alpha=0.8, label=label)
        ax.set(title=f"{start} clone", xlabel="success", ylabel="entropy over ways")
        ax.set(xlim=(0.0, 1.05), ylim=(0.0, 1.05))
        ax.legend(fontsize=7, loc="lower left")
    return save_png(figure, files.make_directory(out / "figures") / "finetuning.png", dpi=80)
