"""A sweep trains every combination once, names what failed, and finishes what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.lab.training import finish_run
from vaerl.runs import RunDirectory
from vaerl.sweep.spec import Sweep, check_place, label, merged
from vaerl.sweep.trials import make_trials

SHORT = (
    *("ppo", "--steps", "64", "--agent-option", "n_steps=64", "--final-episodes", "1"),
    *("--eval-every", "0", "--picture-every", "0", "--no-video", "--jobs", "1"),
)


class Fragile(gymnasium.Env[Any, Any]):
    """Fails in its fifth step if told so."""

    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.count = fails, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        if self.fails and self.count == 5:
            raise ArithmeticError("out of balance")
        return np.zeros(1, np.float32), float(action[0]), False, False, {}


gymnasium.register("Fragile-v0", Fragile, max_episode_steps=9)


def sweep(*words: Any) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["sweep", *map(str, words)])


def record(out: Path) -> dict[str, Any]:
    """What the table was made of."""
    return json.loads((out / "results.json").read_text())


def test_a_second_call_trains_only_what_is_missing(tmp_path: Path) -> None:
    """Every trial is an ordinary run, equal to one by itself; new seeds join the table."""
    words = (*SHORT, "--env", "Fragile-v0", "--grid", "density=gaussian,mixture", "--out", tmp_path)
    result = sweep(*words)
    assert result.exit_code == 0, result.output
    names = ["gaussian-s0", "mixture-s0"]
    found = [RunDirectory.open(tmp_path / name) for name in names]
    assert [run["run"] for run in record(tmp_path)["runs"]] == names
    assert {run.config["wandb_group"] for run in found} == {tmp_path.name}
    assert "mixture-s0" in (tmp_path / "report.html").read_text()

    times = [run.status_path.stat().st_mtime_ns for run in found]
    assert sweep(*words, "--seeds", "0-1").exit_code == 0
    assert [run.status_path.stat().st_mtime_ns for run in found] == times
    assert [row[:2] for row in record(tmp_path)["rows"]] == [["gaussian", "2"], ["mixture", "2"]]

    alone = make_trials(Sweep(*_train(found[0])))[0].config(tmp_path / "alone")
    again = finish_run(alone, lambda done: None).evaluation()
    assert again is not None and again["stochastic"] == found[0].evaluation()["stochastic"]


def _train(run: RunDirectory) -> tuple[dict[str, Any]]:
    """The settings of a run, as a sweep takes them."""
    left_out = ("seed", "out", "versions")
    return ({name: value for name, value in run.config.items() if name not in left_out},)


def test_a_failed_trial_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """The exit code says so; the table holds the others."""
    words = (
        "--env",
        "Fragile-v0",
        "--density",
        "gaussian",
        "--grid",
        "env_options.fails=true,false",
    )
    result = sweep(*SHORT, *words, "--out", tmp_path)
    assert result.exit_code == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("vaerl: 1 of 2 cells failed: fails=True-s0: ") and "balance" in last
    assert [row[:2] for row in record(tmp_path)["rows"]] == [["False", "1"]]
    assert RunDirectory.open(tmp_path / "fails=True-s0").status()["state"] == "failed"


def test_a_file_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    """Options of the command line count more than those of the file."""
    (tmp_path / "spec.toml").write_text(
        """
        agent = "ppo"
        env = "Fragile-v0"
        density = "gaussian"
        steps = 1000
        seeds = "3-9"
        final_episodes = 1
        video = false
        agent_options = {n_steps = 64, gamma = 0.9}
        [grid]
        agent_options.ent_coef = [0.0, 0.1]
        """
    )
    out = tmp_path / "out"
    words = ("--steps", "64", "--seeds", "3", "--agent-option", "gamma=0.8", "--jobs", "1")
    result = sweep(tmp_path / "spec.toml", *words, "--out", out)
    assert result.exit_code == 0, result.output
    config = RunDirectory.open(out / "ent_coef=0.1-s3").config
    assert (config["steps"], config["seed"], config["density"]) == (64, 3, "gaussian")
    options = {"n_steps": 64, "gamma": 0.8, "ent_coef": 0.1}
    assert options.items() <= config["agent_options"].items()
    assert len(list((out / "cells").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "densty=cvae,flow"], "grid: got 'densty'"),
        (["--grid", "density"], "--grid: got 'density', expected NAME=VALUE"),
        (["--grid", "density=flow,flow"], "grid density: got ['flow', 'flow'], expected different"),
        (["--grid", "density_options.k=1", "--density", "cvai"], "cvai"),
        (["--grid", "seed=1,2"], "expected --seeds"),
        (["--seeds", "3-1"], "expected LOW-HIGH"),
        (["--seeds", "many"], "seeds: got 'many'"),
        (["--grid", "agent=sac,sax"], "did you mean 'sac'"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], message: str, tmp_path: Path
) -> None:
    """Exit code 2, the value and what is legal."""
    out = tmp_path / "out"
    result = sweep("ppo", "--env", "Fragile-v0", "--out", out, *words)
    assert result.exit_code == 2, result.output
    line = result.stderr.strip()
    assert message in line and "\n" not in line
    assert not out.exists()


def test_options_of_a_grid_do_not_change_the_settings_they_join() -> None:
    """Trials share nothing that one of them writes to."""
    shared = {"agent_options": {"gamma": 0.9}}
    assert merged(shared, {"agent_options.tau": 1}) == {"agent_options": {"gamma": 0.9, "tau": 1}}
    assert shared == {"agent_options": {"gamma": 0.9}}


def test_typing_errors_get_the_nearest_name_and_signs_stay_in_labels() -> None:
    with pytest.raises(ValueError, match=r"grid: got 'densty', did you mean 'density'\?"):
        check_place("grid", "densty")
    assert [label({"agent_options.target_entropy": value}) for value in (-1, 1)] == [
        "target_entropy=-1",
        "target_entropy=1",
    ]
