"""Pictures of the clones: the ways of each policy over the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
from matplotlib.figure import Figure

import vaerl.envs
from vaerl.experiments.cloning.tasks import TASKS
from vaerl.lab.experiment import Results
from vaerl.report.figures import save_png

ORDER = ("replay", "gaussian", "mixture-16", "act-z0", "flow-matching", "diffusion", "cvae")


def draw_figures(results: Results, out: Path) -> list[Path]:
    """Draw out/figures/<task>.png: the paths of the first seed of every policy."""
    vaerl.envs.register_envs()
    drawn = []
    for task in dict.fromkeys(result.cell["task"] for result in results):
        own = [r for r in results if r.cell["task"] == task]
        seed = min(r.cell["seed"] for r in own)
        count, chunk = own[0].cell["demonstrations"], own[0].cell["chunk"]
        shown = {
            r.cell["row"]: r
            for r in own
            if (r.cell["seed"], r.cell["demonstrations"], r.cell["chunk"]) == (seed, count, chunk)
        }
        names = [name for name in ORDER if name in shown]
        if names:
            drawn.append(_draw(task, {name: shown[name] for name in names}, out))
    return drawn


def _draw(task: str, shown: dict[str, Any], out: Path) -> Path:
    env: Any = gymnasium.make(TASKS[task].env)
    figure = Figure(figsize=(2.6 * len(shown), 3.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (name, result) in zip(axes, shown.items(), strict=True):
        env.unwrapped.map_artist(axis)
        for path in result.arrays()["paths"]:
            axis.plot(*path.T, color="C0", linewidth=0.6, alpha=0.6)
        numbers = result.data
        axis.set_title(f"{name}\n{numbers['success']:.2f} / {numbers['entropy']:.2f}", fontsize=9)
    path = out / "figures" / f"{task}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_png(figure, path, dpi=90)
