"""Numbers in the files of a run have limits, and a run is read in little memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.poison.changes import CONFIG, value
from tests.poison.forked import forked
from vaerl.cli import app

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

EVAL = ["eval", "run", "--episodes", "1"]
PLANS = {
    ("agent_options", "planner_kwargs", name): to
    for name, to in {
        "population": 10**9,
        "horizon": 10**7,
        "iterations": 10**9,
        "particles": 10**9,
        "elites": 10**9,
        "colour": 1e308,
        "x": 1,
    }.items()
}
MODELS: dict[tuple[str, ...], Any] = {
    ("agent_options", "members"): 10**9,
    ("density_options", "layers"): 10**9,
    ("agent_options", "policy_kwargs", "density_kwargs"): {"hidden": [1] * 20_000},
    ("agent_options", "policy_kwargs", "density_kwargs", "hidden"): [30_000, 30_000],
}
BODIES: dict[tuple[str, ...], Any] = {
    **{("env_options", "frame_skip", str(n)): n for n in (0, -1, 10**9)},
    **{("env_options", "max_episode_steps", str(n)): n for n in (-1, 0, 10**12)},
    **{("env_options", "width", str(n)): n for n in (0, 10**9)},
    **{("env_options", "xml_file", path): path for path in ("/dev/zero", "pipe", "nowhere.xml")},
    ("env_options", "reset_noise_scale", "x"): "x",
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders above a run that plans and one of MuJoCo."""
    found = {}
    for agent, env in (("mpc", "Pendulum-v1"), ("sac", "HalfCheetah-v5")):
        found[agent] = tmp_path_factory.mktemp(agent)
        out = str(found[agent] / "run")
        words = ["train", agent, "--env", env, "--density", "gaussian", "--out", out, "--debug"]
        words += ["--no-video", "--no-progress", "--picture-every", "0", "--steps", "100"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    return found


@pytest.mark.parametrize(
    ("agent", "keys", "to"),
    [
        *(("mpc", keys, to) for keys, to in {**PLANS, **MODELS}.items()),
        *(("sac", keys[:2], to) for keys, to in BODIES.items()),
    ],
    ids=str,
)
def test_a_number_without_measure_is_refused(
    good: dict[str, Path], tmp_path: Path, agent: str, keys: tuple[str, ...], to: Any
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(good[agent], folder)
    os.mkfifo(folder / "pipe")
    value(CONFIG, *keys, to=to)(folder / "run")
    outcome = forked(EVAL, folder)
    assert outcome.faults == [] and outcome.code == 2, outcome
    (line,) = outcome.err.splitlines()
    assert line.startswith("vaerl: ") and len(line) < 700


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the size of a process")
@pytest.mark.parametrize("agent", ["mpc", "sac"])
def test_a_run_loads_in_a_gigabyte_more(good: dict[str, Path], agent: str) -> None:
    """Of address space, which is far more than what is used."""
    outcome = forked(EVAL, good[agent], mebibytes=1024)
    assert outcome.faults == [] and outcome.code == 0, outcome
