"""MBPO beside SAC: what is the same for all learners, and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaerl.agents import MBPO, SAC
from vaerl.dynamics.fitting import fit
from vaerl.experiments.mbpo import diagnosis
from vaerl.experiments.mbpo.experiment import MBPOS, MODEL_BASED, UPDATES, run
from vaerl.lab.comparison import DEBUG_STEPS


def test_learners_differ_in_what_their_names_say() -> None:
    """One network, one batch, one rate for all; the model, and the updates a step, by name."""
    made = {
        name: make(env="Hopper-v5", buffer_size=10) for name, make in MODEL_BASED.learners.items()
    }
    for option in ("learning_rate", "batch_size", "gamma", "tau"):
        assert len({getattr(agent, option) for agent in made.values()}) == 1, option
    assert {agent.policy.actor.density_name for agent in made.values()} == {"gaussian"}
    assert {agent.policy.net_arch[0] for agent in made.values()} == {128}
    updates = {name: agent.gradient_steps for name, agent in made.items()}
    assert updates.pop("SAC") == 1 and set(updates.values()) == {UPDATES}
    assert {name: agent.learning_starts for name, agent in made.items()} == {
        "SAC": 400, "SAC 4 updates": 400, "SAC 4 updates with switches": 400,
        **dict.fromkeys(MBPOS, 1000),
    }  # fmt: skip
    switched = {name for name, agent in made.items() if agent.scale_rewards}
    assert switched == {name for name in made if "with switches" in name}
    assert {a.termination for a in made.values() if isinstance(a, MBPO)} == {"known"}
    models = {name: a.world.density_name for name, a in made.items() if isinstance(a, MBPO)}
    assert models == {name: "cvae" if "cvae" in name else "gaussian" for name in MBPOS}
    bonus = {name for name in MBPOS if made[name].exploration_bonus}
    assert bonus == {name for name in MBPOS if name.endswith("bonus")}
    assert sum(type(agent) is SAC for agent in made.values()) == 3


def test_a_short_run_trains_in_the_model_and_makes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def counted(model: Any, data: Any, *rest: Any) -> Any:
        fitted.append(len(data))
        return fit(model, data, *rest)

    monkeypatch.setattr("vaerl.agents.model_based.fit", counted)
    path = run(tmp_path, "debug", learners=["MBPO gaussian"], jobs=1)
    record = json.loads(path.read_text())
    assert record["command"] == "vaerl experiment mbpo --preset debug --learners 'MBPO gaussian'"
    (row,) = record["rows"]
    assert row[:4] == ["Hopper-v5", "MBPO gaussian", str(DEBUG_STEPS), "1"]
    points = np.array(record["data"]["Hopper-v5 MBPO gaussian seed 0"])
    assert np.isfinite(points).all() and (points[:, 1] > 0.0).all()
    assert fitted and min(fitted) >= 400, "a model was fitted to the steps so far"


def test_a_short_diagnosis_makes_its_table(tmp_path: Path) -> None:
    """A row for SAC's critics, and one for each of MBPO's models; a second call trains nothing."""
    path = diagnosis.run(tmp_path, "debug")
    record = json.loads(path.read_text())
    assert record["command"] == "vaerl experiment mbpo-diagnosis --preset debug"
    assert [row[1:3] for row in record["rows"]] == [
        ["SAC 4 updates", "–"], ["MBPO gaussian", "gaussian"], ["MBPO gaussian", "cvae"]
    ]  # fmt: skip
    sac, own, _ = record["rows"]
    assert sac[4] == "–" and float(own[4]) > 0.0 and np.isfinite(float(sac[-1]))
    before = [p.stat().st_mtime_ns for p in sorted((tmp_path / "cells").iterdir())]
    diagnosis.run(tmp_path, "debug")
    assert before == [p.stat().st_mtime_ns for p in sorted((tmp_path / "cells").iterdir())]


def test_a_critic_that_knows_the_return_has_no_bias() -> None:
    """Where the reward is 1 a step, one that says 1 / (1 − γ) is off by what is cut off, less the
    entropy of all actions to come."""
    options = {"buffer_size": 10, "seed": 0, "gamma": 0.9, "ent_coef": 0.5}
    agent = SAC("gaussian", "InvertedPendulum-v5", **options)
    agent.actor.action_log_prob = lambda obs: (None, -2.0 * torch.ones(len(obs)))  # type: ignore[assignment,method-assign]
    agent._critics.lowest = lambda obs, actions: (10.0, None)  # type: ignore[method-assign,assignment]
    held, bias = diagnosis.act(agent, "InvertedPendulum-v5", 0)
    assert held.terminations.sum() == 2 and held.rewards.sum() == len(held) - 2
    lengths = [int((held.episodes == i).sum()) for i in (0, 1)]
    # the end gives no reward; each of the steps before it 1, and α · 2 nats of the next action
    worth = [10.0 * (1.0 - 0.9**k) * (1.0 + 0.9 * 1.0) for n in lengths for k in range(n)]
    assert bias["bias"] == pytest.approx(10.0 - np.mean(worth), abs=1e-6)
    agent.return_scale = lambda rewards: 0.5 * rewards
    _, halved = diagnosis.act(agent, "InvertedPendulum-v5", 0)
    worth = [10.0 * (1.0 - 0.9**k) * (0.5 + 0.9 * 1.0) for n in lengths for k in range(n)]
    assert halved["bias"] == pytest.approx(10.0 - np.mean(worth), abs=1e-6)
