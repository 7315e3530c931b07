"""Pictures of `dynamics`, from the files of finished cells: the lowest seed of every model.

Laws at the environment's probe pairs beside the truth, calibration, modes, roll-out fans.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaerl.disk import files
from vaerl.experiments.dynamics.tasks import TASKS
from vaerl.lab.experiment import Results
from vaerl.report.dynamics_figures import (
    calibration_figure,
    fan_figure,
    transition_figure,
)
from vaerl.report.figures import density_color, figure_style, new_figure, save_png

Saved = dict[str, dict[str, np.ndarray]]
"""Arrays of a task by model."""


def draw_figures(results: Results, out: Path) -> list[Path]:
    """Draw up to four pictures a task into out/figures; give their paths."""
    folder = files.make_directory(out / "figures")
    paths = []
    for task in dict.fromkeys(r.cell["task"] for r in results):
        own = [r for r in results if r.cell["task"] == task]
        saved = _lowest_seeds(own)
        drawn = {"calibration": _calibration(saved), "modes": _modes(task, own)}
        drawn |= {"laws": _laws(task, saved), "fan": _fan(saved)}
        for name, figure in drawn.items():
            if figure is not None:
                paths.append(save_png(figure, folder / f"{task}-{name}.png", dpi=80))
    return paths


def _lowest_seeds(results: Results) -> Saved:
    """The arrays of every model's lowest seed, in the order of the models."""
    first: Saved = {}
    for result in sorted(results, key=lambda r: int(r.cell["seed"])):
        first.setdefault(result.cell["model"], result.arrays())
    models = dict.fromkeys(r.cell["model"] for r in results)
    return {model: first[model] for model in models if first[model]}


def _laws(task: str, saved: Saved) -> Figure | None:
    make_env = TASKS[task].make_env
    kept = {model: arrays for model, arrays in saved.items() if "probe_draws" in arrays}
    if make_env is None or not kept:
        return None
    env = make_env()
    truth = next(iter(kept.values()))["probe_truth"]
    varies = truth.std(axis=0).mean(axis=0)
    coordinate = int(varies.argmax())
    return transition_figure(
        {model: arrays["probe_draws"][..., coordinate] for model, arrays in kept.items()},
        truth[..., coordinate],
        names=list(env.probe_pairs()),
        axis=f"coordinate {env.scored[coordinate] + 1} of s'",
    )


def _calibration(saved: Saved) -> Figure | None:
    kept = {model: arrays["pit"] for model, arrays in saved.items() if "pit" in arrays}
    return calibration_figure(kept) if kept else None


def _fan(saved: Saved) -> Figure | None:
    kept = {model: arrays for model, arrays in saved.items() if "fan" in arrays}
    if not kept:
        return None
    truth = next(iter(kept.values()))["fan_truth"]
    coordinate = int(truth.std(axis=1).mean(axis=0).argmax())
    return fan_figure(
        {model: arrays["fan"][..., coordinate] for model, arrays in kept.items()},
        truth[..., coordinate],
        axis=f"coordinate {coordinate + 1}",
    )


def _modes(task: str, results: Results) -> Figure | None:
    """Mode coverage against spurious mass, a mark a seed; the truth is in the corner."""
    points: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if {"coverage", "spurious"} <= set(result.data["numbers"]):
            points.setdefault(result.cell["model"], []).append(result.data["numbers"])
    if not points:
        return None
    with figure_style():
        figure = new_figure(4.6, 3.4)
        ax = figure.subplots()
        for model, numbers in points.items():
            x, y = ([n[key] for n in numbers] for key in ("spurious", "coverage"))
            ax.plot(x, y, "o", color=density_color(model), label=model, alpha=0.8)
        ax.axvline(0.01, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlabel("spurious mass (truth .01)")
        ax.set_ylabel("mode coverage (truth 1)")
        ax.legend(fontsize=7)
        ax.set_title(task)
    return figure
