"""Run a sweep: the trials that are missing, then the table and the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vaerl.lab.experiment import Experiment
from vaerl.sweep.spec import Sweep
from vaerl.sweep.trials import assemble, make_trials, measure, write_report


def run_sweep(
    sweep: Sweep, out: Path, *, command: str = "", jobs: int = 1, debug: bool = False
) -> Path:
    """Train what is missing, print the table, write the report; return the file of the table.

    Args:
        sweep: what to train.
        out: its folder: a run for each trial, cells/ with their scores, results.json, report.html.
        command: that makes the table again.
        jobs: trials at once.
        debug: make every run tiny.

    Raises:
        ValueError: illegal settings, or a folder with other ones; nothing is trained.
        RunsFailed: some trials failed; raised after the table of the others.
    """
    experiment = Experiment(measure, partial(assemble, sweep), write_report)
    return experiment.run(make_trials(sweep, debug), out, command=command, jobs=jobs)
