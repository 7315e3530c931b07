"""Without `--env`, the data or the clone says which environment is meant."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.data import Demonstrations, write_folder
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.named_env import named_env


def recorded(out: Path, env: str) -> str:
    """A folder of demonstrations with the spaces of Pendulum that says it comes from `env`."""
    rng = np.random.default_rng(0)
    data = Demonstrations.from_arrays(
        [rng.normal(size=(13, 3))], [rng.uniform(-1.0, 1.0, (12, 1))], env=env
    )
    write_folder(data, out)
    return str(out)


def test_a_training_takes_the_environment_of_its_data_or_of_its_clone(tmp_path: Path) -> None:
    data, clone, out = recorded(tmp_path / "data", "Pendulum-v1"), tmp_path / "bc", tmp_path / "ppo"
    for words in (
        ["bc", "--data", data, "--out", str(clone)],
        ["ppo", "--from", str(clone), "--out", str(out)],
    ):
        done = CliRunner().invoke(app, ["train", *words, "--debug", "--no-progress", "--no-video"])
        assert done.exit_code == 0, done.output
        assert RunDirectory.open(words[-1]).config["env"] == "Pendulum-v1"


def test_data_without_an_environment_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--env: got none, and .* names none"):
        named_env(recorded(tmp_path / "data", ""))


def test_a_module_named_by_a_run_is_not_imported(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create(TrainConfig("this:Pendulum-v1").to_dict())
    with pytest.raises(ValueError, match=r"'this:Pendulum-v1', whose module is imported only with"):
        named_env(from_=str(run.path))
    assert "this" not in sys.modules
