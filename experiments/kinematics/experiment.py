"""Online, how close does a policy come to the posterior of an arm, and what if its way is blocked?

Protocol. `vaerl/InverseKinematics-v0` with four joints: one step, the reward is the log-density of
the posture jointly with the target, so that the best policy at temperature 1 is the posterior.
Targets are drawn anew in each episode. {gaussian, mixture, cvae} × seeds, `vaerl.agents.SAC` with
the same critic, budget and rates for all (`SETTINGS`). Reported over five targets are the
distance KL(policy ‖ posterior), whose normaliser comes from Monte Carlo (for the cvae an upper
bound), the share of exact postures that draws cover, the error of the tip and the mismatch.

Knock-out. At the target (1.4, 0), which both bends of the arm reach equally well, a disc of radius
.05 blocks the place that most of the policy's own successful postures pass. Reported is the share
of draws that reach the target and keep clear of the disc: without it, at once, and after 1,000
more steps there. The last row is the posterior itself, with a disc of its own.

A step towards samples of the critic (`improvement="both"`) keeps the modes of mixture and CVAE. A
Gaussian has one to keep and comes nearer with SAC's own step, so it takes that (`settings`).

Files: out/<density>-s<seed>/ (the runs), out/cells/, out/results.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vaerl.envs.inverse_kinematics import Arm, InverseKinematicsEnv, Posterior
from vaerl.experiments.demo.scores import WITHIN
from vaerl.experiments.demo.tasks import KEEPS_MODES, SIGMA, TARGET
from vaerl.experiments.kinematics.scores import (
    DRAWS,
    free_share,
    postures,
    preferred_place,
    reaches,
    score_policy,
)
from vaerl.experiments.knockout.blocks import go_on
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.training import RunCell, finish_run
from vaerl.names import check_name
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import load_run

PRESETS = ("full", "debug")
SEEDS = (0, 1, 2)
STEPS = 16_000
SOFTNESS = 0.01
"""Of the disc: an arm through its middle pays 12.5 nats."""
FURTHER = {"full": 1000, "debug": 60}
"""Steps of the adaptation to the disc; an update after each step of all copies."""
RATE = 1e-3
"""Its learning rate."""
HEADS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gaussian": {},
        "mixture": {"components": 32, "weights": "learned"},
        "cvae": {"prior_components": 16, "prior_weights": "learned"},
    }
)
SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "env": "vaerl/InverseKinematics-v0",
        "env_options": {"sigma": SIGMA},
        "agent": "sac",
        "n_envs": 32,
        "final_episodes": 200,
        "agent_options": {
            "batch_size": 256,
            "learning_rate": "lin_4e-3_1e-5",
            "train_freq": 1,
            "gradient_steps": 8,
            "learning_starts": 2000,
            **KEEPS_MODES,
        },
    }
)


def settings(density: str) -> dict[str, Any]:
    """Of a run with this density."""
    options = dict(SETTINGS["agent_options"])
    if density == "gaussian":
        del options["improvement"], options["improvement_kwargs"]
    return {
        **SETTINGS,
        "steps": STEPS,
        "agent_options": options,
        "density_options": dict(HEADS[density]),
    }


@dataclass(frozen=True)
class Run(RunCell):
    """One density."""

    density: str

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return f"{self.density}-s{self.seed}"

    def config(self, out: Path, **more: Any) -> TrainConfig:
        """The run in its folder."""
        return super().config(out, density=self.density, **more)


def make_cells(
    preset: str = "full",
    densities: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Run]:
    """The cells, seeds outermost. Raises ValueError for an unknown name or an illegal seed."""
    debug = check_name("preset", preset, PRESETS) == "debug"
    for density in densities or ():
        check_name("density", density, HEADS)
    return [
        Run(
            seed,
            preset,
            settings(density),
            density,
        )
        for seed in seeds or SEEDS[: 1 if debug else None]
        for density in densities or HEADS
    ]


def run(
    out: Path,
    preset: str = "full",
    densities: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 2,
) -> Path:
    """Train the unfinished runs, block their ways, print the table; return results.json.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs whole in seconds.
        densities: gaussian, mixture, cvae; all by default.
        seeds: 0, 1, 2 by default ("debug": 0).
        jobs: processes, each with one thread.
    """
    options = {"preset": preset, "densities": densities, "seeds": seeds}
    cells = make_cells(preset, densities, seeds)
    experiment = Experiment(measure, assemble)
    return experiment.run(cells, out, command=command_line("kinematics", run, options), jobs=jobs)


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy, score it, then block its way."""
    directory = finish_run(cell.config(desk.path.parent.parent), desk.tick)
    agent, _, _ = load_run(directory.path)
    env = InverseKinematicsEnv(sigma=SIGMA)
    return Measured(
        {**score_policy(agent, env), **knock_out(agent, env, FURTHER[cell.preset], cell.seed)}
    )


def knock_out(
    agent: Any, env: InverseKinematicsEnv, steps: int, seed: int
) -> dict[str, float | list[float]]:
    """Free shares before the disc, at once and after `steps` more steps; the disc.

    "kept" is the share at once over that before. The agent goes on with an empty replay buffer.
    """
    task = env.posterior(TARGET)
    x = postures(agent, env)
    disc = preferred_place(task, x)
    before, at_once = float(reaches(task, x).mean()), free_share(task, x, disc)
    blocked = {"sigma": SIGMA, "target": TARGET, "obstacles": [disc], "softness": SOFTNESS}
    go_on(agent, SETTINGS["env"], blocked, steps, seed=seed, rate=RATE, updates=1, anew=True)
    return {
        "before": before,
        "at_once": at_once,
        "after": free_share(task, postures(agent, env), disc),
        "kept": at_once / before if before else 0.0,
        "disc": [round(number, 2) for number in disc],
    }


def assemble(results: Results) -> dict[str, Any]:
    """One row a density, means with 95 % intervals over seeds; the posterior's own row."""
    rows, further = [], FURTHER[results[0].cell["preset"]]
    for density in dict.fromkeys(result.cell["density"] for result in results):
        own = [result.data for result in results if result.cell["density"] == density]
        names = ("nats", "covered", "error", "mismatch", "before", "at_once", "after", "kept")
        cells = [interval([data[name] for data in own], 3) for name in names]
        seconds = interval([data["cpu_seconds"] for data in own], 0)
        rows.append([density, str(len(own)), *cells, seconds])
    task = Posterior(Arm(4), TARGET, SIGMA)
    x = task.sample(DRAWS, np.random.default_rng(1))
    disc = preferred_place(task, x)
    before, at_once = float(reaches(task, x).mean()), free_share(task, x, disc)
    blocked = Posterior(Arm(4), TARGET, SIGMA, [disc], SOFTNESS).sample(
        DRAWS, np.random.default_rng(2)
    )
    after = free_share(task, blocked, disc)
    shares = (before, at_once, after, at_once / before)
    first = results[0].data
    numbers = (0.0, WITHIN, first["error_ceiling"], first["mismatch_floor"])
    exact = [f"{number:.3f}" for number in numbers]
    rows.append(["posterior", "", *exact, *(f"{share:.3f}" for share in shares), ""])
    return {
        "title": "Inverse kinematics online: distance from the posterior, and a knock-out",
        "caption": (
            "KL(policy ‖ posterior) is an upper bound for the cvae. free: share of draws at the "
            "target (1.4, 0) that reach it and keep clear of the disc. Mean ± half of the 95 % "
            "interval (Student's t) over seeds."
        ),
        "columns": (
            *("density", "seeds", "KL [nats]", "covered", "error", "mismatch"),
            *("free before", "at once", f"after {further:,} steps", "kept at once", "CPU s"),
        ),
        "rows": rows,
        "runs": [
            {"density": r.cell["density"], "seed": r.cell["seed"]}
            | {name: value for name, value in r.data.items() if name != "machine"}
            for r in results
        ],
        "settings": plain({density: settings(density) for density in HEADS}),
    }
