"""From cloned to better: the rows of a seed share a clone, and finished ones are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vaerl.experiments.finetuning.experiment import assemble, make_rows, run
from vaerl.lab.cells import Result


def test_debug_runs_whole_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Clone and PPO of one seed; the second call works nothing out; SAC has a start of its own."""
    agents = ["clone", "ppo+clone"]
    record = json.loads(run(tmp_path, "debug", agents=agents).read_text())
    assert [row[:4] for row in record["rows"]] == [["late", "cvae", name, "1"] for name in agents]
    assert [path.name for path in (tmp_path / "clones").iterdir()] == ["late-cvae-s0"]
    files = sorted((tmp_path / "cells").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in files]
    run(tmp_path, "debug", agents=agents)
    assert [path.stat().st_mtime_ns for path in files] == before
    record = json.loads(run(tmp_path, "debug", starts=["single"]).read_text())
    assert [row[2] for row in record["rows"]] == [*agents, "clone", "sac"]
    assert (tmp_path / "figures" / "finetuning.png").stat().st_size > 1000


def test_entropy_is_compared_with_the_clone_of_the_same_seed() -> None:
    """Half and all of it kept is three quarters on average."""
    rows = make_rows(starts=["early"], agents=["clone", "ppo"], seeds=[0, 1])
    entropy = {("clone", 0): 0.8, ("clone", 1): 0.4, ("ppo", 0): 0.4, ("ppo", 1): 0.4}
    results = [
        Result(
            Path(),
            row.as_data(),
            {
                "success": 0.9,
                "entropy": entropy[row.agent, row.seed],
                "ways": 20.0,
                "training_seconds": 3.0,
            },
        )
        for row in rows
    ]
    clone, ppo = assemble(results)["rows"]
    assert clone[6] == "1.000 ± 0.000" and ppo[6].startswith("0.750 ± ")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="start: got 'lat', did you mean 'late'"):
        make_rows(starts=["lat"])
