"""Which critic and which switches earn return on MuJoCo, and what does a policy class add?

Protocol. Gymnasium's MuJoCo tasks × rows (`rows.py`) × densities × seeds, one thread a run. Every
10,000 steps, five times at least, and at the end the best action is judged on 10 episodes of
another copy of the environment; what the judging takes is not in the CPU seconds. Settings are
chosen on seeds from 100 on, which no table shows.

Files: out/cells/ (a finished run is not repeated; one that was cut goes on from its last 10,000
steps), out/results.json (the table and all curves), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from vaerl.densities import DENSITIES
from vaerl.densities.options import check_positive
from vaerl.experiments.returns.rows import GAUSSIAN, ROWS
from vaerl.experiments.returns.table import assemble, draw
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment
from vaerl.lab.record import plain
from vaerl.lab.watching import Watch
from vaerl.names import check_name
from vaerl.runs.config import check_typed_env
from vaerl.runs.evaluate import own_randomness

ENVS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
PRESETS = ("full", "debug")
SEEDS = (0, 1, 2, 3, 4)
STEPS = 100_000
EVERY = 10_000
EPISODES = 10


@dataclass(frozen=True)
class Training(Cell):
    """One training.

    >>> Training("Hopper-v5", "sb3-sac", "gaussian", 0, 50_000, {}, 10_000, 10).name
    'Hopper-v5-sb3-sac-gaussian-50000-s0'
    """

    env: str
    row: str
    density: str
    seed: int
    steps: int
    settings: Mapping[str, Any]
    every: int
    episodes: int

    @property
    def name(self) -> str:
        """Environment, row, density, steps and seed."""
        return f"{self.env}-{self.row}-{self.density}-{self.steps}-s{self.seed}"

    @property
    def work(self) -> float:
        """Environment steps."""
        return float(self.steps)


def make_cell(
    env: str, row: str, density: str, seed: int, steps: int, debug: bool = False
) -> Training:
    """The cell of a row; a library's own Gaussian with another density raises one line."""
    check_typed_env(env)
    chosen = ROWS[check_name("row", row, ROWS)]
    if density != GAUSSIAN and not chosen.any_density:
        raise ValueError(f"densities: got {density!r} with row {row!r}, expected {GAUSSIAN!r}")
    settings = plain(chosen.options(env, DENSITIES.check(density), debug))
    every, episodes = (steps // 2, 1) if debug else (max(min(EVERY, steps // 5), 1), EPISODES)
    return Training(
        env, row, density, seed, steps, settings, every, episodes
    )  # fmt: skip


def run(
    out: Path,
    preset: str = "full",
    envs: list[str] | None = None,
    rows: list[str] | None = None,
    densities: list[str] | None = None,
    seeds: list[int] | None = None,
    steps: int = STEPS,
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Train what is not finished, print the table of all finished runs, draw the curves.

    Args:
        out: folder of the results; finished runs found there are reused.
        preset: "full", or "debug", which runs in seconds.
        envs: Gymnasium ids; the five MuJoCo tasks by default ("debug": Pendulum-v1).
        rows: such as crossq-256; by default those with settings of their own, without tuned-sac,
            tuned-crossq and tuned-ppo, which take what ships for the environment.
        densities: of the policy; gaussian by default.
        seeds: 0 to 4 by default ("debug": 0). Those from 100 on are for tuning and in no table.
        steps: environment steps a run.
        jobs: processes, each with one thread.
        table: train nothing, only make the table again.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    length = 120 if debug else check_positive("steps", steps)
    cells = [
        make_cell(env, row, density, seed, length, debug)
        for seed in seeds or SEEDS[: 1 if debug else None]
        for env in envs or (["Pendulum-v1"] if debug else ENVS)
        for row in rows or [name for name, row in ROWS.items() if not row.recipe]
        for density in densities or [GAUSSIAN]
    ]
    return Experiment(measure, assemble, draw).run(
        cells,
        Path(out),
        command="vaerl experiment returns",
        jobs=check_positive("jobs", jobs),
        only_table=table,
        others=lambda cell: cell["seed"] < 100,
    )


def measure(cell: Training, desk: Desk) -> Measured:
    """Train one agent and judge it on the way; a training that was cut goes on."""
    env = Monitor(gymnasium.make(cell.env))
    agent = ROWS[cell.row].make(
        cell.density, cell.steps, env=env, seed=cell.seed, device="cpu", **cell.settings
    )  # fmt: skip
    judge = _Judge(cell, desk)
    notes = judge.train(agent, cell.steps)
    env.close()
    judge.env.close()
    judge.clear()
    return Measured(notes)


class _Judge(Watch):
    """Judges the best action now and then, too."""

    cell: Training

    def __init__(self, cell: Training, desk: Desk) -> None:
        # judged: [step, mean return of the best action]
        super().__init__(cell, desk, cell.every, judged=[], judge_seconds=0.0)
        self.env = Monitor(gymnasium.make(cell.env))

    def _on_step(self) -> bool:
        super()._on_step()
        if self.num_timesteps % self.every == 0 or self.num_timesteps == self.cell.steps:
            self.lap("train_seconds")
            with own_randomness(self.model, self.cell.seed):
                self.env.reset(seed=10_000 + self.cell.seed)
                returns, _ = evaluate_policy(
                    self.model, self.env, self.cell.episodes, deterministic=True, warn=False
                )
            self.notes["judged"].append([self.num_timesteps, float(np.mean(returns))])
            self.lap("judge_seconds")
        return True
