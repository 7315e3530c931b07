"""MBPO beside SAC: what is the same for all learners, and what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.agents import MBPO, SAC
from vaerl.dynamics.fitting import fit
from vaerl.experiments.mbpo.experiment import MODEL_BASED, UPDATES, run
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
        "SAC": 400, "SAC 4 updates": 400, "MBPO gaussian": 1000, "MBPO cvae": 1000
    }  # fmt: skip
    assert {a.termination for a in made.values() if isinstance(a, MBPO)} == {"known"}
    models = {name: a.world.density_name for name, a in made.items() if isinstance(a, MBPO)}
    assert models == {"MBPO gaussian": "gaussian", "MBPO cvae": "cvae"}
    assert sum(type(agent) is SAC for agent in made.values()) == 2


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
