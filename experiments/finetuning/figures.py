"""The picture of `finetuning`: entropy against success, a star for each clone."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from vaerl.disk import files
from vaerl.lab.experiment import Results
from vaerl.report.figures import save_png


def draw_figures(results: Results, out: Path) -> Path:
    """out/figures/finetuning.png: a panel a start, means over seeds."""
    groups: dict[str, dict[str, list[Any]]] = {}
    for result in results:
        cell = result.cell
        label = (
            cell["agent"] if cell["density"] == "cvae" else f"{cell['density']}, {cell['agent']}"
        )
        groups.setdefault(cell["start"], {}).setdefault(label, []).append(result.data)
    figure = Figure(figsize=(4.2 * len(groups), 3.6), layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    for ax, (start, agents) in zip(axes, groups.items(), strict=True):
        for label, members in agents.items():
            x, y = (mean(member[key] for member in members) for key in ("success", "entropy"))
            ax.scatter([x], [y], marker="*" if label.endswith("clone") else "o", label=label)
        ax.set(title=f"{start} clone", xlabel="success", ylabel="entropy over ways")
        ax.legend(fontsize=7)
    return save_png(figure, files.make_directory(out / "figures") / "finetuning.png", dpi=80)
