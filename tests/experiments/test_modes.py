"""The table of the modes experiment says what the runs found, with intervals over seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vaerl.envs.bandit import LOG_THRESHOLD_99, SCALE, log_prob
from vaerl.experiments.intervals import interval
from vaerl.experiments.modes import POLICIES, TASKS, assemble, run


def cell(score: float, minutes: float = 1.0) -> dict[str, float]:
    """What one run contributes."""
    return {
        "num_modes": 4.0,
        "goals": 4.0 * score,
        "score": score,
        "ceiling": 0.978,
        "lost": 1.0 - score,
        "return": 10.0 * score,
        "minutes": minutes,
    }


def test_interval_is_students() -> None:
    """The half width is that of scipy's own interval of the mean."""
    values = [0.7, 0.9, 0.8, 1.0, 0.6]
    low, high = stats.t.interval(0.95, len(values) - 1, 0.8, stats.sem(values))
    assert interval(values, 4) == f"0.8000 ± {(high - low) / 2:.4f}"


def test_rows_are_grouped_by_task_and_policy() -> None:
    cells = {
        ("bandit", "cvae", 1): cell(0.5),
        ("bandit", "cvae", 0): cell(1.0, minutes=3.0),
        ("bandit", "gaussian", 0): cell(0.25),
    }
    table = assemble(cells)
    assert [row[:3] for row in table["rows"]] == [
        ["bandit", "cvae", "2"],
        ["bandit", "gaussian", "1"],
    ]
    assert table["rows"][1][3:] == ["1.0 of 4", "0.250", "0.978", "0.750", "2.5", "", "", "1.0"]
    assert table["rows"][0][-1] == "2.0"
    assert "20,000 steps" in table["caption"] and "point-mass" not in table["caption"]


@pytest.mark.parametrize(
    ("names", "words"),
    [({"tasks": ["bandid"]}, "did you mean 'bandit'"), ({"policies": ["cave"]}, "'cvae'")],
)
def test_unknown_names_get_the_nearest_match(names: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path, **names)
    assert not list(tmp_path.iterdir())


def test_every_policy_meets_every_density_fairly() -> None:
    """Each density is there with SAC's own step, and each task gives all policies one setting."""
    reverse = {policy.density for policy in POLICIES.values() if policy.improvement == "reverse"}
    assert reverse == {"gaussian", "mixture", "flow", "cvae"}
    assert all("improvement" not in task.agent_options for task in TASKS.values())


def test_the_bandit_is_scored_by_its_target(tmp_path: Path) -> None:
    """A policy of some steps is near uniform, whose share outside the 99 % region is known."""
    path = run(tmp_path, preset="debug", tasks=["bandit"], policies=["gaussian"], jobs=1)
    (row,) = json.loads(path.read_text())["rows"]
    outside, entropy = float(row[-3]), float(row[-2])
    line = np.linspace(-SCALE, SCALE, 401)
    uniform = (log_prob(np.stack(np.meshgrid(line, line), -1)) < LOG_THRESHOLD_99).mean()
    assert abs(outside - uniform) < 0.1 and 0.8 < entropy <= 2.0 * math.log(2.0)
