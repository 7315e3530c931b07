"""A run that cannot be resumed is refused in one line and keeps every file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.runs.faulty import Crash, FaultyOs
from vaerl.disk import files
from vaerl.lab.training import finish_run
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import _check_place, train

NO_CHECKPOINT = r"^--resume: '.*run' has no checkpoint to resume from; .*--out, or --overwrite"


def config(folder: Path) -> TrainConfig:
    return TrainConfig(
        "Pendulum-v1",
        density="gaussian",
        steps=12,
        out=str(folder / "run"),
        agent_options={"learning_starts": 4, "batch_size": 4, "policy_kwargs": {"net_arch": [4]}},
        eval_every=0,
        picture_every=0,
        final_episodes=1,
        video=False,
        device="cpu",
    )


@pytest.fixture
def wanted(tmp_path: Path) -> TrainConfig:
    """A finished run, and the same with more steps."""
    run = train(config(tmp_path))
    (run.path / "episodes").mkdir()
    (run.path / "episodes" / "0.npz").write_text("recorded")
    return dataclasses.replace(config(tmp_path), steps=20)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("emptied", [False, True])
def test_a_run_without_checkpoints_is_kept(wanted: TrainConfig, emptied: bool) -> None:
    checkpoints = Path(wanted.out, "checkpoints")
    shutil.rmtree(checkpoints)
    if emptied:
        checkpoints.mkdir()
    before = contents(Path(wanted.out))
    with pytest.raises(ValueError, match=NO_CHECKPOINT):
        train(wanted, resume=True)
    assert contents(Path(wanted.out)) == before
    assert train(wanted, overwrite=True).status()["steps"] == 20


def test_a_run_without_its_configuration_is_kept(wanted: TrainConfig) -> None:
    Path(wanted.out, "config.json").unlink()
    before = contents(Path(wanted.out))
    with pytest.raises(ValueError, match=r"^--resume: config.json is missing from '.*run'$"):
        train(wanted, resume=True)
    assert contents(Path(wanted.out)) == before


def test_a_run_that_has_written_nothing_starts(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create(config(tmp_path).resolved().to_dict())
    assert not run.holds_work
    assert train(config(tmp_path), resume=True).status()["steps"] == 12
    assert run.holds_work


def test_a_creation_or_a_deletion_that_was_cut_off_begins_anew(
    wanted: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a kill came: a new run still starts, and an old one can still be replaced."""
    data, ended = wanted.resolved().to_dict(), 0
    for at in range(30):
        old = tmp_path / f"old{at}"
        shutil.copytree(wanted.out, old)
        for folder in (old, tmp_path / f"new{at}"):
            monkeypatch.setattr(files, "os", FaultyOs(at))
            with contextlib.suppress(Crash), RunDirectory(folder).locked():
                RunDirectory(folder).create(data, overwrite=True)
                ended += 1
            monkeypatch.undo()
            run = RunDirectory(folder)
            if not run.holds_work:
                assert not _check_place(run, wanted, overwrite=False, resume=True)
            run.create(data, overwrite=True)
            assert run.config["seed"] == 0 and not run.holds_work
            assert not any(name.startswith((".partial", ".trash")) for name in os.listdir(folder))
    assert 0 < ended < 60


def test_a_cell_killed_before_its_first_checkpoint_is_made_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create(config(tmp_path).resolved().to_dict())
    run.metrics_path.write_text('{"global_step": 3}\n')
    with pytest.raises(ValueError, match=NO_CHECKPOINT):
        train(config(tmp_path), resume=True)
    again = finish_run(config(tmp_path), lambda amount: None)
    assert again.status()["state"] == "finished"


def test_the_folder_is_checked_before_the_agent_is_built(
    wanted: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*given: Any, **options: Any) -> Any:
        raise AssertionError("built")

    monkeypatch.setattr("vaerl.runs.train.make_agent", build)
    monkeypatch.setattr("vaerl.runs.train._make_env", build)
    with pytest.raises(ValueError, match="holds a run already"):
        train(wanted)
    with pytest.raises(ValueError, match="--resume: seed: got 1, expected 0"):
        train(dataclasses.replace(wanted, seed=1), resume=True)
