"""Temperature: equal settings for all densities, and the debug preset runs whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vaerl.experiments.temperature.experiment import TASKS, assemble, make_run, run
from vaerl.lab.cells import Result


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """One density on both tasks; the table has a row for each kind of action."""
    record = json.loads(run(tmp_path, "debug", densities=["mixture"]).read_text())
    assert [row[:3] for row in record["rows"]] == [
        [task, "mixture", way] for task in TASKS for way in ("drawn", "best")
    ]
    assert record["columns"][3:] == ["α = 1.5"]
    assert record["command"] == "vaerl experiment temperature --preset debug --densities mixture"
    assert record["caption"].startswith("Mean return of 2 episodes")
    assert (tmp_path / "figures" / "temperature.png").stat().st_size > 1000


def test_densities_differ_in_nothing_else() -> None:
    """Temperatures differ in α alone, and α is what was asked for."""
    settings = {(d, a): dict(make_run("car", d, a, 0).settings) for d in ("cvae", "gaussian")
                for a in (0.5, 1.5)}  # fmt: skip
    for (density, alpha), own in settings.items():
        assert own.pop("density") == density
        assert own["agent_options"].pop("ent_coef") == alpha
    first, *others = settings.values()
    assert all(own == first for own in others)


def test_columns_are_temperatures_and_gaps_are_dashes() -> None:
    """In rising order, whatever the order of the runs."""
    places = [("gaussian", 1.5, 0), ("gaussian", 0.5, 0), ("cvae", 0.5, 0)]
    results = [
        Result(Path(cell.name), cell.as_data(), {"drawn": -a, "best": -2 * a, "cpu_seconds": 60.0})
        for cell, a in ((make_run("car", d, a, s), 100 * a) for d, a, s in places)
    ]
    record = assemble(results)
    assert record["columns"][3:] == ["α = 0.5", "α = 1.5"]
    assert [row[1:] for row in record["rows"]] == [
        ["gaussian", "drawn", "-50", "-150"],
        ["gaussian", "best", "-100", "-300"],
        ["cvae", "drawn", "-50", "–"],
        ["cvae", "best", "-100", "–"],
    ]
    assert "3 CPU minutes" in record["caption"]
    assert record["caption"].startswith("Mean return of 50 episodes")


def test_illegal_options_are_refused() -> None:
    """In one line each."""
    with pytest.raises(ValueError, match="density: got 'cave', did you mean 'cvae'"):
        make_run("car", "cave", 1.0, 0)
    with pytest.raises(ValueError, match="task: got 'cart', did you mean 'car'"):
        make_run("cart", "cvae", 1.0, 0)
    with pytest.raises(
        ValueError, match=r"temperatures: got 0\.0, expected a positive finite number"
    ):
        make_run("car", "cvae", 0.0, 0)
