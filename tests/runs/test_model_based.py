"""Runs of the agents that learn a model: their configuration, and one small run of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.runs.config import TrainConfig
from vaerl.runs.report import report
from vaerl.runs.train import load_run, read_evaluation, train

TINY: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16, "members": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "mpc": {
        "train_freq": 20,
        "gradient_steps": 5,
        "planner_kwargs": {"horizon": 2, "population": 8, "elites": 2, "iterations": 2},
    },
    "mbpo": {"model_train_freq": 20, "fit_kwargs": {"steps": 5}, "rollout_batch_size": 50},
}


def test_densities_of_policy_and_model_are_settled() -> None:
    """mpc has one density, mbpo two, the second a CVAE unless named; folders are named by them."""
    mpc = TrainConfig("CartPole-v1", "mpc", dynamics="gaussian", dynamics_options={"hidden": [8]})
    assert (mpc.density, mpc.dynamics) == ("gaussian", "gaussian")
    assert mpc.density_options == mpc.dynamics_options == {"hidden": [8]}
    assert mpc.out == "runs/mpc-gaussian-CartPole-v1-s0"
    assert TrainConfig("CartPole-v1", "mpc", density="flow").dynamics == "flow"
    mbpo = TrainConfig("Hopper-v5", "mbpo", density="gaussian")
    assert (mbpo.density, mbpo.dynamics) == ("gaussian", "cvae")
    assert mbpo.out == "runs/mbpo-gaussian-cvae-Hopper-v5-s0"
    assert TrainConfig.from_dict(mbpo.to_dict()) == mbpo
    with pytest.raises(ValueError, match="dynamics: got 'cvae' with agent 'sac', which learns no"):
        TrainConfig("Hopper-v5", "sac", dynamics="cvae")


@pytest.mark.parametrize(("agent", "env"), [("mpc", "CartPole-v1"), ("mbpo", "Pendulum-v1")])
def test_a_run_learns_a_model_and_comes_back(agent: str, env: str, tmp_path: Path) -> None:
    """It evaluates, logs its model, reports, and its last checkpoint acts again."""
    config = TrainConfig(
        env,
        agent,
        density="gaussian",
        dynamics="gaussian",
        steps=60,
        out=str(tmp_path / "run"),
        agent_options=TINY | OPTIONS[agent],
        eval_every=0,
        final_episodes=1,
        picture_every=30,
        checkpoint_every=0,
        video=False,
    )
    run = train(config)
    assert run.status()["state"] == "finished" and read_evaluation(run) is not None
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert any("model/holdout_score" in row for row in rows)
    loaded, back, step = load_run(run.path)
    assert (back, step) == (config.resolved(), 60)
    observation = np.zeros(loaded.observation_space.shape, np.float32)
    assert loaded.action_space.contains(loaded.predict(observation)[0])
    assert "Traceback" not in report([run.path], tmp_path / "report.html").read_text()


def test_an_unknown_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The nearest name is given."""
    config = TrainConfig("Pendulum-v1", "mbpo", dynamics="cvea", out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="dynamics 'cvea' is unknown; did you mean 'cvae'"):
        train(config)
    assert not (tmp_path / "run").exists()
