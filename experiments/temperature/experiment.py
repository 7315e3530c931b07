"""How much entropy does a policy bear, by density, where rewards are not shaped?

Protocol. `vaerl/UnshapedPendulum-v0` and `vaerl/UnshapedCar-v0`: a step costs 1 unless it ends at
the goal, so rewards span r_max = 1. {gaussian, mixture, cvae} × temperatures α / r_max × seeds,
`vaerl.agents.SAC` with a fixed α and the same critic, budget and settings for all densities of a
task (`TASKS`); noise is held for several steps for all of them, in training and in evaluation.
The entropy is measured against the uniform law (`relative_entropy`), since an absolute one pays for
staying away from the goal. Reported is the return of 50 episodes after the last step, with drawn
actions and with the best action.

Files: out/<task>-<density>-<α>-s<seed>/ (one run each; an interrupted one goes on), out/cells/,
out/results.json, out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaerl.densities.options import check_above_zero
from vaerl.disk import files
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import ENOUGH, middle, middle_and_interval
from vaerl.lab.table import command_line
from vaerl.lab.training import RunCell, finish_run
from vaerl.names import check_name
from vaerl.report.figures import density_color, density_marker, save_png

PRESETS = ("full", "debug")
SEEDS = (0, 1, 2, 3, 4)
DENSITIES = ("gaussian", "mixture", "cvae")
TEMPERATURES = (0.1, 0.5, 1.0, 1.5, 2.0)
"""α / r_max; beyond 1.5 a Gaussian without bounds loses its stationary points (He et al. 2026)."""
STEPS = 20_000
EPISODES = 50
WAYS = {"drawn": "stochastic", "best": "deterministic"}
"""Kinds of actions, and their names in the evaluation of a run."""


def _task(env: str, held: int | str, learning_starts: int) -> dict[str, Any]:
    """Settings of a task; noise is held as its exploration needs it."""
    return {
        "env": env,
        "n_envs": 8,
        "steps": STEPS,
        "final_episodes": EPISODES,
        "agent_options": {
            "batch_size": 64,
            "gamma": 0.99,
            "gradient_steps": 4,
            "learning_rate": 1e-3,
            "learning_starts": learning_starts,
            "policy_kwargs": {"net_arch": [64, 64], "noise_hold": held},
            "relative_entropy": True,
            "train_freq": 1,
        },
    }


TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "pendulum": _task("vaerl/UnshapedPendulum-v0", "zeta", 1000),
        "car": _task("vaerl/UnshapedCar-v0", 25, 200),
    }
)


@dataclass(frozen=True)
class Run(RunCell):
    """One density at one temperature."""

    task: str
    density: str
    temperature: float

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return f"{self.task}-{self.density}-{self.temperature:g}-s{self.seed}"


def make_run(task: str, density: str, temperature: float, seed: int, preset: str = "full") -> Run:
    """The cell of a density at a temperature on a task."""
    settings = dict(TASKS[check_name("task", task, TASKS)])
    alpha = check_above_zero("temperatures", temperature)
    settings["agent_options"] = {**settings["agent_options"], "ent_coef": alpha}
    settings["density"] = check_name("density", density, DENSITIES)
    return Run(seed, preset, plain(settings), task, density, temperature)


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    densities: list[str] | None = None,
    temperatures: list[float] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
) -> Path:
    """Train the unfinished runs, print the table, draw the picture; return results.json.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs in seconds.
        tasks: pendulum, car; both by default.
        densities: gaussian, mixture, cvae; all by default.
        temperatures: values of α / r_max; 0.1, 0.5, 1, 1.5 and 2 by default ("debug": 1.5).
        seeds: 0 to 4 by default ("debug": 0).
        jobs: processes, each with one thread.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    cells = [
        make_run(task, density, temperature, seed, preset)
        for seed in seeds or SEEDS[: 1 if debug else None]
        for temperature in temperatures or ([1.5] if debug else TEMPERATURES)
        for task in tasks or TASKS
        for density in densities or DENSITIES
    ]
    options = {
        "preset": preset, "tasks": tasks, "densities": densities, "temperatures": temperatures,
        "seeds": seeds,
    }  # fmt: skip
    command = command_line("temperature", run, options)
    return Experiment(measure, assemble, draw).run(cells, Path(out), command=command, jobs=jobs)


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy; its returns are those of the evaluation at the end."""
    directory = finish_run(cell.config(desk.path.parent.parent), desk.tick)
    evaluation = directory.evaluation()
    assert evaluation is not None, directory
    return Measured({way: evaluation[name]["return_mean"] for way, name in WAYS.items()})


def assemble(results: Results) -> dict[str, Any]:
    """A row for each task, density and kind of action; a column for each temperature."""
    found = _grouped(results)
    temperatures = sorted({float(r.cell["temperature"]) for r in results})
    rows = [
        [
            task, density, way,
            *(_text(found.get((task, density, alpha), []), way) for alpha in temperatures),
        ]
        for task, density in dict.fromkeys(key[:2] for key in found)
        for way in WAYS
    ]  # fmt: skip
    seconds = sum(float(r.data["cpu_seconds"]) for r in results)
    first = {name: results[0].cell[name] for name in ("task", "density", "temperature", "seed")}
    episodes = make_run(**first, preset=results[0].cell["preset"]).config(Path()).final_episodes
    return {
        "title": "Return by temperature, density and task without shaped rewards",
        "caption": (
            f"Mean return of {episodes} episodes, with drawn actions and with the best one. Over "
            f"{ENOUGH} or more seeds: interquartile mean [95 % interval, stratified bootstrap]; "
            f"else mean ± half of the 95 % interval (Student's t). {seconds / 60:.0f} CPU minutes."
        ),
        "columns": ["task", "density", "actions", *(f"α = {alpha:g}" for alpha in temperatures)],
        "rows": rows,
        "runs": [
            {key: r.cell[key] for key in ("task", "density", "temperature", "seed")}
            | {name: r.data[name] for name in (*WAYS, "cpu_seconds")}
            for r in results
        ],
        "settings": plain(dict(TASKS)),
    }


Place = tuple[str, str, float]


def _grouped(results: Results) -> dict[Place, list[Mapping[str, Any]]]:
    """The numbers of all seeds by task, density and temperature."""
    found: dict[Place, list[Mapping[str, Any]]] = {}
    for r in results:
        key = (str(r.cell["task"]), str(r.cell["density"]), float(r.cell["temperature"]))
        found.setdefault(key, []).append(r.data)
    return found


def _text(own: Sequence[Mapping[str, Any]], way: str) -> str:
    return middle([data[way] for data in own], 0) if own else "–"


def draw(results: Results, out: Path) -> Path:
    """Draw out/figures/temperature.png: return against α, a panel a task, a line a density."""
    found = _grouped(results)
    tasks = [*dict.fromkeys(task for task, _, _ in found)]
    figure = Figure(figsize=(4.2 * len(tasks), 3.6), layout="constrained")
    for ax, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for density in dict.fromkeys(d for t, d, _ in found if t == task):
            alphas = sorted(a for t, d, a in found if (t, d) == (task, density))
            summary = [
                middle_and_interval(np.array([data["drawn"] for data in found[task, density, a]]))
                for a in alphas
            ]
            value, low, high = np.array(summary, dtype=float).T
            style = {"color": density_color(density), "marker": density_marker(density)}
            ax.plot(alphas, value, label=density, **style)
            ax.fill_between(alphas, low, high, color=density_color(density), alpha=0.18)
        ax.axvline(1.5, color="0.6", linestyle=":")
        ax.set(title=task, xlabel="α / r_max", ylabel="return, drawn actions")
        ax.legend()
    return save_png(figure, files.make_directory(out / "figures") / "temperature.png")
