"""Learners side by side on the same tasks: one cell a training, curves, one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from vaerl.densities.options import check_seed
from vaerl.disk import files
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import plain
from vaerl.lab.stats import ENOUGH, interquartile_mean, interval
from vaerl.lab.table import command_line, quantity
from vaerl.lab.watching import Watch
from vaerl.names import check_name
from vaerl.report.curve_figures import Curve, draw_curves
from vaerl.report.figures import figure_style, new_figure, save_png
from vaerl.runs.config import check_typed_env

SEEDS = (0, 1, 2)
PARTS = 10
EPISODES = 20
SAVE_EVERY = 2_000  # steps
PRESETS = ("full", "debug")
DEBUG_STEPS = 450  # two episodes of Pendulum, and some updates


@dataclass(frozen=True)
class Comparison:
    """Who is compared, on what, for how long.

    Args:
        name: of the experiment.
        title: of the table.
        caption: what all learners share.
        learners: agents by name, with plain data for settings; called with env, seed, device and
            buffer_size.
        steps: of the full preset, by environment; the first is that of the preset "debug".
        settings: what each environment adds to every learner's settings.
        debug: what that preset adds, by learner.
        notes: below the table.
        episodes: of the evaluation after a training; 1 in the preset "debug".
        published: who has published returns, and those of their seeds by environment and steps.
        panel: of the picture, by learner; one for all by default.
    """

    name: str
    title: str
    caption: str
    learners: Mapping[str, partial[Any]]
    steps: Mapping[str, int]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    debug: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    episodes: int = EPISODES
    published: tuple[str, Mapping[str, Mapping[str, Sequence[float]]]] | None = None
    panel: Callable[[str], str] = lambda learner: ""

    def training(self, env: str, learner: str, seed: int, debug: bool = False) -> Training:
        """The cell of a learner on an environment.

        Raises:
            ValueError: an unknown name or an illegal seed.
        """
        check_name("learner", learner, self.learners)
        if not debug:
            check_name("env", env, self.steps)
        check_typed_env(env)
        steps = DEBUG_STEPS if debug else self.steps[env]
        short = self.debug.get(learner, {}) if debug else {}
        base = self.learners[learner]
        made = partial(base, **{**self.settings.get(env, {}), **short})
        settings = plain({"arguments": [*made.args], **made.keywords})
        return Training(env, learner, check_seed("seeds", seed), steps, settings)

    def compare(
        self,
        run: Callable[..., Path],
        out: Path,
        preset: str,
        envs: Sequence[str] | None,
        learners: Sequence[str] | None,
        seeds: Sequence[int] | None,
        jobs: int,
        table: bool = False,
        **options: Any,
    ) -> Path:
        """Train the unfinished cells, print the table, draw the curves; return results.json.

        `run` is the function behind the command, `options` what it takes besides. With `table`
        nothing is trained, and the table has all finished cells of these settings with seeds below
        100.
        """
        debug = check_name("preset", preset, PRESETS) == "debug"
        first = next(iter(self.steps))
        cells = [
            self.training(env, learner, seed, debug)
            for seed in seeds or SEEDS[: 1 if debug else None]
            for env in envs or ([first] if debug else self.steps)
            for learner in learners or self.learners
        ]
        given = {"preset": preset, "envs": envs, "learners": learners, "seeds": seeds, **options}
        shown = replace(self, episodes=1) if debug else self
        experiment = Experiment(
            measure=partial(train_learner, self.learners, shown.episodes),
            assemble=partial(assemble, shown),
            draw=partial(draw, self.panel),
        )
        return experiment.run(
            cells, out, command=command_line(self.name, run, given), jobs=jobs, only_table=table,
            others=partial(self._shows, debug) if table else None,
        )  # fmt: skip

    def _shows(self, debug: bool, cell: Mapping[str, Any]) -> bool:
        """Whether a table has this cell, which may be of other settings or another experiment."""
        env, learner, seed = (cell.get(name) for name in ("env", "learner", "seed"))
        known = learner in self.learners and (debug or env in self.steps)
        if not known or not isinstance(seed, int) or seed >= 100:
            return False
        return self.training(str(env), str(learner), seed, debug).as_data() == cell


@dataclass(frozen=True)
class Training(Cell):
    """One training.

    >>> Training("Pendulum-v1", "my sac", 0, 8_000, {}).name
    'Pendulum-v1-my-sac-s0'
    >>> Training("Pendulum-v1", "my sac", 0, 450, {}).name
    'Pendulum-v1-my-sac-s0-450-steps'
    """

    env: str
    learner: str
    seed: int
    steps: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Debug runs have their steps in the name, so that both presets can share a folder."""
        name = f"{self.env}-{self.learner}-s{self.seed}".replace(" ", "-").replace("/", "-")
        return f"{name}-{self.steps}-steps" if self.steps == DEBUG_STEPS else name

    @property
    def work(self) -> float:
        """Environment steps."""
        return float(self.steps)


def as_command(comparison: Comparison) -> Callable[..., Path]:
    """The function `run` of an experiment that is this comparison."""

    def run(
        out: Path,
        preset: str = "full",
        envs: list[str] | None = None,
        learners: list[str] | None = None,
        seeds: list[int] | None = None,
        jobs: int = 2,
    ) -> Path:
        return comparison.compare(run, out, preset, envs, learners, seeds, jobs)

    shown = (f'"{name}"' if " " in name else name for name in comparison.learners)
    run.__doc__ = f"""Train the unfinished cells, print the table, draw the curves.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug": {DEBUG_STEPS} steps of {next(iter(comparison.steps))}.
        envs: of {", ".join(comparison.steps)}; all by default ("debug": the first).
        learners: of {", ".join(shown)}; all by default.
        seeds: {", ".join(map(str, SEEDS))} by default ("debug": 0).
        jobs: processes, each with one thread.
    """
    return run


def train_learner(
    learners: Mapping[str, partial[Any]], episodes: int, cell: Training, desk: Desk
) -> Measured:
    """Train and evaluate one learner; a training that was cut goes on from its last save."""
    env = Monitor(gymnasium.make(cell.env))
    settings = dict(cell.settings)
    agent = learners[cell.learner].func(
        *settings.pop("arguments"),
        **settings, env=env, seed=cell.seed, device="cpu", buffer_size=cell.steps,
    )  # fmt: skip
    watch = Watch(cell, desk, SAVE_EVERY)
    notes = watch.train(agent, cell.steps)
    env.reset(seed=cell.seed + 10_000)
    evaluation, _ = evaluate_policy(agent, env, episodes, deterministic=True)
    watch.clear()
    steps, returns = ([episode[i] for episode in notes["episodes"]] for i in (0, 1))
    return Measured(
        {
            "curve": curve(steps, returns, cell.steps),
            "evaluation": float(np.mean(evaluation)),
            "cpu_seconds": notes["train_seconds"],
        }
    )


def curve(steps: Sequence[float], returns: Sequence[float], length: int) -> list[list[float]]:
    """[last step, mean return] of each tenth of a run in which an episode ended.

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


def curves(results: Results) -> dict[tuple[str, str, int], list[list[float]]]:
    """Learning curves by environment, learner and seed."""
    return {
        (str(r.cell["env"]), str(r.cell["learner"]), int(r.cell["seed"])): r.data["curve"]
        for r in results
    }


def draw(panel: Callable[[str], str], results: Results, out: Path) -> Path:
    """Draw the learning curves into out/figures/curves.png."""
    figure = draw_panels(curves(results), panel)
    return save_png(figure, files.make_directory(out / "figures") / "curves.png")


def draw_panels(
    curves: Mapping[tuple[str, str, int], Sequence[Sequence[float]]], panel: Callable[[str], str]
) -> Figure:
    """Learning curves by environment, learner and seed: a panel for each environment, or a row of
    panels with one y axis where `panel` divides the learners.
    """
    rows: dict[str, dict[str, list[Curve]]] = {}
    for (env, learner, seed), points in curves.items():
        steps, returns = np.array(points, dtype=float).reshape(-1, 2).T
        if len(steps):
            curve = Curve(learner, "", f"seed {seed}", steps, returns)
            rows.setdefault(env, {}).setdefault(panel(learner), []).append(curve)
    wide = max((len(row) for row in rows.values()), default=1)
    shape = (len(rows), wide) if wide > 1 else (1, max(1, len(rows)))
    with figure_style():
        figure = new_figure((4.0 if wide > 1 else 5.0) * shape[1], 3.6 * shape[0])
        axes = figure.subplots(*shape, squeeze=False).reshape(-1, wide)
        for places, (env, row) in zip(axes, rows.items(), strict=False):
            used = places[: len(row)]
            for ax, (name, members) in zip(used, row.items(), strict=True):
                title = f"{env}: {name}" if name else env
                draw_curves(ax, members, ylabel="return of training episodes", title=title)
                ax.legend()
            low, high = zip(*(ax.get_ylim() for ax in used), strict=True)
            for ax in used:
                ax.set_ylim(min(low), max(high))
            for ax in places[len(row) :]:
                ax.set_axis_off()
    return figure


def assemble(comparison: Comparison, results: Results) -> dict[str, Any]:
    """The table: a row for each environment and learner, means over seeds."""
    members: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for result in results:
        key = (result.cell["env"], result.cell["learner"], result.cell["steps"])
        members.setdefault(key, []).append(result.data)
    enough = min(map(len, members.values())) >= ENOUGH
    episodes = quantity(comparison.episodes, "episode")
    rows = []
    for (env, learner, steps), own in members.items():
        runs = [np.array(data["curve"]).reshape(-1, 2) for data in own]
        scores = [data["evaluation"] for data in own]
        rows.append(
            [
                env,
                learner,
                f"{steps:,}",
                str(len(own)),
                _mean_return(runs),
                _mean_return([c[c[:, 0] > 0.8 * steps] for c in runs]),
                interval(scores, 0),
                *([interquartile_mean([scores]).text(0)] if enough else []),
                *([_published(comparison, env, steps)] if comparison.published else []),
                f"{np.mean([data['cpu_seconds'] for data in own]) * 1000 / steps:.1f}",
            ]
        )
    return {
        "title": comparison.title,
        "caption": (
            "Mean return with the 95 % interval (Student's t) over seeds: of the training episodes "
            "(each tenth of a run counts the same), of those in the last fifth, and of "
            f"{episodes} with the best action afterwards. "
            f"{comparison.caption}"
        ),
        "columns": [
            "environment", "learner", "steps", "seeds", "whole run", "last fifth", "evaluation",
            *(["evaluation, interquartile mean"] if enough else []),
            *([comparison.published[0]] if comparison.published else []),
            "CPU seconds per 1000 steps",
        ],
        "rows": rows,
        "data": {f"{e} {l} seed {seed}": c for (e, l, seed), c in curves(results).items()},
        "notes": [*comparison.notes],
        "settings": {f"{r.cell['env']} {r.cell['learner']}": r.cell["settings"] for r in results},
    }  # fmt: skip


def _mean_return(runs: Sequence[np.ndarray]) -> str:
    """Mean over seeds of the mean over rows [step, return]; a dash if a seed has none."""
    if not all(map(len, runs)):
        return "–"
    return interval([float(rows[:, 1].mean()) for rows in runs], 0)


def _published(comparison: Comparison, env: str, steps: int) -> str:
    """The mean over the seeds of those who published it; a dash where they did not."""
    assert comparison.published is not None, "only then has the table a column for it"
    returns = comparison.published[1].get(env, {}).get(str(steps), [])
    return interval(returns, 0) if returns else "–"
