"""Demonstrations out of runs: the stored replay buffer, or recorded episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_data import same
from tests.runs.test_train import small
from vaerl.checkpoint import load_checkpoint
from vaerl.data import collect, from_replay_buffer, load_demonstrations
from vaerl.runs.train import train


def test_a_run_gives_its_replay_buffer_until_it_has_episodes(tmp_path: Path) -> None:
    """The stored buffer equals that of the agent loaded from the checkpoint."""
    options = {"env_options": {"max_episode_steps": 15}, "n_envs": 2}
    run = train(small(tmp_path / "run", **options))
    found = load_demonstrations(run.path)
    agent = load_checkpoint(run.path, include_replay=True)
    same(found, from_replay_buffer(agent.replay_buffer))  # type: ignore[attr-defined]
    assert found.env == "vaerl/PointMass-v0" and found.steps == 80
    assert found.provenance["step"] == 80
    collect(found.env, "random", 2, out=run.path / "episodes")
    assert len(load_demonstrations(run.path)) == 2


def test_a_ring_that_is_full_gives_its_newest_steps(tmp_path: Path) -> None:
    options = {"learning_starts": 20, "batch_size": 8, "buffer_size": 50}
    run = train(small(tmp_path / "run", agent_options=options))
    found = load_demonstrations(run.path)
    agent = load_checkpoint(run.path, include_replay=True)
    assert found.steps == 50
    same(found, from_replay_buffer(agent.replay_buffer))  # type: ignore[attr-defined]
    assert np.abs(np.concatenate([e.actions for e in found])).max() > 0.0


def test_a_run_without_buffer_names_the_way(tmp_path: Path) -> None:
    run = train(small(tmp_path / "run", keep_replay=False))
    with pytest.raises(ValueError, match=r"holds no replay buffer, .* vaerl collect --run"):
        load_demonstrations(run.path)
