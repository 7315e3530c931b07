"""Returns: what is trained, judged, kept and put into the table."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from vaerl.agents.tuned import tuned
from vaerl.experiments.returns.experiment import make_cell, measure, run
from vaerl.experiments.returns.rows import ROWS
from vaerl.experiments.returns.table import assemble, panels_of
from vaerl.lab.cells import Desk, Result


def test_a_finished_run_is_kept(tmp_path: Path) -> None:
    """Two rows on Pendulum; the second call trains nothing, and the curves are files."""
    options: dict[str, Any] = {"rows": ["sb3-sac", "crossq-256"]}
    record = json.loads(run(tmp_path, "debug", **options).read_text())
    assert [row[1] for row in record["rows"]] == ["crossq-256", "sb3-sac"]
    for data in record["data"].values():
        assert [step for step, _ in data["judged"]] == [60, 120] and data["train_seconds"] > 0.0
    paths = sorted((tmp_path / "cells").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in paths]
    run(tmp_path, "debug", table=True)
    run(tmp_path, "debug", **options)
    assert [path.stat().st_mtime_ns for path in paths] == before and len(before) == 2
    with (tmp_path / "figures" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["60", "120"] * 2
    colours = imread(tmp_path / "figures" / "returns.png")[..., :3]
    assert (np.ptp(colours, axis=-1) > 0.3).sum() > 100, "coloured curves"


@pytest.mark.parametrize(
    ("row", "saved"), [("contrib-crossq-256", 60), ("flash-128", 60), ("tuned-ppo", 64)]
)
def test_a_run_that_was_cut_goes_on(tmp_path: Path, row: str, saved: int) -> None:
    """From its last save, before the first roll-out after so many steps, to the numbers of a run
    without a cut."""
    cell = make_cell("Pendulum-v1", row, "gaussian", 0, 120, debug=True)

    def cut(step: float) -> None:
        if step == 100:
            raise KeyboardInterrupt

    desks = {name: Desk(tmp_path / f"{name}.json", lambda step: None) for name in ("whole", "cut")}
    with pytest.raises(KeyboardInterrupt):
        measure(cell, desks["cut"]._replace(tick=cut))
    with pytest.raises(ValueError, match=r"other settings \(seed: got 0, expected 1"):
        measure(replace(cell, seed=1), desks["cut"])
    ticks: list[float] = []
    found = measure(cell, desks["cut"]._replace(tick=ticks.append)).data
    assert ticks[0] == saved + 1
    assert not desks["cut"].state.exists()
    wanted = measure(cell, desks["whole"]).data
    assert {k: found[k] for k in ("judged", "episodes")} == {
        k: wanted[k] for k in ("judged", "episodes")
    }


def test_every_row_makes_its_agent() -> None:
    """With a density of ours where the row takes one."""
    for name, row in ROWS.items():
        density = "cvae" if row.any_density else "gaussian"
        options = row.options("Swimmer-v5", density)
        agent = row.make(density, 10, env="Swimmer-v5", device="cpu", **options)
        assert hasattr(getattr(agent, "actor", agent.policy), "density") == row.any_density, name


def test_a_recipe_takes_what_ships_for_the_environment(tmp_path: Path) -> None:
    """Its settings are those of the cell, which an agent without a replay buffer takes too."""
    cell = make_cell("Swimmer-v5", "tuned-sac", "cvae", 0, 1000)
    assert cell.settings == tuned("Swimmer-v5", recipe="sac").options
    record = json.loads(run(tmp_path, "debug", rows=["tuned-ppo"]).read_text())
    (data,) = record["data"].values()
    assert data["cell"]["settings"]["gae_lambda"] == 0.95
    assert [step for step, _ in data["judged"]] == [60, 120]


def test_illegal_options_are_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="row: got 'crosq-256', did you mean 'crossq-256'"):
        run(tmp_path, "debug", rows=["crosq-256"])
    with pytest.raises(
        ValueError, match="env: got 'Hoper-v5', expected a Gymnasium id; did you me"
    ):
        run(tmp_path, envs=["Hopper-v5", "Hoper-v5"])
    with pytest.raises(ValueError, match="densities: got 'cvae' with row 'sb3-sac', expected 'gau"):
        run(tmp_path, "debug", rows=["sb3-sac"], densities=["cvae"])
    with pytest.raises(ValueError, match="seeds: got -1"):
        run(tmp_path, "debug", seeds=[-1])
    assert not list(tmp_path.iterdir())


def test_the_table_of_five_seeds_has_interquartile_means() -> None:
    """Returns on the way, the middle half at the end, cost, and return for cost."""
    results = []
    for seed in range(5):
        cell = make_cell("Hopper-v5", "switches", "gaussian", seed, 100_000)
        judged = [[step, float(step // 1000 + seed)] for step in range(10_000, 100_001, 10_000)]
        data = {"judged": judged, "episodes": [], "train_seconds": 200.0, "judge_seconds": 1.0}
        results.append(Result(Path(cell.name), cell.as_data(), data))
    record = assemble(results)
    assert record["command"] == (
        "vaerl experiment returns --envs Hopper-v5 --rows switches --densities gaussian "
        "--steps 100000 --seeds 0,1,2,3,4"
    )
    (row,) = record["rows"]
    assert row[:5] == ["Hopper-v5", "switches", "gaussian", "100,000", "5"]
    for cell, mean in zip(row[5:10], (22, 32, 52, 102, 102), strict=True):
        assert cell.startswith(f"{mean} [")
    assert row[10:] == ["2.0", "0.52"]
    (row,) = assemble(results[:3])["rows"]
    assert row[6].startswith("31 ±")


def test_a_long_run_counts_at_earlier_steps() -> None:
    """And stands for a shorter one of the same seed."""
    results = []
    for seed, steps in ((0, 50_000), (1, 50_000), (1, 100_000)):
        cell = make_cell("Hopper-v5", "switches", "gaussian", seed, steps)
        judged = [[step, float(step // 1000)] for step in range(10_000, steps + 1, 10_000)]
        data = {"judged": judged, "train_seconds": steps / 1000.0}
        results.append(Result(Path(f"{cell.name}"), cell.as_data(), data))
    (row,) = assemble(results)["rows"]
    ends = ["100 (1)", "100 (1)", "1.0", "1.00"]  # 50 after 50,000 steps, 1 s per 1,000
    expected = ["100,000", "2", "20 ± 0", "30 ± 0", "50 ± 0", *ends]
    assert row[3:] == expected


def test_cost_is_compared_after_the_same_steps() -> None:
    """A return that doubles no more after 50,000 steps is worth as much of a long run."""
    worth = []
    for steps in (50_000, 100_000, 20_000):
        cell = make_cell("Hopper-v5", "switches", "gaussian", 0, steps)
        judged = [[step, min(step, 50_000.0)] for step in range(10_000, steps + 1, 10_000)]
        data = {"judged": judged, "train_seconds": steps / 1000.0}
        (row,) = assemble([Result(Path(cell.name), cell.as_data(), data)])["rows"]
        worth.append(row[-1])
    assert worth == ["1000.00", "1000.00", "–"]


def test_the_last_step_is_judged_whatever_its_number(tmp_path: Path) -> None:
    cell = replace(make_cell("Pendulum-v1", "sac", "gaussian", 0, 130, debug=True), every=60)
    found = measure(cell, Desk(tmp_path / "cell.json", lambda step: None)).data
    assert [step for step, _ in found["judged"]] == [60, 120, 130]


def test_panels_compare_rows_and_densities() -> None:
    """Rows with a Gaussian, densities of a row; one line, or settings that ship, only if alone."""

    def result(env: str, row: str, density: str, steps: int = 20_000) -> Result:
        cell = make_cell(env, row, density, 0, steps)
        return Result(Path(cell.name), cell.as_data(), {"judged": [[10_000, 1.0], [20_000, 2.0]]})

    alone = result("Swimmer-v5", "switches", "gaussian")
    found = panels_of([
        alone,
        result("Hopper-v5", "sac", "gaussian"),
        result("Hopper-v5", "switches", "gaussian", 50_000),
        result("Hopper-v5", "switches", "gaussian"),  # the longer one of a seed stands for it
        result("Hopper-v5", "switches", "cvae"),
        result("Hopper-v5", "tuned-sac", "cvae"),
    ])  # fmt: skip
    assert {title: [(c.agent, c.density) for c in panel] for title, panel in found.items()} == {
        "Hopper-v5, Gaussian policy": [("sac", ""), ("switches", "")],
        "Hopper-v5, switches": [("", "cvae"), ("", "gaussian")],
    }
    assert list(panels_of([alone])) == ["Swimmer-v5, Gaussian policy"]
    assert list(panels_of([result("Ant-v5", "tuned-sac", "cvae")])) == ["Ant-v5, tuned-sac"]
