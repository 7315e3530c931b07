"""Learners beside each other on the same tasks: cells, curves, one table.

Files: out/cells/ (one JSON a run; finished ones are not repeated or replaced), out/results.json
(the table of the last call), out/figures/curves.png.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from vaerl.densities.options import check_positive, check_seed
from vaerl.disk import files, jsonio
from vaerl.lab.cells import each_result
from vaerl.lab.curve_figure import draw_curves
from vaerl.lab.records import read_record
from vaerl.lab.stats import interval
from vaerl.names import check_name
from vaerl.runs.console import print_table, training_bar
from vaerl.runs.directory import versions
from vaerl.threads import limit_threads

SEEDS = (0, 1, 2)
PARTS = 10
EPISODES = 20
PRESETS = ("full", "debug")
DEBUG_STEPS = 450  # two episodes of Pendulum, and some updates


@dataclass(frozen=True)
class Comparison:
    """Who is compared, on what, for how long.

    Args:
        name: of the experiment.
        title, caption: of the table; what is measured is said after the caption.
        learners: agents by name, with plain data for settings; called with env, seed, device and
            buffer_size.
        steps: of the full preset, by environment; the first is that of the preset "debug".
        settings: what an environment has over every learner's settings.
        debug: what that preset has over them, by learner.
        notes: below the table.
    """

    name: str
    title: str
    caption: str
    learners: Mapping[str, partial[Any]]
    steps: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    debug: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def learner(self, cell: Cell) -> partial[Any]:
        """Who is trained in a cell."""
        short = self.debug.get(cell.learner, {}) if cell.steps == DEBUG_STEPS else {}
        return partial(self.learners[cell.learner], **{**self.settings.get(cell.env, {}), **short})

    def record(self, cell: Cell) -> dict[str, Any]:
        """The cell with its learner's settings: a saved training with the same record is reused."""
        learner = self.learner(cell)
        settings = {"arguments": learner.args, **learner.keywords}
        return json.loads(json.dumps({**asdict(cell), "settings": settings}))


@dataclass(frozen=True)
class Cell:
    """One training."""

    env: str
    learner: str
    seed: int
    steps: int

    def path(self, out: Path) -> Path:
        """Where its result lies; runs of the preset "debug" have their steps in the name.

        >>> Cell("Pendulum-v1", "vaerl bf16", 0, 8_000).path(Path("curves")).name
        'Pendulum-v1-vaerl-bf16-s0.json'
        >>> Cell("Pendulum-v1", "vaerl bf16", 0, 450).path(Path("curves")).name
        'Pendulum-v1-vaerl-bf16-s0-450-steps.json'
        """
        name = f"{self.env}-{self.learner}-s{self.seed}".replace(" ", "-").replace("/", "-")
        if self.steps == DEBUG_STEPS:
            name += f"-{self.steps}-steps"
        return out / "cells" / f"{name}.json"


class _Returns(BaseCallback):
    """Step and return of every training episode that ends."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.steps.append(self.num_timesteps)
                self.returns.append(float(info["episode"]["r"]))
        return True


def as_command(comparison: Comparison) -> Callable[..., Path]:
    """The function behind `vaerl experiment NAME`, whose options say what can be compared."""

    def run(
        out: Path,
        preset: str = "full",
        envs: list[str] | None = None,
        learners: list[str] | None = None,
        seeds: list[int] | None = None,
        jobs: int = 2,
    ) -> Path:
        return compare(comparison, out, preset, envs, learners, seeds, jobs)

    shown = (f'"{name}"' if " " in name else name for name in comparison.learners)
    run.__doc__ = f"""Train what is not trained, print the table, draw the curves.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug", {DEBUG_STEPS} steps of {next(iter(comparison.steps))}.
        envs: of {", ".join(comparison.steps)}; all if None ("debug": the first).
        learners: of {", ".join(shown)}; all if None.
        seeds: {", ".join(map(str, SEEDS))} if None ("debug": 0).
        jobs: processes, each with one torch thread.
    """
    return run


def compare(
    comparison: Comparison,
    out: Path,
    preset: str,
    envs: Sequence[str] | None,
    learners: Sequence[str] | None,
    seeds: Sequence[int] | None,
    jobs: int,
) -> Path:
    """What `as_command` describes; gives results.json.

    Raises:
        ValueError: an option that is not legal, or a file among the finished trainings that is
            damaged or is of another training.
    """
    steps = comparison.steps
    debug = check_name("preset", preset, PRESETS) == "debug"
    check_positive("jobs", jobs)
    out = Path(out)
    short = tuple(steps)[:1]
    for env in envs or () if debug else ():
        if check_name("env", env, steps) not in short:
            raise ValueError(
                f"envs: got {env!r} with the preset 'debug', expected {short[0]!r}: "
                "no episode of another ends in its steps"
            )
    cells = [
        Cell(
            check_name("env", env, steps),
            check_name("learner", learner, comparison.learners),
            check_seed("seeds", seed),
            DEBUG_STEPS if debug else steps[env],
        )
        for seed in seeds or SEEDS[: 1 if debug else None]
        for env in envs or (short if debug else steps)
        for learner in learners or comparison.learners
    ]
    cells = list(dict.fromkeys(cells))
    missing = [cell for cell in cells if _read(comparison, cell, out) is None]
    with training_bar({"runs": len(cells)}) as advance:
        first = len(cells) - len(missing) + 1
        train = partial(train_cell, comparison, out)
        for number, _ in enumerate(each_result(train, missing, jobs), first):
            advance("runs", number)
    results = {cell: _read(comparison, cell, out) or {} for cell in cells}
    words = [f"--preset {preset}"] if debug else []
    for name, values in (("envs", envs), ("learners", learners), ("seeds", seeds)):
        words += [f"--{name} {shlex.quote(','.join(map(str, values)))}"] if values else []
    command = " ".join([f"vaerl experiment {comparison.name}", *words])
    record = assemble(comparison, results, command)
    path = out / "results.json"
    files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    print_table(record["title"], record["columns"], record["rows"])
    draw_curves({(c.env, c.learner, c.seed): r["curve"] for c, r in results.items()}, out)
    return path


def train_cell(comparison: Comparison, out: Path, cell: Cell) -> dict[str, Any]:
    """Train and evaluate one learner on one torch thread; write and give the result."""
    with limit_threads():
        env = Monitor(gymnasium.make(cell.env))
        agent = comparison.learner(cell)(
            env=env, seed=cell.seed, device="cpu", buffer_size=cell.steps
        )
        episodes, start = _Returns(), process_time()
        agent.learn(cell.steps, callback=episodes)
        seconds = process_time() - start
        env.reset(seed=cell.seed + 10_000)
        evaluation, _ = evaluate_policy(agent, env, EPISODES, deterministic=True)
    result = {
        "cell": comparison.record(cell),
        "curve": curve(episodes.steps, episodes.returns, cell.steps),
        "evaluation": float(np.mean(evaluation)),
        "cpu_seconds": seconds,
    }
    path = cell.path(out)
    files.make_directory(path.parent)
    files.write_text(path, jsonio.dumps(result, indent=1) + "\n")
    return result


def curve(steps: Sequence[int], returns: Sequence[float], length: int) -> list[list[float]]:
    """[last step, mean return] of the parts of a run in which an episode ended.

    >>> curve([10, 20, 95], [1.0, 3.0, 7.0], 100)
    [[10.0, 1.0], [20.0, 3.0], [100.0, 7.0]]
    """
    ends = np.arange(1, PARTS + 1) * length / PARTS
    part = np.searchsorted(ends, steps)
    return [
        [float(end), float(np.asarray(returns)[part == i].mean())]
        for i, end in enumerate(ends)
        if (part == i).any()
    ]


def _read(comparison: Comparison, cell: Cell, out: Path) -> dict[str, Any] | None:
    """The result of a finished training, None where there is none; it is never replaced."""
    path = cell.path(out)
    found = read_record(path, ("cell", "curve", "evaluation", "cpu_seconds"))
    if found is None:
        return None
    other = _differences(found["cell"], comparison.record(cell))
    if other:
        raise ValueError(
            f"{path}: got a training of other settings, move it away or name another --out: {other}"
        )
    pairs, scores = found["curve"], [found["evaluation"], found["cpu_seconds"]]
    legal = isinstance(pairs, list) and len(pairs) > 0
    for row in [*pairs, scores] if legal else ():  # each holds two numbers
        legal &= isinstance(row, list) and [type(n) in (int, float) for n in row] == [True, True]
    if not legal:
        raise ValueError(
            f"{path}: got a curve or a score of another form, expected [step, return] pairs and "
            "numbers; delete it to make it again"
        )
    return found


def _differences(found: Any, wanted: Mapping[str, Any]) -> str:
    """What a cell's record has other than wanted: "name got, expected", settings one by one."""
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        return f"got {found!r:.80}, expected a cell with settings"
    pairs = [{**each, **each["settings"], "settings": None} for each in (found, wanted)]
    names = [name for name in {**pairs[0], **pairs[1]} if pairs[0].get(name) != pairs[1].get(name)]
    return "; ".join(f"{n}: got {pairs[0].get(n)}, expected {pairs[1].get(n)}" for n in names)


def assemble(
    comparison: Comparison, results: Mapping[Cell, Mapping[str, Any]], command: str
) -> dict[str, Any]:
    """The table: a row an environment and a learner, means over seeds."""
    rows = []
    for env, learner in dict.fromkeys((cell.env, cell.learner) for cell in results):
        own = [r for cell, r in results.items() if (cell.env, cell.learner) == (env, learner)]
        steps = next(cell.steps for cell in results if cell.env == env)
        curves = [np.array(r["curve"]) for r in own]
        rows.append(
            [
                env,
                learner,
                f"{steps:,}",
                str(len(own)),
                interval([float(c[:, 1].mean()) for c in curves], 0),
                interval([float(c[c[:, 0] > 0.8 * steps, 1].mean()) for c in curves], 0),
                interval([r["evaluation"] for r in own], 0),
                f"{np.mean([r['cpu_seconds'] for r in own]) * 1000 / steps:.1f}",
            ]
        )
    return {
        "title": comparison.title,
        "command": command,
        "caption": (
            "Mean return with the 95 % interval (Student's t) over seeds: of all training episodes "
            "(each tenth of a run counts alike), of those in its last fifth, and of "
            f"{EPISODES} episodes with the best action after it. {comparison.caption} "
            "CPU seconds: of training, one thread, beside other work."
        ),
        "columns": [
            "environment", "learner", "steps", "seeds", "whole run", "last fifth", "evaluation",
            "CPU seconds per 1000 steps",
        ],
        "rows": rows,
        "data": {
            f"{cell.env} {cell.learner} seed {cell.seed}": r["curve"] for cell, r in results.items()
        },
        "notes": [*comparison.notes],
        "versions": {**versions(), "cores": os.cpu_count()},
    }  # fmt: skip
