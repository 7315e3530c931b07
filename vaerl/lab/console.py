"""Tables and progress bars on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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
