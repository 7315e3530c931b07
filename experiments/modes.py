"""Which policies keep every mode? Maximum-entropy learning online, density against density.

Protocol. Tasks with several equally good goals × policies × seeds, `vaerl.agents.SAC` with the same
critic, budget and settings for every policy of a task (`TASKS`), one torch thread a run. After the
last step 1000 episodes with drawn actions (2000 for the bandit) count the goals. Reported: goals
reached, the multi-goal score Σ_i min(n_i / E, 1/G) beside the ceiling that E episodes of a perfect
policy score, the share of episodes that end in no goal, and the return; mean with the 95 % interval
of Student's t over seeds. A policy is a density with an improvement step: "both" and "forward" fit
draws from exp(Q/α), "reverse" is SAC's own (`vaerl.agents.improvement`).

Files: out/<task>-<policy>-s<seed>/ (one run each; finished ones are not repeated, interrupted ones
go on), out/results.json (the table).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, cast

import numpy as np
import torch

from vaerl.cli_output import print_table
from vaerl.envs.bandit import SCALE, bandit_metrics
from vaerl.experiments.intervals import interval
from vaerl.names import check_name
from vaerl.runs import RunDirectory, files, jsonio
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import versions
from vaerl.runs.parallel import train_all
from vaerl.runs.train import load_run, read_evaluation

PRESETS = ("full", "debug")


@dataclass(frozen=True)
class Task:
    """An environment with the budget and settings that every policy gets there."""

    env: str
    steps: int
    agent_options: Mapping[str, Any]
    seeds: int = 5
    n_envs: int = 1
    forward: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the improvement step, of policies that take the forward step."""
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of each density, by name; a policy's own come before them."""


@dataclass(frozen=True)
class Policy:
    """A density, its options, and the improvement step it is trained with."""

    density: str
    improvement: str
    density_options: Mapping[str, Any] = field(default_factory=dict)


_NETS = {"policy_kwargs": {"net_arch": [128, 128]}}
_PLANAR = {"batch_size": 128, "gamma": 0.9, "ent_coef": 0.5, **_NETS}

TASKS: Mapping[str, Task] = {
    "bandit": Task(
        "vaerl/Bandit40-v0",
        20_000,
        {
            "batch_size": 128,
            "learning_rate": 1e-3,
            "train_freq": 1,
            "gradient_steps": 8,
            "learning_starts": 2000,
            "ent_coef": 1.0,
            "policy_kwargs": {
                "net_arch": {"pi": [64], "qf": [128, 128]},
                "critic_frequencies": 64,
            },
        },
        seeds=10,
        n_envs=32,
        forward={"candidates": 32, "uniform_share": 1.0, "auxiliary": 1, "reverse_start": 0.6},
        heads={
            "cvae": {"prior_components": 32, "hidden": 64, "blocks": 2, "k": 8},
            "mixture": {"components": 64},
        },
    ),
    "multigoal": Task("vaerl/MultiGoal-v0", 20_000, {**_PLANAR, "gamma": 0.99, "ent_coef": 10.0}),
    "point-mass": Task("vaerl/PointMass-v0", 20_000, _PLANAR),
    "maze-simple": Task("vaerl/PointMazeSimple-v0", 100_000, _PLANAR, seeds=3),
    "maze-medium": Task("vaerl/PointMazeMedium-v0", 200_000, _PLANAR, seeds=3),
    "maze-hard": Task("vaerl/PointMazeHard-v0", 300_000, _PLANAR, seeds=3),
}

POLICIES: Mapping[str, Policy] = {
    "gaussian": Policy("gaussian", "reverse"),
    "mixture": Policy("mixture", "reverse"),
    "flow": Policy("flow", "reverse"),
    "cvae": Policy("cvae", "reverse"),
    "cvae-L2": Policy("cvae", "reverse", {"latent_dims": [4, 2]}),
    "gaussian-both": Policy("gaussian", "both"),
    "mixture-both": Policy("mixture", "both"),
    "cvae-both": Policy("cvae", "both"),
    "cvae-L2-both": Policy("cvae", "both", {"latent_dims": [4, 2]}),
}


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    policies: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 2,
) -> Path:
    """Train every cell of the table that is not finished, print the table, give results.json.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs whole in seconds.
        tasks: names in `TASKS`; all but the mazes if None.
        policies: names in `POLICIES`; all if None.
        seeds: the task's own number of seeds from 0 on if None.
        jobs: processes, each with one torch thread.
    """
    check_name("preset", preset, PRESETS)
    out = Path(out)
    chosen = tasks or [name for name in TASKS if not name.startswith("maze")]
    names = policies or list(POLICIES)
    for task in chosen:
        check_name("task", task, TASKS)
    for name in names:
        check_name("policy", name, POLICIES)
    configs: dict[tuple[str, str, int], TrainConfig] = {}
    for task in chosen:
        own = range(1 if preset == "debug" else TASKS[task].seeds)
        for seed in seeds if seeds is not None else own:
            for name in names:
                configs[task, name, seed] = _config(task, name, seed, preset, out)
    titles = {key: f"{key[0]} {key[1]} seed {key[2]}" for key in configs}
    runs = train_all({titles[key]: config for key, config in configs.items()}, jobs=jobs)
    table = assemble({key: _measure(runs[title]) for key, title in titles.items()})
    options = [f"--preset {preset}"] if preset != "full" else []
    for option, values in (("tasks", tasks), ("policies", policies), ("seeds", seeds)):
        options += [f"--{option} {','.join(map(str, values))}"] if values else []
    table["command"] = " ".join(["vaerl experiment modes", *options])
    path = out / "results.json"
    files.write_text(path, jsonio.dumps(table, indent=1) + "\n")
    print_table(table["title"], table["columns"], table["rows"])
    return path


def _config(task: str, name: str, seed: int, preset: str, out: Path) -> TrainConfig:
    settings, policy = TASKS[task], POLICIES[name]
    improvement: dict[str, Any] = {"improvement": policy.improvement}
    if policy.improvement != "reverse" and settings.forward:
        improvement["improvement_kwargs"] = dict(settings.forward)
    return TrainConfig.measured_at_end(
        preset,
        env=settings.env,
        density=policy.density,
        density_options={**settings.heads.get(policy.density, {}), **policy.density_options},
        seed=seed,
        steps=settings.steps,
        n_envs=settings.n_envs,
        out=str(out / f"{task}-{name}-s{seed}"),
        agent_options={**settings.agent_options, **improvement},
    )


def _measure(run_directory: RunDirectory) -> dict[str, float]:
    """What one run contributes to the table."""
    evaluation = read_evaluation(run_directory)
    assert evaluation is not None, run_directory
    drawn = evaluation["stochastic"]
    bandit = run_directory.config["env"] == TASKS["bandit"].env
    return (look_at_bandit(run_directory.path) if bandit else {}) | {
        "num_modes": drawn["num_modes"],
        "goals": drawn["goals_reached"],
        "score": drawn["multi_goal_score"],
        "ceiling": drawn["multi_goal_score_ceiling"],
        "lost": 1.0 - drawn["success_rate"],
        "return": drawn["return_mean"],
        "minutes": evaluation["train_seconds"] / 60.0,
    }


def look_at_bandit(path: Path, count: int = 10_000) -> dict[str, float]:
    """What the bandit's target, known exactly, says of a run's policy.

    "modes" and "outside_99" of `count` samples, "entropy_lower" in nats of a scaled action, from
    8 paths a sample; the best policy has 40, .0102 and −.543.
    """
    agent, _, _ = load_run(path)
    value = cast(Any, agent).density_value(np.zeros((1, 1), dtype=np.float32))
    generator = torch.Generator().manual_seed(0)
    drawn = value.sample((count,), generator)[:, 0].double().numpy()
    scores = bandit_metrics(SCALE * drawn)
    entropy = value.entropy_bounds(8, 4000, generator)
    return {
        "modes": scores["modes"],
        "outside_99": scores["outside_99"],
        "entropy_lower": float(entropy.lower),
    }


def assemble(cells: Mapping[tuple[str, str, int], Mapping[str, float]]) -> dict[str, Any]:
    """Put the measurements, by (task, policy, seed), into a table of plain data."""
    rows: list[list[str]] = []
    for task, name in dict.fromkeys((task, name) for task, name, _ in cells):
        seeds = sorted(seed for t, n, seed in cells if (t, n) == (task, name))
        members = [cells[task, name, seed] for seed in seeds]
        reached = interval([m.get("modes", m["goals"]) for m in members], 1)
        rows.append(
            [
                task,
                name,
                str(len(seeds)),
                f"{reached} of {members[0]['num_modes']:.0f}",
                interval([m["score"] for m in members], 3),
                f"{members[0]['ceiling']:.3f}",
                interval([m["lost"] for m in members], 3),
                interval([m["return"] for m in members], 1),
                *(
                    interval([m[key] for m in members], 3) if key in members[0] else ""
                    for key in ("outside_99", "entropy_lower")
                ),
                f"{mean(m['minutes'] for m in members):.1f}",
            ]
        )
    settings = "; ".join(
        f"{name}: {TASKS[name].steps:,} steps, {dict(TASKS[name].agent_options)}"
        for name in dict.fromkeys(task for task, _, _ in cells)
    )
    return {
        "title": "Which policies keep every mode",
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds. One setting a task for every "
            f"policy: {settings}. A name that ends in -both adds the forward improvement step. On "
            "the bandit also the share of 10,000 samples outside the target's 99 % region and the "
            "lower bound on the entropy in nats (8 paths a sample); the target has .010 and −.543."
        ),
        "columns": [
            "task",
            "policy",
            "seeds",
            "goals reached",
            "score",
            "its ceiling",
            "in no goal",
            "return",
            "outside 99 %",
            "entropy ≥",
            "minutes",
        ],
        "rows": rows,
        "versions": {**versions(), "cores": os.cpu_count()},
    }
