"""Runs of the agents that learn a model: their configuration, and one small run of each."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vaerl.report import report
from vaerl.report.pictures import Painter
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import load_run, train

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
    with pytest.raises(ValueError, match="dynamics: got 'cvae', expected none: agent 'sac' learns"):
        TrainConfig("Hopper-v5", "sac", dynamics="cvae")


KNOWN = {"reward": "known", "termination": "known"}
WHOLE = {"policy_kwargs": {"density_kwargs": {"whole": True}}}


@pytest.mark.parametrize(
    ("agent", "env", "options"),
    [
        ("mpc", "CartPole-v1", {}),
        ("mbpo", "Pendulum-v1", {}),
        ("mpc", "vaerl/GhostGrid-v0", KNOWN | WHOLE),
        ("mbpo", "vaerl/WetChicken-v0", {"reward": "known"}),
    ],
)
def test_a_run_learns_a_model_and_comes_back(
    agent: str, env: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """It evaluates, logs its model, reports, and its last checkpoint acts again."""
    config = TrainConfig(
        env,
        agent,
        density="gaussian",
        dynamics="gaussian",
        steps=60,
        out=str(tmp_path / "run"),
        agent_options=TINY | OPTIONS[agent] | options,
        eval_every=0,
        final_episodes=1,
        picture_every=60,
        checkpoint_every=0,
        video=False,
    )
    run = train(config, painter=Painter)
    assert run.status()["state"] == "finished" and run.evaluation() is not None
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert any("model/holdout_score" in row for row in rows)
    loaded, back, step = load_run(run.path)
    assert (back, step) == (config.resolved(), 60)
    observation = np.ones(loaded.observation_space.shape, np.float32)
    assert loaded.action_space.contains(loaded.predict(observation)[0])
    assert any("model/calibration_error" in row for row in rows)
    drawn = {path.name.rpartition("-")[0] for path in run.figures_path.glob("model-*.png")}
    assert drawn == {"model-laws", "model-calibration", "model-fan"}
    page = report([run.path], tmp_path / "report.html").read_text()
    assert "Traceback" not in page and "Learned model" in page and "PIT values" in page


def test_a_look_at_the_model_is_fair_and_leaves_no_trace() -> None:
    """Fresh steps, the law where it is known; the agent's streams and the global one stay."""
    from vaerl.agents import MPC
    from vaerl.report.policies import RunPolicy
    from vaerl.report.world import look_at_world

    env = "vaerl/WetChicken-v0"
    agent = MPC("gaussian", env, **TINY | OPTIONS["mpc"], seed=0)
    record: Any = SimpleNamespace(env=env, env_options={})
    policy = RunPolicy(record, agent)
    assert look_at_world(policy) is None  # nothing has been learned yet
    agent.learn(40)
    before, calls = torch.get_rng_state(), agent.policy.noise.calls
    look, again = look_at_world(policy), look_at_world(policy)
    assert torch.equal(torch.get_rng_state(), before) and agent.policy.noise.calls == calls
    assert look is not None and again is not None and look.truth is not None
    assert np.array_equal(look.pit, again.pit) and look.pit.shape == (60, 2)
    # What happened is a draw of the law: it lies where draws of the law lie.
    assert np.all(look.truth.min(0) - 1e-5 <= look.outcomes)
    assert np.all(look.outcomes <= look.truth.max(0) + 1e-5)
    assert look.paths.shape == (31, 60) and np.all(look.paths[0] == look.path[0, 0])


def test_an_unknown_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The nearest name is given."""
    config = TrainConfig("Pendulum-v1", "mbpo", dynamics="cvea", out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="dynamics: got 'cvea', did you mean 'cvae'"):
        train(config)
    assert not (tmp_path / "run").exists()
