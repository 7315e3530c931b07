"""What the commands print: tables, lists of names, one progress bar for any number of runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vaerl.runs import RunDirectory

REGISTRIES = {
    "agents": "vaerl.agents:AGENTS",
    "densities": "vaerl.densities:DENSITIES",
    "experiments": "vaerl.experiments:EXPERIMENTS",
    "planners": "vaerl.planning:PLANNERS",
    "trackers": "vaerl.track:TRACKERS",
}
WIDTH = 120  # columns of a table that is written to a file or a pipe


class _Speed(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("     –/s" if speed is None else f"{speed:6.0f}/s")


@contextmanager
def training_bar(
    totals: Mapping[str, int], *, shown: bool = True
) -> Iterator[Callable[[str, int], None]]:
    """Show one bar a title, with steps a second and the time left; gives `advance(title, step)`.

    The first call of `advance` brings the bars up, so that an error before it stays one line.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, disable=not shown, speed_estimate_period=15)
    tasks = {title: bar.add_task(title, total=total) for title, total in totals.items()}

    def advance(title: str, step: int) -> None:
        if not bar.live.is_started:  # nothing is shown before there is something to show
            bar.start()
        bar.update(tasks[title], completed=step)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; the first column is text, the others numbers."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        first = index == 0  # names are not cut, numbers go below one another where they must
        table.add_column(
            column, justify="left" if first else "right", no_wrap=first, overflow="fold"
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else format_number(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def format_number(value: float | None) -> str:
    """Write a number with as many digits as it deserves.

    >>> format_number(3286.4), format_number(0.97812), format_number(4.0), format_number(None)
    ('3286.4', '0.978', '4', '–')
    """
    if value is None:
        return "–"
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def print_scores(run: RunDirectory) -> None:
    """Print the final evaluation of a run, if it came so far."""
    from vaerl.runs.train import read_evaluation

    evaluation = read_evaluation(run)
    if evaluation is None:
        return
    kinds = [kind for kind in ("stochastic", "deterministic") if kind in evaluation]
    keys = [key for key, value in evaluation[kinds[0]].items() if isinstance(value, float)]
    rows = [[key, *(evaluation[kind].get(key) for kind in kinds)] for key in keys]
    print_table(f"{run.name}: final evaluation", ["", *kinds], rows)


def listing(kind: str, *, every: bool = False) -> list[tuple[str, str]]:
    """Return (name, one line) for every agent, density, environment, experiment, planner, …."""
    if kind == "envs":
        return _environments(every)
    return resolve_name(REGISTRIES[kind]).lines()


def _environments(every: bool) -> list[tuple[str, str]]:
    import gymnasium

    from vaerl.envs import ENVIRONMENTS

    others = [name for name in gymnasium.registry if name not in ENVIRONMENTS]
    if every:
        return [*ENVIRONMENTS.items(), *((name, "") for name in others)]
    newest = [
        name
        for name in others
        if "mujoco" in str(gymnasium.registry[name].entry_point) and name.endswith("-v5")
    ]
    small = [n for n in ("Pendulum-v1", "MountainCarContinuous-v0") if n in gymnasium.registry]
    rows = [*ENVIRONMENTS.items(), *((name, "Gymnasium's, classic control") for name in small)]
    return rows + [(name, "Gymnasium's, MuJoCo") for name in newest]
