"""The report shows how goals and densities came about, from what a run logged and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from vaerl.report.history import (
    density_history_section,
    density_pictures,
    goal_history,
    read_picture,
    share_history_figure,
    share_history_section,
    strip_figure,
)
from vaerl.report.records import RunRecord
from vaerl.runs import RunDirectory


def record_of(path: Path, rows: list[dict[str, Any]]) -> RunRecord:
    config = {"agent": "sac", "density": "cvae", "env": "vaerl/PointMass-v0"}
    return RunRecord(RunDirectory(path), config, rows, {"steps": 0, "state": "running"})


def shares(step: int, *values: float) -> dict[str, Any]:
    return {"global_step": step} | {f"eval/goal_share_{i}": v for i, v in enumerate(values)}


def test_shares_are_stacked_up_to_one(tmp_path: Path) -> None:
    rows = [shares(10, 0.5, 0.0), {"global_step": 15, "x": 1.0}, shares(20, 0.25, 0.5)]
    steps, found = goal_history(record_of(tmp_path, rows))
    assert steps.tolist() == [10.0, 20.0] and found.tolist() == [[0.5, 0.0], [0.25, 0.5]]
    areas = share_history_figure(steps, found).axes[0].collections
    tops = [max(v[1] for v in area.get_paths()[0].vertices if v[0] == 20.0) for area in areas]
    assert tops == pytest.approx([0.25, 0.75, 1.0])
    section = share_history_section([record_of(tmp_path, rows)])
    assert section is not None and "at the end 0.25, 0.50" in section.pictures[0].alt


def test_nothing_to_tell_is_no_section(tmp_path: Path) -> None:
    once = record_of(tmp_path, [shares(10, 0.5, 0.5)])
    assert share_history_section([once]) is None and density_history_section([once]) is None


def test_pictures_are_spread_from_first_to_last(tmp_path: Path) -> None:
    record = record_of(tmp_path, [])
    folder = record.directory.figures_path
    folder.mkdir()
    for step in range(100, 1000, 100):
        image.imsave(folder / f"density-{step:09d}.png", np.zeros((10, 40, 3)))
    (folder / "rollouts-000000100.png").write_bytes(b"")
    assert [step for step, _ in density_pictures(record)] == [100, 400, 600, 900]
    section = density_history_section([record])
    assert section is not None and "after 100, 400, 600, 900 steps" in section.pictures[0].alt


@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_a_strip_keeps_the_pictures_proportions(tmp_path: Path, shape: tuple[int, int]) -> None:
    for name in "ab":
        image.imsave(tmp_path / f"{name}.png", np.zeros((*shape, 3)))
    figure = strip_figure([read_picture(tmp_path / f"{name}.png", tmp_path) for name in "ab"])
    width, height = figure.get_size_inches()
    own = shape[1] / shape[0]
    assert width / height == pytest.approx(own / 2 if own > 1 else own * 2)
