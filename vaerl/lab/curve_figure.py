"""The picture of learning curves: a panel an environment, a colour a learner, a line a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def draw_curves(
    curves: Mapping[tuple[str, str, int], Sequence[Sequence[float]]], out: Path
) -> Path:
    """Draw [step, return] by (environment, learner, seed) into out/figures/curves.png."""
    envs = list(dict.fromkeys(env for env, _, _ in curves))
    learners = list(dict.fromkeys(learner for _, learner, _ in curves))
    figure = Figure(figsize=(5.0 * len(envs), 3.6), layout="constrained")
    for axis, env in zip(figure.subplots(1, len(envs), squeeze=False)[0], envs, strict=True):
        for number, learner in enumerate(learners):
            own = [np.array(c) for (e, l, _), c in curves.items() if (e, l) == (env, learner)]
            for line, points in enumerate(own):
                label = learner if line == 0 else None
                axis.plot(*points.T, color=f"C{number}", alpha=0.8, marker=".", label=label)
        axis.set_title(env)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("return of training episodes")
        axis.legend()
    path = out / "figures" / "curves.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path
