"""`vaerl inspect` on a run and on a function that the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.data import Demonstrations, write_folder
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import train

FUNCTION = """
def act(observation, z):
    return [1.0 if z[0] > 0 else -1.0]

number = 3
"""


def run(*words: Any) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_inspected.py").write_text(FUNCTION)
    np.save(tmp_path / "states.npy", np.zeros((2, 3)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_that_the_user_names(function: Path) -> None:
    code, output = run(
        "inspect", "my_inspected:act", "--observations", "states.npy", "--draws", 512,
        "--latent-size", 2, "--out", "found",
    )  # fmt: skip
    assert code == 0, output
    found = json.loads((function / "found" / "inspect.json").read_text(encoding="utf-8"))
    assert [len(state["modes"]) for state in found["states"]] == [2, 2]
    assert [latent["modes"] for latent in found["states"][0]["latents"]] == [2.0, 1.0]
    assert "state 1" in output and "inspect.html" in output
    assert (function / "found" / "inspect.html").stat().st_size > 10_000


def test_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    code, output = run(
        "train", "sac", "--debug", "--env", "vaerl/PointMass-v0", "--out", path, "--no-progress"
    )
    assert code == 0, output
    code, output = run("inspect", path, "--draws", 256, "--states", 2, "--kept", 1, "--episodes", 1)
    assert code == 0, output
    found = json.loads((path / "inspect.json").read_text(encoding="utf-8"))
    assert len(found["states"]) == 2
    assert [way["z"] for way in found["rollouts"]] == ["redrawn", "zero", "kept 1"]
    RunDirectory.open(path)  # the run is still one


def test_a_run_whose_demonstrations_are_gone(tmp_path: Path) -> None:
    """It is looked at without them, with a word on that."""
    rng = np.random.default_rng(0)
    observations = [rng.uniform(-1, 1, (9, 4)) for _ in range(3)]
    actions = [rng.uniform(-0.01, 0.01, (8, 2)) for _ in range(3)]
    made = Demonstrations.from_arrays(observations, actions, env="vaerl/Avoiding-v0")
    data = tmp_path / "demos"
    write_folder(made, data)
    path = tmp_path / "run"
    config = TrainConfig("vaerl/Avoiding-v0", "bc", data=str(data), out=str(path))
    train(config.debug())

    def away() -> float | None:
        code, output = run("inspect", path, "--draws", 64, "--states", 1, "--episodes", 0)
        assert code == 0, output
        assert ("compared with no data" in output) == (not data.exists())
        found = json.loads((path / "inspect.json").read_text(encoding="utf-8"))
        return found["states"][0]["away_from_data"]

    assert away() is not None
    data.rename(tmp_path / "moved")
    assert away() is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such/run"], "no/such/run"),
        (["no_such_module:act"], "no_such_module"),
        (["my_inspected:other"], "other"),
        (["my_inspected:number", "--observations", "states.npy"], "my_inspected:number"),
        (["my_inspected:act"], "observations: got none"),
        (["my_inspected:act", "--observations", "none.npy"], "observations: got 'none.npy'"),
        (["my_inspected:act", "--observations", "my_inspected.py"], "not a readable npz file"),
        (["my_inspected:act", "--data", "x"], "--data: got 'x' with a function"),
        (["my_inspected:act", "--observations", "states.npy", "--prior", "x"], "prior: got 'x'"),
    ],
)
def test_a_mistake_gets_one_line(function: Path, words: list[str], message: str) -> None:
    code, output = run("inspect", *words)
    assert code == 2, output
    assert message in output and len(output.strip().splitlines()) == 1


def test_pickled_observations_are_refused(function: Path) -> None:
    np.save(function / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, output = run("inspect", "my_inspected:act", "--observations", "bad.npy")
    assert code == 2 and "bad.npy" in output
