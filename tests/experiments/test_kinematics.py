"""Kinematics: the disc blocks what the policy prefers, and the debug preset runs whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.envs.inverse_kinematics import Arm, Posterior
from vaerl.experiments.kinematics.experiment import SIGMA, make_cells, run
from vaerl.experiments.kinematics.scores import (
    CLEAR,
    RADIUS,
    TARGET,
    free_share,
    hits,
    preferred_place,
    reaches,
)

TASK = Posterior(Arm(4), TARGET, SIGMA)


def test_the_disc_blocks_a_narrow_policy_whole_and_the_posterior_in_part() -> None:
    """One posture is blocked wherever it goes; the posterior keeps most of its postures."""
    x = TASK.sample(1000, np.random.default_rng(0))
    one = x[reaches(TASK, x)][:1].repeat(100, axis=0)
    assert free_share(TASK, one, preferred_place(TASK, one)) == 0.0
    before = reaches(TASK, x).mean()
    assert 0.6 < free_share(TASK, x, preferred_place(TASK, x)) / before < 0.95


def test_the_disc_leaves_target_and_rail_free() -> None:
    """No disc makes the task impossible by covering the target or the slide."""
    x = TASK.sample(300, np.random.default_rng(1))
    disc = preferred_place(TASK, x)
    assert disc[0] > RADIUS + CLEAR and disc[2] == RADIUS
    assert np.hypot(disc[0] - TARGET[0], disc[1] - TARGET[1]) > RADIUS + CLEAR
    assert hits(TASK, x, disc).any() and not hits(TASK, x, (9.0, 9.0, RADIUS)).any()


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """Training, scores, knock-out and adaptation of one density; the table has the ceiling."""
    record = json.loads(run(tmp_path, "debug", densities=["gaussian"], jobs=1).read_text())
    assert "after 60 steps" in record["columns"]
    assert [row[0] for row in record["rows"]] == ["gaussian", "posterior"]
    (numbers,) = record["runs"]
    assert numbers["nats"] > 0.0 and 0.0 <= numbers["at_once"] <= numbers["before"] <= 1.0
    assert record["command"] == "vaerl experiment kinematics --preset debug --densities gaussian"


def test_names_are_checked() -> None:
    """An unknown density is refused in one line; all densities share all settings but the head,
    and the improvement, where a Gaussian takes SAC's own."""
    with pytest.raises(ValueError, match="density: got 'cave', did you mean 'cvae'"):
        make_cells(densities=["cave"])

    def others(settings: dict[str, Any]) -> dict[str, Any]:
        options = settings["agent_options"]
        kept = {k: v for k, v in options.items() if not k.startswith("improvement")}
        own = {"density_options": None, "agent_options": kept}
        return {**settings, **own}

    cells = make_cells(seeds=[0])
    assert all(others(c.settings) == others(cells[0].settings) for c in cells)
    steps = {c.density: c.settings["agent_options"].get("improvement") for c in cells}
    assert steps == {"gaussian": None, "mixture": "both", "cvae": "both"}
