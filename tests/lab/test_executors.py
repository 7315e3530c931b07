"""The executor is chosen by one option, for every experiment and sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.lab.test_cells import TOYS, Toy
from vaerl.cli import app
from vaerl.experiments import EXPERIMENTS
from vaerl.lab import ray_jobs
from vaerl.lab.executors import EXECUTORS, executing
from vaerl.lab.pool import Ended, InProcess, Processes, Show, Work, make_executor


class Backwards:
    """Does the last item first, and notes how it was made."""

    made: tuple[int, str, Path]

    def __init__(self, jobs: int, address: str, storage: Path) -> None:
        type(self).made = (jobs, address, storage)

    def run(self, work: Work, items: Sequence[Any], show: Show) -> Iterator[Ended]:
        """See `Executor.run`."""
        for place in reversed(range(len(items))):
            yield Ended(place, work(items[place], lambda done: None), None)


def run(out: Path, preset: str = "full", jobs: int = 3) -> Path:
    """Take roots.

    Args:
        out: folder.
        preset: ignored.
        jobs: at once.
    """
    return TOYS.run([Toy(0), Toy(1, 9.0)], out, jobs=jobs)


def test_an_experiment_runs_on_the_executor_of_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name and address come from the command line, its folder from the experiment."""
    monkeypatch.setitem(EXECUTORS._targets, "backwards", Backwards)
    monkeypatch.setitem(EXPERIMENTS._targets, "roots", run)
    words = ["experiment", "roots", "--out", str(tmp_path), "--executor", "backwards"]
    result = CliRunner().invoke(app, [*words, "--ray-address", "here:1"])
    assert result.exit_code == 0, result.output
    assert Backwards.made == (3, "here:1", tmp_path)
    assert len([*(tmp_path / "cells").glob("*.json")]) == 2


def test_an_experiment_is_sent_as_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address of a job server nothing runs here."""
    sent: list[Any] = []
    monkeypatch.setattr(ray_jobs, "send", lambda *words: sent.append(words))
    monkeypatch.setitem(EXPERIMENTS._targets, "roots", run)
    words = ["experiment", "roots", "--out", str(tmp_path / "out")]
    address = "http://127.0.0.1:8265"
    result = CliRunner().invoke(app, [*words, "--ray-address", address])
    assert result.exit_code == 0, result.output
    assert sent == [(address, [*words, "--ray-address", address])]
    assert not (tmp_path / "out").exists()


def test_the_choice_ends_with_its_block(tmp_path: Path) -> None:
    """An error inside does not leave it behind."""
    with pytest.raises(KeyError), executing("processes", "", tmp_path):
        assert isinstance(make_executor(2), Processes)
        raise KeyError
    assert isinstance(make_executor(1), InProcess)


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [
        ("rai", "", "executor: got 'rai', did you mean 'ray'"),
        ("processes", "head:1", "--ray-address: got 'head:1', expected --executor ray"),
        ("", "ray://localhost:1", "--ray-address: got 'ray://localhost:1', expected HOST:PORT"),
    ],
)
def test_a_wrong_choice_is_one_line(name: str, address: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message), executing(name, address, tmp_path):
        make_executor(1)
