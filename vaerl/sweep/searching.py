"""The cells of a search: a trial draws its settings, trains with each seed, tells its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Results
from vaerl.lab.pool import Tick
from vaerl.names import check_name
from vaerl.report.pictures import Painter
from vaerl.runs.build import check_config
from vaerl.runs.clone import resolve
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.evaluate import EvalResult
from vaerl.runs.signals import Stopped
from vaerl.sweep.search import Search, Taken
from vaerl.sweep.spec import Sweep
from vaerl.sweep.trials import folder_of, make_config, run_trial, scores

SHOWN = 10
"""Best trials in the table and in the report."""


@dataclass(frozen=True)
class Attempt(Cell):
    """One trial of a search."""

    number: int
    search: Mapping[str, Any]
    """The fields of the `Search`."""
    train: Mapping[str, Any]
    """The fields that all trials share."""
    seeds: Sequence[int]
    """One run each; the value of the trial is the mean over them."""
    debug: bool = False
    """Whether the runs are tiny."""

    @property
    def name(self) -> str:
        """Also the beginning of the names of its runs."""
        return f"trial-{self.number:04d}"

    def config(self, out: Path, settings: Mapping[str, Any], seed: int) -> TrainConfig:
        """The run with a seed."""
        return make_config(self.train, settings, seed, out / f"{self.name}-s{seed}", self.debug)


def make_attempts(sweep: Sweep, search: Search, trials: int, debug: bool) -> list[Attempt]:
    """The cells of a search.

    Raises:
        ValueError: the first value of each range and list makes an illegal training.
    """
    plain = asdict(search)
    first = Attempt(0, plain, sweep.train, tuple(sweep.seeds), debug)
    check_config(resolve(first.config(Path(), search.first(), sweep.seeds[0]))[0])
    return [Attempt(i, plain, sweep.train, tuple(sweep.seeds), debug) for i in range(trials)]


class Watch:
    """Tells Optuna the evaluations of a run, and ends the run if it is to be pruned."""

    def __init__(self, taken: Taken, metric: str, tick: Tick, before: int) -> None:
        self.taken, self.metric, self.tick, self.before = taken, metric, tick, before
        self.pruned = False
        self._found: dict[int, float] = {}

    def painter(self, run: RunDirectory, agent: BaseAlgorithm) -> Painter:
        """A painter that also notes the evaluations."""
        found, metric = self._found, self.metric

        class Noting(Painter):
            """Draws, and notes the score of each evaluation."""

            def rollouts(self, result: EvalResult, step: int) -> dict[str, Path]:
                found[step] = result.scores()[metric]
                return super().rollouts(result, step)

        return Noting(run, agent)

    def on_step(self, step: float) -> None:
        """Raise `Stopped` if the run is to end; a prune takes effect in the next step."""
        self.tick(step)
        while self._found:
            at = min(self._found)
            if self.taken.report(self._found.pop(at), self.before + at):
                self.pruned = True
        if self.pruned:
            raise Stopped("pruned")


def measure(attempt: Attempt, desk: Desk) -> Measured:
    """Draw settings, train with every seed until the end or until pruned, and tell the value."""
    search, out = Search(**attempt.search), folder_of(desk)
    taken = Taken(search, out, attempt.number)
    runs: list[dict[str, Any]] = []
    pruned = taken.pruned
    for place, seed in enumerate([] if pruned else attempt.seeds):
        config = attempt.config(out, taken.settings, seed)
        watch = Watch(
            taken, search.metric, _shared(desk.tick, config, attempt, place), place * config.steps
        )
        try:
            run = run_trial(config, watch.on_step, watch.painter)
        except KeyboardInterrupt:
            if not watch.pruned:
                raise
            pruned = True
            break
        runs.append(scores(run))
        check_name("metric", search.metric, runs[-1]["stochastic"])
    values = [run["stochastic"][search.metric] for run in runs]
    value = None if pruned else float(np.mean(values))
    taken.tell(value, pruned)
    return Measured({"settings": taken.settings, "value": value, "pruned": pruned, "runs": runs})


def _shared(tick: Tick, config: TrainConfig, attempt: Attempt, place: int) -> Tick:
    """Progress of one seed as a share of the trial."""
    return lambda step: tick((place + step / config.steps) / len(attempt.seeds))


def ranked(search: Search, results: Results) -> list[Any]:
    """The trials with a value, the best first."""
    ended = [r for r in results if r.data["value"] is not None]
    return sorted(ended, key=lambda r: r.data["value"], reverse=not search.minimise)


def assemble(search: Search, results: Results) -> dict[str, Any]:
    """The table: the best trials and their settings; the data of every trial."""
    best = ranked(search, results)
    pruned = len(results) - len(best)
    rows = [
        [
            f"trial-{r.cell['number']:04d}",
            f"{r.data['value']:.4g}",
            *(_short(r.data["settings"][name]) for name in search.space),
        ]
        for r in best[:SHOWN]
    ]
    return {
        "title": f"Search by {search.sampler}: the best of {len(results)} trials",
        "caption": f"Mean {search.metric} of the final evaluation over seeds "
        f"{', '.join(map(str, results[0].cell['seeds']))}, with drawn actions; {pruned} trials "
        "were ended early. The best of many flatters itself: train it again with other seeds.",
        "columns": ["trial", search.metric, *(n.rpartition(".")[2] for n in search.space)],
        "rows": rows,
        "trials": [{"number": r.cell["number"], **r.data} for r in results],
    }


def best_runs(search: Search, results: Results) -> list[str]:
    """Names of the runs of the best trials."""
    return [str(run["run"]) for r in ranked(search, results)[:SHOWN] for run in r.data["runs"]]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
