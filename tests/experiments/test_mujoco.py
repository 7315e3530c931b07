"""SAC on MuJoCo: the debug preset makes the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vaerl.experiments.mujoco.experiment import run


def test_a_short_run_makes_the_table(tmp_path: Path) -> None:
    path = run(tmp_path, "debug", densities=["gaussian"], width=16, jobs=1)
    record = json.loads(path.read_text())
    assert [row[:4] for row in record["rows"]] == [["Hopper-v5", "gaussian", "450", "1"]]
    assert record["command"] == (
        "vaerl experiment mujoco --preset debug --densities gaussian --width 16"
    )
    assert record["settings"]["Hopper-v5 gaussian"]["policy_kwargs"] == {"net_arch": [16, 16]}


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    """Before anything is written, in each preset."""
    with pytest.raises(ValueError, match="did you mean 'cvae'"):
        run(tmp_path, densities=["cave"])
    for preset in ("full", "debug"):
        with pytest.raises(
            ValueError, match="env: got 'Hoper-v5', expected a Gymnasium id; did yo"
        ):
            run(tmp_path, preset, envs=["Hoper-v5"])
    assert not list(tmp_path.iterdir())
