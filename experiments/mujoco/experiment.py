"""Does a CVAE policy keep up with the Gaussian in SAC on HalfCheetah and Hopper?

Protocol. {HalfCheetah-v5, Hopper-v5} × {gaussian, cvae} × seeds, `vaerl.agents.SAC` with
stable-baselines3's hyperparameters; `width` shrinks networks and batches together, for all alike,
where time is short. Curves and scores as in `vaerl.lab.comparison`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from vaerl.agents import SAC
from vaerl.densities import density_names
from vaerl.densities.options import check_positive
from vaerl.lab.comparison import Comparison
from vaerl.names import check_name

ENVS = ("Hopper-v5", "HalfCheetah-v5")
DENSITIES = ("gaussian", "cvae")
STEPS = 50_000
WIDTH = 256  # of the hidden layers and of the batches, as in stable-baselines3
DEBUG = {"learning_starts": 40, "batch_size": 16}


def run(
    out: Path,
    preset: str = "full",
    envs: list[str] | None = None,
    densities: list[str] | None = None,
    seeds: list[int] | None = None,
    steps: int = STEPS,
    width: int = WIDTH,
    jobs: int = 2,
) -> Path:
    """Train the unfinished cells, print the table, draw the curves.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug", which runs in seconds.
        envs: Gymnasium ids; Hopper-v5 and HalfCheetah-v5 by default ("debug": the first).
        densities: gaussian and cvae by default.
        seeds: 0, 1, 2 by default ("debug": 0).
        steps: environment steps a run.
        width: units of each hidden layer and transitions of a batch.
        jobs: processes, each with one thread.
    """
    names = [check_name("density", name, density_names()) for name in densities or DENSITIES]
    settings: dict[str, Any] = {
        "batch_size": check_positive("width", width),
        "policy_kwargs": {"net_arch": [width, width]},
    }
    comparison = Comparison(
        name="mujoco",
        title="SAC on MuJoCo: return by density",
        caption="stable-baselines3's hyperparameters for all"
        + (f", but for layers and batches of {width}." if width != WIDTH else "."),
        learners={name: partial(SAC, name, **settings) for name in names},
        steps=dict.fromkeys(envs or ENVS, check_positive("steps", steps)),
        debug=dict.fromkeys(names, DEBUG),
    )
    return comparison.compare(
        run, out, preset, envs, None, seeds, jobs,
        densities=densities, steps=steps, width=width,
    )  # fmt: skip
