"""A run on demonstrations: `data` stands in its configuration and keeps its meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.agents import AGENTS
from vaerl.data import collect
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import load_run, train

QUIET: dict[str, Any] = {"eval_every": 0, "picture_every": 0, "video": False, "final_episodes": 2}
AVOIDING = "vaerl/Avoiding-v0"


def config(**changes: Any) -> TrainConfig:
    options = {"chunk": 2, "policy_kwargs": {"net_arch": [8]}}
    fields = {"env": AVOIDING, "agent": "bc", "density": "gaussian", "agent_options": options}
    return TrainConfig(**{**fields, "data": "demos", "device": "cpu", **QUIET, **changes})


def still(rng: np.random.Generator, env: Any) -> Any:
    return lambda observation: rng.uniform(-0.001, 0.001, 2)


def test_a_relative_path_means_the_same_folder_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumes from another folder; it acts where its data is gone."""
    monkeypatch.chdir(tmp_path)
    demos = tmp_path / "demos"
    collect(AVOIDING, still, 2, out=demos, env_options={"max_episode_steps": 5})
    run = train(config(steps=4, out=str(tmp_path / "run")))
    written = json.loads(run.config_path.read_text())
    assert written["data"] == str(demos) and "data" not in written["agent_options"]
    monkeypatch.chdir("/")
    resumed = train(config(steps=6, out=str(run.path), data=written["data"]), resume=True)
    assert resumed.status()["steps"] == 6
    other = demos.rename(tmp_path / "other")
    with pytest.raises(ValueError, match=r"--resume: data: got '.*/other', expected '.*/demos'"):
        train(config(steps=8, out=str(run.path), data=str(other)), resume=True)
    agent, _, step = load_run(run.path)
    assert step == 6 and agent.predict(np.zeros(4, np.float32))[0].shape == (2,)
    with pytest.raises(ValueError, match=r"data: '.*/demos' does not exist"):
        train(config(steps=8, out=str(tmp_path / "new"), data=str(demos)))
    assert not (tmp_path / "new").exists(), "nothing is written before the data is read"
    with pytest.raises(ValueError, match=r"data: got observations of .*the environment has"):
        train(config(steps=8, env="Pendulum-v1", out=str(tmp_path / "new"), data=str(other)))
    assert not (tmp_path / "new").exists(), "nor before it is known to fit"


def test_a_name_in_a_store_is_no_path() -> None:
    assert config(data="minari:me/demos-v0").data == "minari:me/demos-v0"
    assert config(data="~/demos").data == str(Path.home() / "demos")


def test_agents_say_whether_they_take_data() -> None:
    with pytest.raises(ValueError, match="data: got none, expected the demonstrations that agent"):
        config(data="")
    for name in AGENTS.names():
        agent = AGENTS.load(name)
        if not agent.takes_data:
            with pytest.raises(ValueError, match=f"expected none: agent '{name}' learns from no"):
                config(agent=name)
