"""A mistake costs one line that names it and what is legal, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vaerl.cli import app

PENDULUM = ["train", "sac", "--env", "Pendulum-v1", "--steps", "50", "--no-progress"]

MISTAKES = {
    "command": (["trian"], ["'trian'", "did you mean 'train'"]),
    "option": (["train", "sac", "--envv", "x"], ["--envv", "--env"]),
    "no agent": (["train"], ["AGENT", "vaerl train --help"]),
    "no env": (["train", "sac"], ["--env"]),
    "agent": (["train", "sca", "--env", "Pendulum-v1"], ["'sca'", "did you mean 'sac'"]),
    "env": (["train", "sac", "--env", "Pendulmu-v1"], ["'Pendulmu-v1'", "'Pendulum-v1'"]),
    "own env": (["train", "sac", "--env", "vaerl/MultiGaol-v0"], ["'vaerl/MultiGoal-v0'"]),
    "no version": (["train", "sac", "--env", "HalfCheetah"], ["'HalfCheetah-v5'"]),
    "density": ([*PENDULUM, "--density", "cvea"], ["'cvea'", "did you mean 'cvae'"]),
    "density option": ([*PENDULUM, "--density-option", "latent_dim=[4]"], ["'latent_dims'"]),
    "density value": ([*PENDULUM, "--density-option", "latent_dims=[0]"], ["latent_dims", "[0]"]),
    "no equals sign": ([*PENDULUM, "--density-option", "k"], ["'k'", "name=value"]),
    "twice": (
        [*PENDULUM, "--agent-option", "tau=1", "--agent-option", "tau=2"],
        ["'tau'", "twice"],
    ),
    "agent option": ([*PENDULUM, "--agent-option", "learning_rat=1"], ["'learning_rate'"]),
    "not for options": ([*PENDULUM, "--agent-option", "seed=3"], ["'seed'"]),
    "agent value": ([*PENDULUM, "--agent-option", "batch_size=0"], ["batch_size 0", "1 or more"]),
    "agent range": ([*PENDULUM, "--agent-option", "gamma=1.5"], ["gamma 1.5", "from 0 to 1"]),
    "agent text": ([*PENDULUM, "--agent-option", "tau=slow"], ["tau 'slow'", "a number"]),
    "gSDE": ([*PENDULUM, "--agent-option", "use_sde=true"], ["use_sde"]),
    "env option": ([*PENDULUM, "--env-option", "gee=1"], ["gee", "Pendulum-v1"]),
    "tracker": ([*PENDULUM, "--track", "wandbb"], ["'wandbb'", "did you mean 'wandb'"]),
    "wandb mode": ([*PENDULUM, "--wandb-mode", "on"], ["'on'", "'online'"]),
    "no number": ([*PENDULUM, "--steps", "many"], ["--steps", "integer"]),
    "no steps": (
        ["train", "sac", "--env", "Pendulum-v1", "--steps", "0"],
        ["steps 0", "1 or more"],
    ),
    "negative": ([*PENDULUM, "--steps", "-5"], ["steps -5"]),
    "seed": ([*PENDULUM, "--seed", "-1"], ["seed -1", "0 or more"]),
    "copies": ([*PENDULUM, "--n-envs", "0"], ["n_envs 0"]),
    "device": ([*PENDULUM, "--device", "gpu"], ["'gpu'", "cuda"]),
    "discrete": (["train", "sac", "--env", "CartPole-v1"], ["CartPole-v1", "Discrete(2)", "Box"]),
    "run": (["eval", "nowhere"], ["no such run", "'nowhere'"]),
    "no run": (["video", "."], ["config.json"]),
    "report": (["report", "nowhere"], ["'nowhere'"]),
    "kind": (["list", "agent"], ["'agent'", "did you mean 'agents'"]),
    "experiment": (["experiment", "dmeo"], ["'dmeo'", "did you mean 'demo'"]),
    "experiment option": (["experiment", "demo", "--stpes", "3"], ["'--stpes'", "'--steps'"]),
    "experiment value": (["experiment", "demo", "--steps", "few"], ["--steps", "'few'", "int"]),
    "no value": (["experiment", "demo", "--steps"], ["--steps", "needs a value"]),
    "preset": (["experiment", "demo", "--preset", "debgu"], ["'debgu'", "'debug'"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_the_nearest_name(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, words = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vaerl: "), lines
    assert all(word in lines[0] for word in words), (lines[0], words)
    assert "Traceback" not in result.output
    assert not any(tmp_path.rglob("config.json")), "nothing is written before all is checked"


def test_unbounded_actions_are_refused(tmp_path: Path) -> None:
    code = (
        "import gymnasium, numpy as np, sys\n"
        "from gymnasium import spaces\n"
        "class Free(gymnasium.Env):\n"
        "    observation_space = spaces.Box(-1, 1, (2,))\n"
        "    action_space = spaces.Box(-np.inf, np.inf, (2,))\n"
        "gymnasium.register('Free-v0', Free)\n"
        "sys.argv = ['vaerl', 'train', 'ppo', '--env', 'Free-v0']\n"
        "from vaerl.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Free-v0" in done.stderr and "finite" in done.stderr


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(app, ["eval", "nowhere", "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("vaerl: no such run")


def test_a_fault_of_the_program_is_told_from_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str, *, every: bool) -> None:
        raise RuntimeError("lost\nits way")

    monkeypatch.setattr("vaerl.cli_output.listing", broken)
    result = CliRunner().invoke(app, ["list", "envs"])
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "vaerl: internal error: RuntimeError: lost its way (add --debug"
    )


def test_the_installed_command_answers_without_torch() -> None:
    """Help in under a second: nothing heavy is imported to give it."""
    code = (
        "import sys\n"
        "from vaerl.cli import app\n"
        "for words in (['--help'], ['train', '--help'], ['experiment', '--help'], ['--version']):\n"
        "    try:\n"
        "        app(words)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "heavy = {'torch', 'stable_baselines3', 'matplotlib', 'wandb', 'scipy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--density-option" in done.stdout and "vaerl 0." in done.stdout
