"""A CVAE policy next to a Gaussian one: the main job, behind `make demo`.

A point starts between four goals that are equally good. SAC trains a Gaussian policy and a
conditional VAE side by side, each on one core with the same settings, then both run 1000 episodes.
The score is Σ_i min(n_i / E, 1/4), n_i the episodes of E that end in goal i: 1/4 for a policy with
one goal; a perfect one reaches the ceiling printed beside it, below 1 because 1000 episodes never
fall evenly. The temperature is fixed and the horizon short: with the automatic temperature both
policies learn to hover before the goals, where entropy goes on being paid.

Files: out/gaussian/, out/cvae/ (the runs; finished ones are not repeated), out/report.html,
out/results.json (the table).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.training import finish_run
from vaerl.names import check_name
from vaerl.report import report
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig

ENV = "vaerl/PointMass-v0"
STEPS = 6_000
AGENT_OPTIONS: dict[str, Any] = {
    "batch_size": 128,
    "gamma": 0.9,
    "ent_coef": 0.5,
    "policy_kwargs": {"net_arch": [128, 128]},
}
"""Smaller than stable-baselines3's, the same for both: minutes on a laptop."""
DENSITIES = ("gaussian", "cvae")
PRESETS = ("full", "debug")


def run(
    out: Path,
    preset: str = "full",
    env: str = ENV,
    densities: list[str] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    jobs: int = 2,
) -> Path:
    """Train one policy a density side by side, print how they compare, give the report's path.

    Args:
        out: folder of the runs, the table and the report.
        preset: "full", or "debug", which runs whole in seconds.
        env: an environment with goals (`vaerl list envs`).
        densities: names, gaussian and cvae if None.
        steps: environment steps a run.
        seed: of both runs.
        jobs: processes, each with one thread.
    """
    check_name("preset", preset, PRESETS)
    out = Path(out)
    cells = [Run(name, env, steps, seed, preset) for name in densities or DENSITIES]
    Experiment(measure, partial(assemble, env)).run(cells, out, jobs=jobs)
    return report([RunDirectory(out / cell.name) for cell in cells], out / "report.html")


@dataclass(frozen=True)
class Run(Cell):
    """One training."""

    density: str
    env: str
    steps: int
    seed: int
    preset: str

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return self.density

    @property
    def work(self) -> float:
        """Environment steps."""
        return float(self.steps)

    def config(self, out: Path) -> TrainConfig:
        """The run in its folder."""
        config = TrainConfig(
            env=self.env,
            density=self.density,
            steps=self.steps,
            seed=self.seed,
            out=str(out / self.name),
            agent_options=AGENT_OPTIONS,
            eval_every=max(1, self.steps // 5),
            device="cpu",
        )
        return config.debug() if self.preset == "debug" else config


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy; its final evaluation."""
    evaluation = finish_run(cell.config(desk.path.parent.parent), desk.tick).evaluation()
    assert evaluation is not None, cell
    return Measured(evaluation)


def assemble(env: str, results: Results) -> dict[str, Any]:
    """The final evaluations as a table: one row a density."""
    rows, steps, episodes = [], 0, 0
    for _, cell, evaluation in results:
        name = cell["density"]
        drawn, best = evaluation["stochastic"], evaluation["deterministic"]
        steps, episodes = evaluation["step"], int(drawn["episodes"])
        row = [name, f"{drawn['return_mean']:.1f} ± {drawn['return_std']:.1f}"]
        row += [f"{best['return_mean']:.1f}"]
        if "num_modes" in drawn:
            row += [
                f"{drawn['goals_reached']:.0f} of {drawn['num_modes']:.0f}",
                f"{drawn['multi_goal_score']:.3f}",
                f"{drawn['multi_goal_score_ceiling']:.3f}",
            ]
        rows.append([*row, f"{evaluation['train_seconds']:.0f} s"])
    columns = ["policy", "return", "return, best action"]
    if rows and len(rows[0]) > 4:
        columns += ["goals reached", "multi-goal score", "its ceiling"]
    return {
        "title": f"SAC on {env} after {steps:,} steps, {episodes} episodes",
        "caption": "Mean return ± standard deviation over episodes with drawn actions.",
        "columns": [*columns, "training"],
        "rows": rows,
    }
