"""Offline learning from play: the task, its data, and what the rows have in common."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vaerl.data import collect
from vaerl.experiments.offline.experiment import run
from vaerl.experiments.offline.rows import ROWS


def test_rows_differ_in_agent_and_density_alone() -> None:
    for row in ROWS.values():
        widths = row.settings["policy_kwargs"]
        assert (row.settings["batch_size"], row.settings["learning_rate"]) == (256, 1e-3)
        assert widths["net_arch"] == [256, 256] and widths["wavelengths"] == []


def test_play_reaches_the_goal_now_and_then_and_repeats() -> None:
    """An episode ends where the cube is at the goal, with reward 0 there and −1 before."""
    pytest.importorskip("ogbench")
    from vaerl.experiments.offline.task import TIME_LIMIT, CubeToGoal, noisy_oracle

    env = CubeToGoal(play=True)
    first = collect(env, noisy_oracle, 4, seed=0)
    again = collect(CubeToGoal(play=True), noisy_oracle, 1, seed=0)
    np.testing.assert_allclose(
        np.asarray(again[0].observations), np.asarray(first[0].observations), atol=1e-5
    )
    assert {episode.terminated for episode in first} == {True, False}
    for episode in first:
        assert episode.rewards is not None
        assert (episode.rewards[:-1] == -1.0).all()
        assert episode.rewards[-1] == (0.0 if episode.terminated else -1.0)
        assert episode.truncated != episode.terminated
        assert episode.terminated or len(episode) == TIME_LIMIT
        cube = np.asarray(episode.observations)[-1, 19:22] / 10.0 + (0.425, 0.0, 0.0)
        at_goal = np.linalg.norm(cube - (0.5, 0.0, 0.02)) <= 0.04
        assert at_goal == episode.terminated


def test_a_short_run_makes_the_table_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ogbench")
    path = run(tmp_path, "debug", policies=["iql-cvae"])
    again = run(tmp_path, "debug", policies=["iql-cvae", "bc-gaussian"])
    assert path == again
    record = json.loads(path.read_text())
    assert [row[:3] for row in record["rows"]] == [["iql", "cvae", "1"], ["bc", "gaussian", "1"]]
    assert record["command"] == (
        "vaerl experiment offline --preset debug --policies iql-cvae,bc-gaussian"
    )
    assert record["data"]["iql-cvae-s0"]["transitions"] >= 200
