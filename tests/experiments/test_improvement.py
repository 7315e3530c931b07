"""The improvement steps beside each other: what is the same for all, and what differs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vaerl.experiments.improvement.experiment import STEPS, run


def test_learners_differ_in_density_and_step_alone() -> None:
    made = {name: make(env="Hopper-v5", buffer_size=10) for name, make in STEPS.learners.items()}
    for option in ("learning_rate", "batch_size", "gradient_steps", "learning_starts", "gamma"):
        assert len({getattr(agent, option) for agent in made.values()}) == 1, option
    found = {name: (a.policy.actor.density_name, a.improvement) for name, a in made.items()}
    assert found == {
        "gaussian": ("gaussian", "reverse"),
        "cvae": ("cvae", "reverse"),
        "cvae both": ("cvae", "both"),
    }


def test_a_short_run_makes_the_table(tmp_path: Path) -> None:
    path = run(tmp_path, "debug", learners=["cvae both"], jobs=1)
    record = json.loads(path.read_text())
    assert record["command"] == (
        "vaerl experiment improvement --preset debug --learners 'cvae both'"
    )
    points = np.array(record["data"]["Hopper-v5 cvae both seed 0"])
    assert np.isfinite(points).all() and (points[:, 1] > 0.0).all()
