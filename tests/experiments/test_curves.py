"""Learning curves beside stable-baselines3: what is trained, kept and put into the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stable_baselines3 import SAC as SB3SAC

from vaerl.agents import SAC
from vaerl.experiments.curves import LEARNERS, Cell, assemble, run


def test_learners_differ_in_what_their_names_say() -> None:
    """SB3's own agent, ours, and ours in bfloat16: the same defaults but for the precision."""
    made = {name: make(env="Pendulum-v1", buffer_size=10) for name, make in LEARNERS.items()}
    assert type(made["SB3"]) is SB3SAC
    assert [a.matmul_precision for a in made.values() if isinstance(a, SAC)] == ["float32", "bf16"]
    for option in ("learning_rate", "batch_size", "gamma", "tau", "learning_starts"):
        assert len({getattr(agent, option) for agent in made.values()}) == 1, option


def test_a_finished_training_is_kept(tmp_path: Path) -> None:
    """Two episodes of Pendulum are two points; the second call trains nothing."""
    record = json.loads(run(tmp_path, "debug", learners=["vaerl"], jobs=1).read_text())
    points = record["data"]["Pendulum-v1 vaerl seed 0"]
    assert len(points) == 2 and all(-2000.0 < value < 0.0 for _, value in points)
    assert record["command"] == "vaerl experiment curves --preset debug --learners vaerl"
    path = Cell("Pendulum-v1", "vaerl", 0, 450).path(tmp_path)
    before = path.stat().st_mtime_ns
    run(tmp_path, "debug", learners=["vaerl"], jobs=1)
    assert path.stat().st_mtime_ns == before
    assert (tmp_path / "figures" / "curves.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="did you mean 'vaerl'"):
        run(tmp_path, "debug", learners=["vaer"])


def test_the_table_averages_over_seeds() -> None:
    """Whole run, last fifth and evaluation, each with Student's interval."""
    results = {
        Cell("Pendulum-v1", "SB3", seed, 1000): {
            "curve": [[500.0, 0.0], [900.0, 10.0 + seed], [1000.0, 20.0 + seed]],
            "evaluation": 30.0,
            "cpu_seconds": 5.0,
        }
        for seed in (0, 2)
    }
    row = assemble(results, "command")["rows"][0]
    assert row == ["Pendulum-v1", "SB3", "1,000", "2", "11 ± 8", "16 ± 13", "30 ± 0", "5.0"]
