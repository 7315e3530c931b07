"""What is left of a policy when the way that it prefers is blocked?

Protocol. Train once; block the way that the policy prefers; measure before, at once after, and
after 1,000 more steps there, with an update each and an empty replay buffer. {gaussian, mixture,
cvae} × tasks × seeds, `vaerl.agents.SAC` with the same critic, budget and settings for all
densities of a task (`TASKS`); where there are several steps, noise is held for all of them. Actions
are drawn.

- "plane": `vaerl/PointMass-v0`, four goals in equal distance; the temperature falls, so that a
  policy must choose if it can have only one mode. Blocks: the goal that most episodes reach is
  removed ("goal"); a wall stands before it ("wall"), which holds whoever pushes on.
- "maze": `vaerl/PointMazeSimple-v0`. Blocks: "goal" as above; the free cell that most episodes
  pass becomes a wall ("door"), along which a body can slide.
- "bandit": `vaerl/Bandit40-v0`, one decision with 40 good answers, with the policies of `vaerl
  experiment modes`: mixture and cvae take both improvement steps; the Gaussian takes SAC's own,
  with which it is better. Block: "goal" as above.

The arm's knock-out is a part of `vaerl experiment kinematics`.

Files: out/<task>-<density>-s<seed>/ (the runs), out/cells/, out/results.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vaerl.envs.metrics import goal_counts
from vaerl.experiments.knockout.blocks import build_wall, close_door, go_on, remove_goal
from vaerl.experiments.modes.experiment import make_run as make_modes_run
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.training import RunCell, finish_run
from vaerl.names import check_name
from vaerl.runs.evaluate import EvalResult, evaluate
from vaerl.runs.train import load_run

PRESETS = ("full", "debug")
SEEDS = (0, 1, 2, 3, 4)
HEADS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gaussian": {"density_options": {}},
        "mixture": {"density_options": {"components": 32}},
        "cvae": {"density_options": {"prior_components": 32}},
    }
)
"""Settings of each density, unless the task has others."""
EPISODES = {"full": 200, "debug": 6}
FURTHER = {"full": 1000, "debug": 120}
"""Steps of the adaptation."""
RATE = 3e-4
"""Its learning rate."""
USED = 0.05
"""Share of the episodes from which on a goal counts as used."""


@dataclass(frozen=True)
class Task:
    """A task, and what is blocked there.

    Args:
        settings: fields of `TrainConfig`.
        blocks: options of the environment that block what the episodes of a policy prefer.
        heads: further fields, by density.
    """

    settings: Mapping[str, Any]
    blocks: Mapping[str, Callable[[EvalResult], dict[str, Any]]]
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: HEADS)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "plane": Task(
            {
                "env": "vaerl/PointMass-v0",
                "n_envs": 8,
                "steps": 20_000,
                "final_episodes": 20,
                "agent_options": {
                    "batch_size": 128,
                    "ent_coef": "anneal_1_0.1_0.8",
                    "gamma": 0.9,
                    "gradient_steps": 4,
                    "learning_rate": "lin_2e-3_1e-5",
                    "learning_starts": 2000,
                    "policy_kwargs": {"net_arch": [128, 128], "noise_hold": 10},
                    "train_freq": 1,
                },
            },
            {"goal": remove_goal, "wall": build_wall},
        ),
        "maze": Task(
            {
                "env": "vaerl/PointMazeSimple-v0",
                "n_envs": 16,
                "steps": 100_000,
                "final_episodes": 20,
                "agent_options": {
                    "batch_size": 128,
                    "ent_coef": 0.3,
                    "gamma": 0.99,
                    "gradient_steps": 2,
                    "learning_rate": "lin_1e-3_1e-5",
                    "learning_starts": 1000,
                    "policy_kwargs": {"net_arch": [128, 128], "noise_hold": 50},
                    "relative_entropy": True,
                    "train_freq": 1,
                },
            },
            {"goal": remove_goal, "door": close_door},
        ),
        "bandit": Task(
            {"final_episodes": 20},
            {"goal": remove_goal},
            {
                density: make_modes_run("bandit", policy, 0, "full").settings
                for density, policy in zip(
                    HEADS, ("gaussian", "mixture-both", "cvae-both"), strict=True
                )
            },
        ),
    }
)


@dataclass(frozen=True)
class Run(RunCell):
    """One density on one task."""

    task: str
    density: str

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return f"{self.task}-{self.density}-s{self.seed}"


def make_run(task: str, density: str, seed: int, preset: str = "full") -> Run:
    """The cell of a density on a task."""
    where = TASKS[check_name("task", task, TASKS)]
    own = where.heads[check_name("density", density, HEADS)]
    settings = {**where.settings, "density": density, **own}
    return Run(seed, preset, plain(settings), task, density)


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    densities: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
) -> Path:
    """Train the unfinished runs, block their ways, print the table; return results.json.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs in seconds.
        tasks: plane, maze, bandit; all by default.
        densities: gaussian, mixture, cvae; all by default.
        seeds: 0 to 4 by default ("debug": 0).
        jobs: processes, each with one thread.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    cells = [
        make_run(task, density, seed, preset)
        for seed in seeds or SEEDS[: 1 if debug else None]
        for task in tasks or TASKS
        for density in densities or HEADS
    ]
    options = {"preset": preset, "tasks": tasks, "densities": densities, "seeds": seeds}
    command = command_line("knockout", run, options)
    return Experiment(measure, assemble).run(cells, Path(out), command=command, jobs=jobs)


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy, then block its way, once in each manner."""
    directory = finish_run(cell.config(desk.path.parent.parent), desk.tick)
    return Measured(
        {
            name: knock_out(load_run(directory.path)[0], cell, block)
            for name, block in TASKS[cell.task].blocks.items()
        }
    )


def knock_out(
    agent: Any, cell: Run, block: Callable[[EvalResult], dict[str, Any]]
) -> dict[str, Any]:
    """Returns and shares of successful episodes before, at once and after; what was blocked.

    "kept" is the share at once over that before.
    """
    env, seed, count = cell.settings["env"], cell.seed, EPISODES[cell.preset]

    def play(options: Mapping[str, Any]) -> EvalResult:
        return evaluate(
            agent, env, episodes=count, seed=10_000 + seed, env_options=options, traces=count
        )

    before = play({})
    blocked = block(before)
    results = {"before": before, "at_once": play(blocked)}
    go_on(
        agent, env, blocked, FURTHER[cell.preset],
        seed=seed, rate=RATE, updates=agent.n_envs,
    )  # fmt: skip
    results["after"] = play(blocked)
    shares = {name: float((result.goals >= 0).mean()) for name, result in results.items()}
    counts = goal_counts(before.goals, before.num_modes)
    return {
        **shares,
        "kept": shares["at_once"] / shares["before"] if shares["before"] else 0.0,
        "ways": int((counts >= USED * count).sum()),
        "returns": {name: float(result.returns.mean()) for name, result in results.items()},
        "blocked": blocked,
    }


def assemble(results: Results) -> dict[str, Any]:
    """One row a task, block and density, means with 95 % intervals over seeds."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for r in results:
        for block in TASKS[r.cell["task"]].blocks:
            key = (r.cell["task"], block, r.cell["density"])
            groups.setdefault(key, []).append(r.data)
    times = ("before", "at_once", "after")
    preset = results[0].cell["preset"]  # that of all
    episodes, further = EPISODES[preset], f"{FURTHER[preset]:,}"
    rows = []
    for (task, block, density), members in sorted(groups.items(), key=_rank):
        own = [data[block] for data in members]
        rows.append(
            [
                task, block, density, str(len(own)), f"{np.mean([one['ways'] for one in own]):.1f}",
                *(interval([one[name] for one in own], 2) for name in (*times, "kept")),
                *(interval([one["returns"][name] for one in own], 1) for name in times),
                interval([data["cpu_seconds"] for data in members], 0),
            ]
        )  # fmt: skip
    return {
        "title": f"Knock-out: success before, at once and after {further} more steps",
        "caption": (
            f"Shares of {episodes} episodes with drawn actions that reach a goal, and the "
            "returns; kept: the share at once over that before; goals used: by 5 % of the episodes "
            "or more. Mean ± half of the 95 % interval (Student's t) over seeds."
        ),
        "columns": [
            "task", "block", "density", "seeds", "goals used", "before", "at once",
            f"after {further} steps", "kept at once", "return before",
            "return at once", "return after", "CPU s",
        ],
        "rows": rows,
        "runs": [
            {"task": r.cell["task"], "density": r.cell["density"], "seed": r.cell["seed"]}
            | {name: value for name, value in r.data.items() if name != "machine"}
            for r in results
        ],
        "settings": plain(
            {
                name: {"settings": dict(task.settings), "heads": dict(task.heads)}
                for name, task in TASKS.items()
            }
        ),
    }  # fmt: skip


def _rank(group: tuple[tuple[str, str, str], Any]) -> tuple[int, int, int]:
    """Tasks, their blocks and densities in the order of this file."""
    (task, block, density), _ = group
    return [*TASKS].index(task), [*TASKS[task].blocks].index(block), [*HEADS].index(density)
