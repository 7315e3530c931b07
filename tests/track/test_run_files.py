"""What a training gives its trackers besides numbers: files at the end, an alert if it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from vaerl.disk.errors import RunFailed
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import train
from vaerl.track import Tracker


class Recording(Tracker):
    """Remembers files and alerts."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Path]] = {}
        self.alerts: list[tuple[str, str]] = []

    def keep(self, name: str, kind: str, paths: Mapping[str, Path]) -> None:
        assert all(path.is_file() for path in paths.values())
        self.kept[name] = dict(paths)

    def alert(self, title: str, text: str) -> None:
        self.alerts.append((title, text))


class Nan(gymnasium.Env):
    """Its third reward is NaN."""

    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.steps += 1
        return np.zeros(1, np.float32), float("nan") if self.steps == 3 else 0.0, False, False, {}


gymnasium.register("Nan-v0", Nan, max_episode_steps=5)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """The only tracker of every training."""
    made = Recording()
    monkeypatch.setattr("vaerl.runs.train.make_trackers", lambda config, run: [made])
    return made


def config(out: Path, env: str) -> TrainConfig:
    made = TrainConfig(env, density="gaussian", out=str(out), video=False, picture_every=0)
    return made.debug()


def test_checkpoint_and_evaluation_are_kept(tmp_path: Path, tracker: Recording) -> None:
    """The last checkpoint with the configuration, without the replay buffer, and the scores."""
    train(config(tmp_path / "run", "vaerl/PointMass-v0"))
    assert set(tracker.kept) == {"checkpoint", "evaluation"} and not tracker.alerts
    names = {Path(name).name for name in tracker.kept["checkpoint"]}
    assert names == {"config.json", "manifest.json", "agent.safetensors"}
    assert set(tracker.kept["evaluation"]) == {"evaluation.json"}


def test_nan_gives_an_alert(tmp_path: Path, tracker: Recording) -> None:
    with pytest.raises(RunFailed):
        train(config(tmp_path / "run", "Nan-v0"))
    ((title, text),) = tracker.alerts
    assert title == "run failed" and "reward is NaN" in text
