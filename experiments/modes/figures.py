"""Pictures of `modes`: where the policies of a task go, and which goals they reach."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np

from vaerl.disk import files
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.experiment import Results
from vaerl.report.figures import save_png
from vaerl.report.map_figures import Rollouts, rollout_figure


def draw_figures(results: Results, out: Path) -> list[Path]:
    """One picture a task, out/figures/<task>.png, a panel for every policy's first run."""
    folder = files.make_directory(out / "figures")
    paths = []
    for task in TASKS:
        own: dict[str, dict[str, np.ndarray]] = {}
        for result in sorted(results, key=lambda r: int(r.cell["seed"])):
            arrays = result.arrays() if result.cell["task"] == task else {}
            if arrays:
                own.setdefault(result.cell["policy"], arrays)
        names = [name for name in POLICIES if name in own]
        if not names:
            continue
        runs = [
            Rollouts(
                [row[~np.isnan(row[:, 0])] for row in own[name]["places"]],
                own[name]["goals"].tolist(),
                name,
                POLICIES[name].density,
            )
            for name in names
        ]
        env = gymnasium.make(TASKS[task].env)
        figure = rollout_figure(runs, env)
        env.close()
        paths.append(save_png(figure, folder / f"{task}.png", dpi=80))
    return paths
