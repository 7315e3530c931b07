"""Pictures of the clones: the ways of each policy over the map."""

from __future__ import annotations

from pathlib import Path

import vaerl.envs
from vaerl.experiments.cloning.tasks import TASKS
from vaerl.lab.experiment import Results

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
            path = out / "figures" / f"{task}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {name: (shown[name].data, shown[name].arrays()["paths"]) for name in names}
            drawn.append(TASKS[task].draw(found, path))
    return drawn
