"""Pictures of `modes`: where the policies of a task go, and which goals they reach."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gymnasium
import numpy as np
from safetensors.numpy import load_file

from vaerl.disk import files
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.report.figures import save_png
from vaerl.report.map_figures import rollout_figure


def draw_figures(traces: Mapping[tuple[str, str], Path], out: Path) -> list[Path]:
    """One picture a task, out/figures/<task>.png, with a panel for every policy; their paths.

    Args:
        traces: the file with the episodes of one run, by (task, policy).
        out: folder of the table.
    """
    folder = files.make_directory(out / "figures")
    paths = []
    for task in dict.fromkeys(task for task, _ in traces):
        names = [name for name in POLICIES if (task, name) in traces]
        saved = [load_file(traces[task, name]) for name in names]
        env = gymnasium.make(TASKS[task].env)
        figure = rollout_figure(
            [[row[~np.isnan(row[:, 0])] for row in one["places"]] for one in saved],
            [one["goals"].tolist() for one in saved],
            env,
            titles=names,
            names=[POLICIES[name].density for name in names],
        )
        env.close()
        paths.append(save_png(figure, folder / f"{task}.png", dpi=80))
    return paths
