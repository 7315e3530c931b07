"""Every command on a run that `vaerl train --debug` made, and the experiments' debug presets."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.lab.console import print_table
from vaerl.runs import RunDirectory
from vaerl.runs.video import record, video_format


def vaerl(*words: Any) -> str:
    """Run a command that must succeed and return what it prints."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


WALK = """
import gymnasium
import numpy as np

class Walk(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.asarray(action, np.float32), float(action[0]), False, False, {}

gymnasium.register("Walk-v0", Walk, max_episode_steps=9)
"""


def test_an_environment_of_ones_own(tmp_path: Path) -> None:
    """The module that a user types is imported, in workers too; the one in a file is not."""
    (tmp_path / "my_walks.py").write_text(WALK)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run_command(*words: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; sys.path.remove(''); from vaerl.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    words = ["ppo", "--env", "my_walks:Walk-v0", "--debug", "--n-envs", "2", "--subprocess"]
    trained = run_command("train", *words, "--density", "gaussian")
    assert trained.returncode == 0, trained.stderr
    folder = "runs/ppo-gaussian-Walk-v0-s0"
    refused = run_command("eval", folder)
    assert refused.returncode == 2 and "allow it with --allow-module my_walks" in refused.stderr
    allowed = run_command("eval", folder, "--episodes", "2", "--allow-module", "my_walks")
    assert allowed.returncode == 0 and "return_mean" in allowed.stdout, allowed.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "debug"
    small = 'policy_kwargs={"net_arch": [16]}'
    words = ["--env", "vaerl/MultiGoal-v0", "--debug", "--agent-option", small, "--out", out]
    words += ["--track", "tensorboard", "--track", "wandb"]
    printed = vaerl("train", "sac", *words, "--density-option", "latent_dims=[2]")
    assert f"finished after 128 steps: {out}" in printed.replace("\n", "")
    assert "multi_goal_score" in printed
    return out


def test_a_debug_run_exercises_everything(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["density_options"] == {"latent_dims": [2]} and config["density"] == "cvae"
    logged = {key for row in RunDirectory(run).metrics() for key in row}
    for key in ("eval/multi_goal_score", "eval/multi_goal_score_ceiling", "train/critic_loss"):
        assert key in logged, sorted(logged)
    assert len(list(run.glob("figures/density-*.png"))) == 2
    assert list(run.glob("figures/rollouts-*.png"))
    assert list(run.glob("checkpoints/*/manifest.json"))
    assert list(run.glob("tensorboard/events*"))
    assert list(run.glob("wandb/offline-run-*"))
    assert [path.stat().st_size > 1000 for path in run.glob("videos/*")] == [True]


def test_eval_prints_and_writes_its_figures(run: Path, tmp_path: Path) -> None:
    words = ["eval", run, "--episodes", 3, "--out", tmp_path / "e.json"]
    assert "return_mean" in vaerl(*words)
    drawn = json.loads((tmp_path / "e.json").read_text())
    assert len(drawn["returns"]) == 3 and drawn["step"] == 128
    vaerl(*words)
    assert json.loads((tmp_path / "e.json").read_text()) == drawn
    vaerl(*words, "--deterministic")
    assert json.loads((tmp_path / "e.json").read_text())["returns"] != drawn["returns"]


def test_video_follows_the_encoder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(vaerl("video", run, "--out", tmp_path / "a.gif").replace("\n", ""))
    assert path.read_bytes()[:3] == b"GIF"
    found = importlib.util.find_spec

    def without_encoder(name: str, package: str | None = None) -> Any:
        return None if name == "imageio_ffmpeg" else found(name, package)

    assert video_format() == ("mp4" if found("imageio_ffmpeg") else "gif")
    monkeypatch.setattr(importlib.util, "find_spec", without_encoder)
    assert video_format() == "gif"


def test_mujoco_is_filmed_without_opengl(tmp_path: Path) -> None:
    class Random:
        def predict(self, observation: np.ndarray, *, deterministic: bool = False) -> Any:
            return np.random.default_rng(0).uniform(-1, 1, 3), None

    path = record(Random(), "Hopper-v5", tmp_path / "h.gif", seed=0, most_frames=3, side_view=True)
    import imageio.v2 as imageio

    first, *_, last = list(imageio.get_reader(path).iter_data())
    assert (np.asarray(first) != np.asarray(last)).any(), "the hopper moves"


def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path: Path) -> None:
    class Blind(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    gymnasium.register("test/Blind-v0", Blind)
    with pytest.raises(ValueError, match="'test/Blind-v0' cannot draw itself"):
        record(None, "test/Blind-v0", tmp_path / "b.gif", seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of gif, mp4"):
        record(None, "test/Blind-v0", tmp_path / "b.avi", seed=0)  # type: ignore[arg-type]


def test_report_names_the_file_it_wrote(run: Path, tmp_path: Path) -> None:
    page = Path(vaerl("report", run, "--out", tmp_path / "r.html").replace("\n", ""))
    assert "<svg" in page.read_text() and "vaerl/MultiGoal-v0" in page.read_text()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("agents", ["sac", "ppo"]),
        ("densities", ["gaussian", "mixture", "cvae", "imle", "flow"]),
        ("envs", ["vaerl/PointMass-v0", "Pendulum-v1", "HalfCheetah-v5"]),
        ("experiments", ["density-suite", "demo", "mujoco"]),
        ("planners", ["random", "cem", "icem", "mppi"]),
        ("trackers", ["tensorboard", "wandb"]),
    ],
)
def test_list_gives_a_name_and_a_line_each(kind: str, words: list[str]) -> None:
    lines = vaerl("list", kind).splitlines()
    names = {line.split()[0]: line.split(maxsplit=1)[1:] for line in lines}
    assert set(words) <= set(names)
    assert all(names[word] for word in words), names
    own = [line for name, line in names.items() if name in words]
    assert len({tuple(line) for line in own}) == len(own), "each says something else"


def test_a_wide_table_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Names stay on one line; numbers go below one another, whole."""
    print_table("scores", ["policy", *"abcdefghijkl"], [["gaussian-both", *["0.123 ± 0.456"] * 12]])
    out = capsys.readouterr().out
    assert "gaussian-both" in out and out.count("0.456") == 12 and "…" not in out


@pytest.mark.slow
def test_the_demo_runs_whole_in_its_debug_preset(tmp_path: Path) -> None:
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    words = ["-m", "vaerl.cli", "experiment", "demo", "--preset", "debug", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "covered" in done.stdout and "cvae" in done.stdout
    assert done.stdout.replace("\n", "").endswith(str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3 * 2 + 4 and "Conditional VAE" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "nothing comes from a network"
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    parts = {"clone": ["gaussian", "cvae"], "reach": ["gaussian", "mixture", "cvae"]}
    wanted = [[part, name] for part, names in parts.items() for name in [*names, "ceiling"]]
    assert [row[:2] for row in rows] == wanted
