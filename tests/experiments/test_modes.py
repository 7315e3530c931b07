"""The table of the modes experiment: rows over seeds, earlier runs, failures, pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from vaerl.disk import jsonio
from vaerl.disk.errors import RunsFailed
from vaerl.envs.bandit import LOG_THRESHOLD_99, SCALE, log_prob
from vaerl.experiments.modes.earlier import read_earlier
from vaerl.experiments.modes.experiment import make_cells, make_run, run, table_of
from vaerl.experiments.modes.table import assemble
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.cells import Measured, Result, read_cell, write_cell

Cells = dict[tuple[str, str, int], Any]


def numbers(score: float, minutes: float = 1.0, **more: float) -> dict[str, float]:
    """What one run contributes."""
    return {
        "num_modes": 4.0,
        "goals": 4.0 * score,
        "score": score,
        "ceiling": 0.978,
        "lost": 1.0 - score,
        "return": 10.0 * score,
        "best_return": 20.0 * score,
        "minutes": minutes,
        **more,
    }


def named_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """The table's rows by the names of its columns."""
    return [dict(zip(record["columns"], row, strict=True)) for row in record["rows"]]


def test_rows_are_grouped_by_task_and_policy() -> None:
    cells: Cells = {
        ("multigoal", "cvae", 0): numbers(1.0, minutes=3.0),
        ("multigoal", "cvae", 1): numbers(0.5),
        ("maze-hard", "gaussian", 0): numbers(0.25, removal=0.5, obstacles=0.75),
        ("bandit", "cvae", 0): numbers(0.5, modes=39.0) | {"num_modes": 40.0},
    }
    bandit, first, second = named_rows(assemble(cells, "full", {}))
    assert bandit["goals reached"] == "39.0 of 40", "the modes of the target"
    assert (first["task"], first["policy"], first["seeds"]) == ("multigoal", "cvae", "2")
    assert first["goals reached"].startswith("3.0 ± ") and first["goals reached"].endswith(" of 4")
    assert (first["fewest"], first["minutes"], first["obstacles"]) == ("2", "2.0", "")
    assert (second["score"], second["in no goal"], second["return"]) == ("0.250", "0.750", "2.5")
    assert (second["goals removed"], second["obstacles"]) == ("0.500", "0.750")
    assert "entropy ≥" not in first, "a column that no row fills is left out"


def test_five_seeds_on_two_tasks_give_an_interquartile_mean() -> None:
    cells: Cells = {
        (task, policy, seed): numbers(0.8)
        for task in ("multigoal", "point-mass")
        for policy in ("gaussian", "cvae-both")
        for seed in range(5)
    }
    del cells["point-mass", "gaussian", 4]
    notes = assemble(cells, "full", {})["notes"]
    assert notes[-1].endswith("cvae-both 0.800 [0.800, 0.800].")


def test_commands_make_the_cells_that_are_there() -> None:
    """Together the lines name every run once and no other; earlier rows count from seed 0."""
    wanted = {("bandit", "gaussian", s) for s in range(3)}
    wanted |= {(task, "flow", s) for task in ("bandit", "multigoal") for s in (1, 2)}
    row = ["point-mass", "cvae", "2", *[""] * 12]
    results = [
        Result(Path(), make_run(*place, "full").as_data(), {"numbers": numbers(0.5)})
        for place in sorted(wanted)
    ]
    record = table_of("full", {("point-mass", "cvae"): row}, results)
    found = []
    for line in record["command"].splitlines():
        words = line.split()
        given = dict(zip(words[3::2], words[4::2], strict=True))
        tasks, policies = given["--tasks"].split(","), given["--policies"].split(",")
        seeds = [int(seed) for seed in given["--seeds"].split(",")]
        found += [(c.task, c.policy, c.seed) for c in make_cells("full", tasks, policies, seeds)]
    wanted |= {("point-mass", "cvae", 0), ("point-mass", "cvae", 1)}
    assert len(found) == len(wanted) and set(found) == wanted


def recorded(path: Path, cells: Cells, **changed: Any) -> Path:
    """A record of these runs as a file."""
    path.write_text(jsonio.dumps(assemble(cells, "debug", {}) | changed))
    return path


def test_a_row_without_its_runs_stays_until_there_are_as_many(tmp_path: Path) -> None:
    before: Cells = {("bandit", "gaussian", seed): numbers(0.1) for seed in (0, 1)}
    path = recorded(tmp_path / "before.json", before, runs=[])
    runs, rows = read_earlier(path, "debug", strict=True)
    assert not runs
    one, two = ({("bandit", "gaussian", s): numbers(0.4) for s in range(n)} for n in (1, 2))
    old, new = (named_rows(assemble(cells, "debug", rows))[0] for cells in (one, two))
    assert old["score"].startswith("0.100") and new["score"].startswith("0.400")


def test_runs_of_an_earlier_table_count_beside_the_own(tmp_path: Path) -> None:
    """A run of the folder wins. Nothing is lost when the table is made again."""
    before: Cells = {
        ("bandit", "gaussian", 0): numbers(0.1),
        ("bandit", "flow", 3): numbers(0.2),
        ("bandit", "flow", 1): numbers(0.4),
        ("multigoal", "cvae", 0): numbers(0.5),
    }
    out = tmp_path / "out"
    cell = make_run("bandit", "gaussian", 0, "debug")
    write_cell(cell, out, Measured({"numbers": numbers(0.9)}))
    path = run(out, "debug", table=True, onto=recorded(tmp_path / "before.json", before))
    record = json.loads(path.read_text())
    found = [(row["task"], row["policy"], row["score"][:5]) for row in named_rows(record)]
    assert found == [
        ("bandit", "gaussian", "0.900"),
        ("bandit", "flow", "0.300"),
        ("multigoal", "cvae", "0.500"),
    ]
    assert len(record["runs"]) == 4
    assert json.loads(run(out, "debug", table=True).read_text())["rows"] == record["rows"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"runs": [{"task": "bandit", "policy": "cave", "seed": 0} | numbers(0.1)]}, "'cave'"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": 0, "score": 0.1}]}, "num_modes"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": "0"} | numbers(0.1)]}, "seed: not"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": 0} | numbers(True)]}, "score: not"),
        ({"rows": [["bandit", "cvae", "many"]]}, "of another form"),
        ({"made": 3}, "other settings"),
        ({"made": assemble({}, "full", {})["made"]}, "preset: got 'full', expected 'debug'"),
    ],
)
def test_another_record_is_not_added_to(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "before.json", {("bandit", "flow", 0): numbers(0.1)}, **changed)
    with pytest.raises(ValueError, match=words) as caught:
        run(tmp_path / "out", "debug", table=True, onto=path)
    assert "\n" not in str(caught.value) and "before.json" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"tasks": ["bandid"]}, "did you mean 'bandit'"),
        ({"policies": ["cave"]}, "'cvae'"),
        ({"jobs": 0}, "jobs: got 0"),
        ({"table": True}, "holds no finished cell; run without --table first"),
        ({"onto": Path("missing.json")}, "missing.json: got no file"),
        ({"tasks": ["maze-hard"], "policies": ["flow"]}, "none for flow on maze-hard"),
    ],
)
def test_wrong_options_get_one_line(names: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path, **names)
    assert not list(tmp_path.iterdir())


def test_every_density_has_both_steps_and_tasks_treat_policies_alike() -> None:
    for step in ("reverse", "both"):
        found = {policy.density for policy in POLICIES.values() if policy.improvement == step}
        assert found == {"gaussian", "mixture", "flow", "cvae"}
    for task in TASKS.values():
        assert set(task.recipes) == {"reverse", "both"} and "improvement" not in task.agent
        assert set(task.seeds) <= set(POLICIES)
        assert set(task.heads) <= {"mixture", "mixture-both", "cvae", "cvae-both"}


def test_seeds_are_the_tasks_own_and_outermost() -> None:
    cells = make_cells("full", ["bandit"], ["gaussian", "flow"])
    assert [c.seed for c in cells if c.policy == "gaussian"] == list(range(10))
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    assert not any(c.task.startswith("maze") for c in make_cells())


def test_the_bandit_is_scored_by_its_target(tmp_path: Path) -> None:
    """A policy of some steps is near uniform, whose share outside the 99 % region is known."""
    path = run(tmp_path, preset="debug", tasks=["bandit"], policies=["gaussian"], jobs=1)
    record = json.loads(path.read_text())
    (found,) = named_rows(record)
    line = np.linspace(-SCALE, SCALE, 401)
    uniform = (log_prob(np.stack(np.meshgrid(line, line), -1)) < LOG_THRESHOLD_99).mean()
    assert abs(float(found["outside 99 %"]) - uniform) < 0.15
    assert 0.8 < float(found["entropy ≥"]) <= 2.0 * math.log(2.0)
    assert record["command"].endswith("--tasks bandit --policies gaussian --seeds 0")
    saved = load_file(tmp_path / "cells" / "bandit-gaussian-s0.safetensors")
    assert saved["places"].shape[1:] == (1, 2) and np.abs(saved["places"]).max() <= SCALE
    assert (tmp_path / "figures" / "bandit.png").stat().st_size > 1000


def test_a_run_that_fails_does_not_stop_others(tmp_path: Path) -> None:
    """A file in place of the checkpoints fails seed 0; seed 1 is trained and in the table."""
    broken = tmp_path / "bandit-gaussian-s0"
    broken.mkdir()
    (broken / "checkpoints").write_text("")
    with pytest.raises(RunsFailed, match=r"^1 of 2 cells failed: bandit-gaussian-s0: "):
        run(tmp_path, "debug", tasks=["bandit"], policies=["gaussian"], seeds=[0, 1], jobs=1)
    record = json.loads((tmp_path / "results.json").read_text())
    assert [(r["policy"], r["seed"]) for r in record["runs"]] == [("gaussian", 1)]


def test_a_maze_is_also_run_with_obstacles(tmp_path: Path) -> None:
    """Runs with settings that the task no longer has are left out of the table."""
    path = run(tmp_path, preset="debug", tasks=["maze-simple"], policies=["gaussian"], jobs=1)
    cell = make_run("maze-simple", "gaussian", 0, "debug")
    found = read_cell(cell, tmp_path)
    assert found is not None and {"removal", "obstacles"} <= set(found.data["numbers"])
    before = path.read_text()
    found.path.with_name("old.json").write_text(found.path.read_text().replace("0.3", "0.7"))
    assert run(tmp_path, preset="debug", table=True).read_text() == before
