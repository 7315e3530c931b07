"""Search by Optuna: each trial draws its settings from a space, and the best ones are looked for.

The study is a journal file in the folder of the sweep. It holds one waiting trial for each cell
before anything is trained, and whoever works on a cell takes the trial of that number: a cell that
was cut finds the settings that it had drawn, goes on with its runs, and tells its value once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from vaerl.disk import files
from vaerl.lab.record import check_same, plain
from vaerl.names import check_name
from vaerl.runs.evaluate import METRICS
from vaerl.sweep.spec import check_place

JOURNAL, STUDY = "study.journal", "sweep"
SAMPLERS: Mapping[str, Callable[[Any, int], Any]] = {
    "tpe": lambda samplers, number: samplers.TPESampler(seed=number, constant_liar=True),
    "gp": lambda samplers, number: samplers.GPSampler(seed=number),
    "qmc": lambda samplers, number: samplers.QMCSampler(seed=0),
    "random": lambda samplers, number: samplers.RandomSampler(seed=number),
}
"""How the settings are drawn; the number of the trial is the seed."""
PRUNERS: Mapping[str, Callable[[Any], Any]] = {
    "none": lambda pruners: pruners.NopPruner(),
    "median": lambda pruners: pruners.MedianPruner(),
    "halving": lambda pruners: pruners.SuccessiveHalvingPruner(),
    "hyperband": lambda pruners: pruners.HyperbandPruner(),
}
"""What ends a bad trial early, by its evaluations during training."""
RANGE = {"low", "high", "log"}


@dataclass(frozen=True)
class Search:
    """How settings are looked for.

    Args:
        space: by field as in a grid: a list of choices, or {"low": …, "high": …} of two whole
            numbers or two others, with "log": true for a logarithmic scale.
        metric: a score of the final evaluation with drawn actions.
        minimise: whether less is better.
        sampler, pruner: by name.

    >>> Search({"agent_options.gamma": {"low": 0.9, "high": 1}}, pruner="medium")
    Traceback (most recent call last):
    ValueError: pruner: got 'medium', did you mean 'median'? (known: halving, hyperband, median, \
none)
    """

    space: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "return_mean"
    minimise: bool = False
    sampler: str = "tpe"
    pruner: str = "none"

    def __post_init__(self) -> None:
        """Check names and ranges."""
        check_name("search", self.sampler, SAMPLERS)
        check_name("pruner", self.pruner, PRUNERS)
        check_name("metric", self.metric, METRICS)
        if not self.space:
            raise ValueError("space: got none, expected fields with a range or with choices")
        for name, own in self.space.items():
            check_place("space", name)
            if isinstance(own, Mapping):
                ends: list[Any] = [own.get("low"), own.get("high")]
                numbers = all(type(end) in (int, float) for end in ends)
                if not numbers or not own.keys() <= RANGE or not ends[0] < ends[1]:
                    raise ValueError(
                        f"space {name}: got {dict(own)!r}, expected low < high, two numbers, "
                        "and perhaps log"
                    )
                if own.get("log") and not ends[0] > 0:
                    raise ValueError(f"space {name}: got low {ends[0]}, expected more than 0")
            elif not isinstance(own, list | tuple) or not own:
                raise ValueError(f"space {name}: got {own!r}, expected a range or a list")

    def first(self) -> dict[str, Any]:
        """The first value of every range and list."""
        return {
            name: own["low"] if isinstance(own, Mapping) else own[0]
            for name, own in self.space.items()
        }

    def draw(self, trial: Any) -> dict[str, Any]:
        """The settings of an Optuna trial; those that it has drawn before stay the same."""
        return {name: _draw(trial, name, own) for name, own in self.space.items()}


def make_search(values: Mapping[str, Any]) -> Search:
    """A search from plain data.

    Raises:
        ValueError: an unknown or illegal entry.
    """
    for name in values:
        check_name("search", name, [item.name for item in fields(Search)])
    return Search(**values)


def _draw(trial: Any, name: str, own: Any) -> Any:
    if not isinstance(own, Mapping):  # Optuna takes plain values only: lists go by their place
        return (
            own[trial.suggest_int(f"{name}#", 0, len(own) - 1)]
            if _nested(own)
            else (trial.suggest_categorical(name, list(own)))
        )
    whole = all(isinstance(own[end], int) for end in ("low", "high"))
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(name, own["low"], own["high"], log=bool(own.get("log", False)))


def _nested(choices: Sequence[Any]) -> bool:
    return any(isinstance(choice, list | dict) for choice in choices)


def load_optuna() -> Any:
    """Import Optuna, quiet.

    Raises:
        ImportError: one line that says what to install.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ImportError(
            f"--search: {error}; install it with: pip install 'vaerl[optuna]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def prepare(search: Search, out: Path, trials: int) -> None:
    """Make the study, or go on with it, with a waiting trial for every cell.

    Raises:
        ValueError: the folder holds the study of another search.
    """
    files.make_directory(out)
    with lock(out):
        files.LineWriter(out / JOURNAL).close()  # removes a line that a cut left incomplete
    study = open_study(search, out, 0)
    wanted = plain(vars(search))
    if (found := study.user_attrs.get("search")) is None:
        study.set_user_attr("search", wanted)
    else:
        check_same(out / JOURNAL, found, wanted)
    for _ in range(len(study.get_trials(deepcopy=False)), trials):
        study.enqueue_trial({})


def lock(out: Path) -> FileLock:
    """Of the journal. The system frees it with its process; Optuna's own stays after a kill."""
    return FileLock(out / f"{JOURNAL}.lock")


def open_study(search: Search, out: Path, number: int) -> Any:
    """The study, with a sampler for the trial of that number."""
    optuna = load_optuna()
    backend = optuna.storages.journal.JournalFileBackend(str(out / JOURNAL), lock(out))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name=STUDY,
        direction="minimize" if search.minimise else "maximize",
        sampler=SAMPLERS[search.sampler](optuna.samplers, number),
        pruner=PRUNERS[search.pruner](optuna.pruners),
        load_if_exists=True,
    )


class Taken:
    """The Optuna trial of a cell, begun or taken up again.

    Args:
        search: what is looked for.
        out: folder of the study.
        number: of the cell.
    """

    def __init__(self, search: Search, out: Path, number: int) -> None:
        optuna = load_optuna()
        self._states = optuna.trial.TrialState
        self._study = open_study(search, out, number)
        storage = self._study._storage
        place = storage.get_study_id_from_name(STUDY)
        self._id = storage.get_trial_id_from_study_id_trial_number(place, number)
        self._number = number
        if storage.get_trial(self._id).state == self._states.WAITING:
            storage.set_trial_state_values(self._id, self._states.RUNNING)
        trial = self._trial = optuna.trial.Trial(self._study, self._id)
        self.frozen = storage.get_trial(self._id)
        """As it stands in the journal."""
        ended = self.frozen.state.is_finished()
        self.settings = search.draw(_Past(self.frozen.params) if ended else trial)
        """By field."""

    @property
    def pruned(self) -> bool:
        """Whether it was ended early."""
        return bool(self.frozen.state == self._states.PRUNED)

    def report(self, value: float, step: int) -> bool:
        """Note a value during training; whether the trial should end."""
        if self.frozen.state.is_finished():
            return False
        if step not in self.frozen.intermediate_values:
            self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def tell(self, value: float | None, pruned: bool = False) -> None:
        """Note how it ended, unless that was done before."""
        if not self.frozen.state.is_finished():
            state = self._states.PRUNED if pruned else self._states.COMPLETE
            self._study.tell(self._number, value, state=state)


class _Past:
    """The draws of a trial that has ended, with the methods of one that draws."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def suggest_int(self, name: str, *_: Any, **__: Any) -> Any:
        return self._params[name]

    suggest_float = suggest_categorical = suggest_int
