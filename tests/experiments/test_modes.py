"""The table of the modes experiment says what the runs found, with intervals over seeds."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import stats

from vaerl.cli.errors import print_error
from vaerl.disk import jsonio
from vaerl.disk.errors import RunsFailed
from vaerl.envs.bandit import LOG_THRESHOLD_99, SCALE, log_prob
from vaerl.experiments.modes.experiment import Cell, command_lines, make_cells, read_cells, run
from vaerl.experiments.modes.record import read_earlier
from vaerl.experiments.modes.table import assemble
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.stats import interval


def cell(score: float, minutes: float = 1.0, **more: float) -> dict[str, float]:
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


def rows(cells: dict[tuple[str, str, int], Any]) -> list[dict[str, str]]:
    """The table's rows by the names of its columns."""
    table = assemble(cells, "")
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def test_interval_is_students() -> None:
    """The half width is that of scipy's own interval of the mean."""
    values = [0.7, 0.9, 0.8, 1.0, 0.6]
    low, high = stats.t.interval(0.95, len(values) - 1, 0.8, stats.sem(values))
    assert interval(values, 4) == f"0.8000 ± {(high - low) / 2:.4f}"


def test_rows_are_grouped_by_task_and_policy() -> None:
    found = rows(
        {
            ("multigoal", "cvae", 1): cell(0.5),
            ("multigoal", "cvae", 0): cell(1.0, minutes=3.0),
            ("maze-hard", "gaussian", 0): cell(0.25, removal=0.5, obstacles=0.75),
        }
    )
    first, second = found
    assert (first["task"], first["policy"], first["seeds"]) == ("multigoal", "cvae", "2")
    assert first["goals reached"].startswith("3.0 ± ") and first["goals reached"].endswith(" of 4")
    assert (first["fewest"], first["minutes"], first["obstacles"]) == ("2", "2.0", "")
    assert (second["score"], second["in no goal"], second["return"]) == ("0.250", "0.750", "2.5")
    assert (second["goals removed"], second["obstacles"]) == ("0.500", "0.750")
    assert "entropy ≥" not in first, "a column that no row fills is left out"


def test_the_bandit_counts_the_modes_of_its_target() -> None:
    numbers = cell(0.5, modes=39.0, outside_99=0.02, entropy_lower=-0.5)
    (row,) = rows({("bandit", "cvae", 0): numbers | {"num_modes": 40.0}})
    assert (row["goals reached"], row["entropy ≥"]) == ("39.0 of 40", "-0.500")


def test_commands_make_the_cells_that_are_there() -> None:
    """Together the lines name every finished run once and no other."""
    wanted = {Cell("bandit", "gaussian", s) for s in range(3)}
    wanted |= {Cell(t, p, s) for t in ("bandit", "multigoal") for p in ("flow",) for s in (0, 1)}
    found: list[Cell] = []
    for line in command_lines(wanted):
        words = line.split()
        assert words[:3] == ["vaerl", "experiment", "modes"]
        given = dict(zip(words[3::2], words[4::2], strict=True))
        tasks, policies = given["--tasks"].split(","), given["--policies"].split(",")
        found += make_cells("full", tasks, policies, [int(s) for s in given["--seeds"].split(",")])
    assert len(found) == len(wanted) and set(found) == wanted


def recorded(path: Path, cells: dict[tuple[str, str, int], Any], **changed: Any) -> Path:
    """A record of these runs as a file."""
    path.write_text(jsonio.dumps(assemble(cells, "", "debug") | changed))
    return path


def test_a_row_without_its_runs_stays_until_there_are_as_many(tmp_path: Path) -> None:
    before = {("bandit", "gaussian", seed): cell(0.1) for seed in (0, 1)}
    path = recorded(tmp_path / "before.json", before, runs=[])
    row = jsonio.loads(path.read_bytes(), "")["rows"][0]
    earlier = read_earlier(path, "debug")
    places = [("bandit", "gaussian", seed) for seed in (0, 1, 2)]
    other = ("bandit", "flow", 0)
    fewer = earlier.with_runs({places[2]: cell(0.4), other: cell(0.2)})
    assert fewer.places() == [places[0], places[1], other] and set(fewer.runs) == {other}
    table = assemble(fewer.runs, "", "debug", fewer.rows)
    assert [r[:3] for r in table["rows"]] == [
        ["bandit", p, n] for p, n in (("gaussian", "2"), ("flow", "1"))
    ]
    assert table["rows"][0] == row
    as_many = earlier.with_runs({places[0]: cell(0.4), places[2]: cell(0.2)})
    assert not as_many.rows and as_many.places() == [places[0], places[2]]


def _made(**changed: Any) -> dict[str, Any]:
    """What a record says of its making, changed."""
    return {"made": assemble({}, "", "debug")["made"] | changed}


def test_runs_of_an_earlier_table_count_beside_the_own(tmp_path: Path) -> None:
    """Its other runs fill the rows; the same run is the folder's own."""
    own = tmp_path / "own"
    run(own, preset="debug", tasks=["bandit"], policies=["gaussian"], jobs=1)
    alone = rows({c: found.numbers for c, found in read_cells(own, "debug").items()})
    before = {
        ("bandit", "gaussian", 0): cell(0.1),
        ("bandit", "flow", 3): cell(0.2),
        ("bandit", "flow", 1): cell(0.4),
        ("multigoal", "cvae", 0): cell(0.5),
    }
    path = run(own, "debug", table=True, onto=recorded(tmp_path / "before.json", before))
    table = json.loads(path.read_text())
    first, *others = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    assert first == first | alone[0]
    assert [(o["task"], o["policy"], o["score"][:5]) for o in others] == [
        ("bandit", "flow", "0.300"),
        ("multigoal", "cvae", "0.500"),
    ]
    assert "--tasks bandit --policies flow --seeds 1,3" in table["command"]
    assert len(table["runs"]) == 4
    again = run(tmp_path / "empty", "debug", table=True, onto=path)
    assert json.loads(again.read_text()) == table, "a record alone gives the same table"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"runs": [{"task": "bandit", "policy": "cave", "seed": 0} | cell(0.1)]}, "'cave'"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": 0, "score": 0.1}]}, "no run of"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": -1} | cell(0.1)]}, "no run of"),
        ({"runs": [{"task": "multigoal", "policy": "cvae", "seed": 0} | cell(0.1)]}, "no run of"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": True} | cell(0.1)]}, "no run of"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": 0} | cell(True)]}, "no run of"),
        ({"runs": [{"task": "bandit", "policy": "cvae", "seed": 0} | cell(0.1)] * 2}, "twice"),
        ({"runs": 3}, "holds 3, no run"),
        ({"rows": [["bandit", "cvae", "many"]]}, "'many'.*, no row of"),
        ({"rows": None}, "holds None, no row"),
        ({"made": 3}, "does not say with which settings"),
        (_made(settings={"bandit": "10 steps"}), "other settings of 'bandit' than"),
        (_made(settings={"bandid": "10 steps"}), "other settings of 'bandid' than"),
        (_made(policies={"flow": "flow, both, {}"}), "other settings of 'flow' than"),
        (_made(settings={}), "no run of"),
        (_made(preset="full"), "preset 'full', not 'debug'"),
        (_made(versions={"torch": "1"}), "torch '1', not '2"),
    ],
)
def test_a_record_of_something_else_is_not_added_to(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = recorded(tmp_path / "before.json", {("bandit", "flow", 0): cell(0.1)}, **changed)
    with pytest.raises(ValueError, match=words) as caught:
        run(tmp_path / "out", "debug", table=True, onto=path)
    assert "\n" not in str(caught.value) and "before.json" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is no file, expected a results.json"),
        ("{", "cannot be read"),
        ('{"score": NaN}', "cannot be read"),
        ('{"rows": []}', "has no 'made', expected a results.json"),
    ],
)
def test_what_is_no_record_is_not_added_to(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"^onto: .*{words}"):
        run(tmp_path / "out", "debug", table=True, onto=path)
    assert not (tmp_path / "out").exists()


def test_runs_that_have_no_folder_are_not_lost(tmp_path: Path) -> None:
    """A table that holds them is not replaced by one without; --onto keeps them."""
    out = tmp_path / "out"
    out.mkdir()
    path = recorded(out / "results.json", {("bandit", "flow", 3): cell(0.1)})
    before = path.read_text()
    with pytest.raises(ValueError, match=r"runs that have no folder there, bandit-flow-s3 the"):
        run(out, "debug", tasks=["bandit"], policies=["gaussian"], jobs=1)
    assert path.read_text() == before and list(out.iterdir()) == [path]
    run(out, "debug", tasks=["bandit"], policies=["gaussian"], jobs=1, onto=path)
    assert [r["policy"] for r in json.loads(path.read_text())["runs"]] == ["gaussian", "flow"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"tasks": ["bandid"]}, "did you mean 'bandit'"),
        ({"policies": ["cave"]}, "'cvae'"),
        ({"jobs": 0}, "jobs: got 0"),
        ({"table": True}, "holds no finished run; run without --table first"),
        ({"policies": []}, "policies: got none, expected at least one"),
        ({"tasks": ["maze-hard"], "policies": ["flow"]}, "flow get no seeds on maze-hard"),
    ],
)
def test_wrong_wishes_get_one_line(names: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        run(tmp_path, **names)
    assert not list(tmp_path.iterdir())


def test_every_policy_meets_every_density_fairly() -> None:
    """Each density is there with both steps; what a task gives is the same for all policies."""
    for step in ("reverse", "both"):
        found = {policy.density for policy in POLICIES.values() if policy.improvement == step}
        assert found == {"gaussian", "mixture", "flow", "cvae"}
    for task in TASKS.values():
        assert set(task.recipes) == {"reverse", "both"} and "improvement" not in task.agent
        assert set(task.seeds) <= set(POLICIES) and set(task.heads) <= {
            "mixture",
            "mixture-both",
            "cvae",
            "cvae-both",
        }


def test_seeds_are_the_tasks_own_and_outermost() -> None:
    cells = make_cells("full", ["bandit"], ["gaussian", "flow"])
    assert [c.seed for c in cells if c.policy == "gaussian"] == list(range(10))
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    assert not any(c.task.startswith("maze") for c in make_cells())


def test_the_bandit_is_scored_by_its_target(tmp_path: Path) -> None:
    """A policy of some steps is near uniform, whose share outside the 99 % region is known."""
    path = run(tmp_path, preset="debug", tasks=["bandit"], policies=["gaussian"], jobs=1)
    table = json.loads(path.read_text())
    (row,) = table["rows"]
    found = dict(zip(table["columns"], row, strict=True))
    line = np.linspace(-SCALE, SCALE, 401)
    uniform = (log_prob(np.stack(np.meshgrid(line, line), -1)) < LOG_THRESHOLD_99).mean()
    assert abs(float(found["outside 99 %"]) - uniform) < 0.15
    assert 0.8 < float(found["entropy ≥"]) <= 2.0 * math.log(2.0)
    assert table["command"].endswith("--tasks bandit --policies gaussian --seeds 0")
    (measured,) = read_cells(tmp_path, "debug").values()
    saved = load_file(measured.traces)
    assert saved["places"].shape[1:] == (1, 2) and np.abs(saved["places"]).max() <= SCALE
    assert (tmp_path / "figures" / "bandit.png").stat().st_size > 1000


def test_a_run_that_fails_does_not_stop_other_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the checkpoints belong fails seed 0; seed 1 is trained and in the table."""
    broken = tmp_path / "bandit-gaussian-s0"
    broken.mkdir()
    (broken / "checkpoints").write_text("")
    with pytest.raises(
        RunsFailed, match=r"^seed 0: 1 of 1 runs failed: bandit-gaussian-s0: "
    ) as caught:
        run(tmp_path, "debug", tasks=["bandit"], policies=["gaussian"], seeds=[0, 1], jobs=1)
    assert capsys.readouterr().out.startswith("Which policies keep every mode: bandit")
    assert print_error(caught.value, debug=False) == 1
    assert capsys.readouterr().err == f"vaerl: {caught.value}\n"
    table = json.loads((tmp_path / "results.json").read_text())
    assert [(r["policy"], r["seed"]) for r in table["runs"]] == [("gaussian", 1)]


def test_a_maze_is_also_run_with_obstacles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All numbers come from files: the table is made again without training."""
    path = run(tmp_path, preset="debug", tasks=["maze-simple"], policies=["gaussian"], jobs=1)
    before = path.read_text()
    record = jsonio.loads((tmp_path / "maze-simple-gaussian-s0" / "modes.json").read_bytes(), "")
    assert {"removal", "obstacles"} <= set(record["numbers"])
    path.unlink()
    (tmp_path / "maze-simple-gaussian-s0x").mkdir()
    shutil.copytree(tmp_path / "maze-simple-gaussian-s0", tmp_path / "bandit-gaussian-s0")
    assert run(tmp_path, preset="debug", table=True).read_text() == before
    assert "left out of the table: run" in capsys.readouterr().err
    (tmp_path / "maze-simple-gaussian-s0" / "modes.json").write_text('{"numbers": {}}')
    with pytest.raises(ValueError, match=r"modes\.json: got no numbers .* delete it"):
        run(tmp_path, preset="debug", table=True)
