"""Does a CVAE policy keep up with the Gaussian in SAC on HalfCheetah and Hopper?

Protocol. {HalfCheetah-v5, Hopper-v5} × {gaussian, cvae} × seeds, `vaerl.agents.SAC` with
stable-baselines3's hyperparameters (`width` shrinks networks and batches together, for all alike,
where time is short), one torch thread a run. Reported after the last step: the mean return of 10
episodes with the policy's best action and of 10 with drawn actions, and of the last 100 training
episodes; mean ± standard deviation over seeds. The time is that of training alone, without
evaluations.

Files: out/<env>-<density>-s<seed>/ (one run each; finished ones are not repeated, interrupted ones
go on), out/results.json (the table).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from vaerl.densities import density_names
from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.lab.parallel import train_all
from vaerl.names import check_name
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.console import print_table
from vaerl.runs.directory import versions
from vaerl.runs.train import read_evaluation

ENVS = ("HalfCheetah-v5", "Hopper-v5")
DENSITIES = ("gaussian", "cvae")
SEEDS = (0, 1, 2)
STEPS = 50_000
EPISODES = 10
WIDTH = 256  # of the hidden layers and of the batches, as in stable-baselines3
PRESETS = ("full", "debug")


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
    """Train every cell of the table that is not finished, print the table, give results.json.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs whole in seconds.
        envs: Gymnasium ids, both if None.
        densities: names, gaussian and cvae if None.
        seeds: 0, 1, 2 if None.
        steps: environment steps a run.
        width: units of each hidden layer and transitions of a batch.
        jobs: processes, each with one torch thread.
    """
    check_name("preset", preset, PRESETS)
    check_positive("width", width)
    out = Path(out)
    names = list(densities or DENSITIES)
    for name in names:
        check_name("density", name, density_names())
    configs: dict[tuple[str, str, int], TrainConfig] = {}
    for seed in seeds or SEEDS:  # seeds outermost: after a third of the time there is one of each
        for env in envs or ENVS:
            for density in names:
                folder = out / f"{env.split('/')[-1]}-{density}-s{seed}"
                configs[env, density, seed] = _config(
                    env, density, seed, steps, width, preset, folder
                )
    titles = {key: f"{key[0]} {key[1]} seed {key[2]}" for key in configs}
    runs = train_all({titles[key]: config for key, config in configs.items()}, jobs=jobs)
    cells = {key: _measure(runs[title]) for key, title in titles.items()}
    options = _command_options(preset, envs, densities, seeds, steps, width)
    table = assemble(cells, options, next(iter(configs.values())).steps, width)
    path = out / "results.json"
    files.write_text(path, jsonio.dumps(table, indent=1) + "\n")
    print_table(table["title"], table["columns"], table["rows"])
    return path


def _config(
    env: str, density: str, seed: int, steps: int, width: int, preset: str, folder: Path
) -> TrainConfig:
    return TrainConfig.measured_at_end(
        preset,
        env=env,
        density=density,
        seed=seed,
        steps=steps,
        out=str(folder),
        agent_options={"batch_size": width, "policy_kwargs": {"net_arch": [width, width]}},
        final_episodes=EPISODES,
    )


def _measure(run_directory: RunDirectory) -> dict[str, float]:
    """What one run contributes to the table."""
    evaluation = read_evaluation(run_directory)
    assert evaluation is not None, run_directory
    _, training = run_directory.series("rollout/ep_rew_mean")
    return {
        "deterministic": evaluation["deterministic"]["return_mean"],
        "stochastic": evaluation["stochastic"]["return_mean"],
        "training": float(training[-1]) if len(training) else float("nan"),
        "seconds": evaluation["train_seconds"] * 1000.0 / max(1, evaluation["train_steps"]),
    }


def assemble(
    cells: Mapping[tuple[str, str, int], Mapping[str, float]],
    options: Sequence[str],
    steps: int,
    width: int,
) -> dict[str, Any]:
    """Put the measurements, by (env, density, seed), into a table of plain data."""
    rows: list[list[str]] = []
    envs = list(dict.fromkeys(env for env, _, _ in cells))
    densities = list(dict.fromkeys(density for _, density, _ in cells))
    for env in envs:
        for density in densities:
            seeds = sorted(seed for e, d, seed in cells if (e, d) == (env, density))
            members = [cells[env, density, seed] for seed in seeds]
            base = [cells.get((env, "gaussian", seed)) for seed in seeds]
            ratio = ""
            if density != "gaussian" and all(base):
                ratios = [
                    m["seconds"] / b["seconds"] for m, b in zip(members, base, strict=True) if b
                ]
                ratio = f"{mean(ratios):.2f}"
            rows.append(
                [
                    env,
                    density,
                    ", ".join(map(str, seeds)),
                    *(_spread(members, key) for key in ("deterministic", "stochastic", "training")),
                    f"{mean(m['seconds'] for m in members):.1f}",
                    ratio,
                ]
            )
    return {
        "title": f"SAC at {steps:,} steps: return by density",
        "command": " ".join(["vaerl experiment mujoco", *options]),
        "caption": (
            "Mean ± standard deviation over seeds. Deterministic: "
            f"{EPISODES} episodes with the policy's best action; stochastic: {EPISODES} with drawn "
            "ones; training: the last 100 episodes. stable-baselines3's hyperparameters for all"
            + (f", but for layers and batches of {width}." if width != WIDTH else ".")
        ),
        "columns": [
            "environment",
            "density",
            "seeds",
            "return, deterministic",
            "return, stochastic",
            "return, training",
            "seconds per 1000 steps",
            "time / gaussian",
        ],
        "rows": rows,
        "versions": {**versions(), "cores": os.cpu_count()},
    }


def _spread(members: Sequence[Mapping[str, float]], key: str) -> str:
    values = [member[key] for member in members]
    if len(values) == 1:
        return f"{values[0]:.0f}"
    return f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}"


def _command_options(
    preset: str,
    envs: list[str] | None,
    densities: list[str] | None,
    seeds: list[int] | None,
    steps: int,
    width: int,
) -> list[str]:
    words = [f"--preset {preset}"] if preset != "full" else []
    join: Callable[[Sequence[Any]], str] = lambda values: ",".join(map(str, values))  # noqa: E731
    for name, values in (("envs", envs), ("densities", densities), ("seeds", seeds)):
        words += [f"--{name} {join(values)}"] if values else []
    words += [f"--steps {steps}"] if steps != STEPS else []
    return words + ([f"--width {width}"] if width != WIDTH else [])
