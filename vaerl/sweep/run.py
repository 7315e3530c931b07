"""Run a sweep: the trials that are missing, then the table and the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vaerl.densities.options import check_positive
from vaerl.lab.experiment import Experiment, Results
from vaerl.sweep import searching
from vaerl.sweep.search import Search, prepare
from vaerl.sweep.spec import Sweep
from vaerl.sweep.trials import assemble, make_trials, measure, write_report


def run_sweep(
    sweep: Sweep, out: Path, *, command: str = "", jobs: int = 1, debug: bool = False
) -> Path:
    """Train every combination of the grid, print the table, write the report.

    Args:
        sweep: what to train.
        out: its folder: a run for each trial, cells/ with their scores, results.json, report.html.
        command: that makes the table again.
        jobs: trials at once.
        debug: make every run tiny.

    Returns:
        The file of the table.

    Raises:
        ValueError: illegal settings, or a folder with other ones; nothing is trained.
        RunsFailed: some trials failed; raised after the table of the others.
    """

    def draw(results: Results, out: Path) -> None:
        write_report([str(result.data["run"]) for result in results], out)

    experiment = Experiment(measure, partial(assemble, sweep), draw)
    return experiment.run(make_trials(sweep, debug), out, command=command, jobs=jobs)


def run_search(
    sweep: Sweep,
    search: Search,
    out: Path,
    *,
    trials: int,
    command: str = "",
    jobs: int = 1,
    debug: bool = False,
) -> Path:
    """Look for settings in so many trials; otherwise as `run_sweep`."""

    def draw(results: Results, out: Path) -> None:
        write_report(searching.best_runs(search, results), out)

    if sweep.grid:
        raise ValueError("--grid and --search: got both, expected choices as --space NAME=A,B")
    count = check_positive("trials", trials)
    cells = searching.make_attempts(sweep, search, count, debug)
    prepare(search, out, count)
    experiment = Experiment(searching.measure, partial(searching.assemble, search), draw)
    return experiment.run(cells, out, command=command, jobs=jobs)
