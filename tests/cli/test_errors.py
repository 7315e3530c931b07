"""A mistake costs one line that names it and what is legal, exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig

PENDULUM = ["train", "sac", "--env", "Pendulum-v1", "--steps", "50", "--no-progress"]

MISTAKES = {
    "command": (["trian"], ["'trian'", "did you mean 'train'"]),
    "option": (["train", "sac", "--envv", "x"], ["--envv", "--env"]),
    "no agent": (["train"], ["AGENT", "vaerl train --help"]),
    "no env": (["train", "sac"], ["--env"]),
    "agent": (["train", "sca", "--env", "Pendulum-v1"], ["'sca'", "did you mean 'sac'"]),
    "env": (["train", "sac", "--env", "Pendulmu-v1"], ["'Pendulmu-v1'", "'Pendulum-v1'"]),
    "own env": (["train", "sac", "--env", "vaerl/MultiGaol-v0"], ["'vaerl/MultiGoal-v0'"]),
    "env of a module": (
        ["train", "sac", "--env", "nowhere:My-v0"],
        ["module: got 'nowhere'", "cannot be imported: ModuleNotFoundError"],
    ),
    "env not in its module": (
        ["train", "sac", "--env", "json:Pendulmu-v1"],
        ["'json:Pendulmu-v1'", "did you mean 'Pendulum-v1'"],
    ),
    "no version": (["train", "sac", "--env", "HalfCheetah"], ["'HalfCheetah-v5'"]),
    "density": ([*PENDULUM, "--density", "cvea"], ["'cvea'", "did you mean 'cvae'"]),
    "density option": ([*PENDULUM, "--density-option", "latent_dim=[4]"], ["'latent_dims'"]),
    "density value": ([*PENDULUM, "--density-option", "latent_dims=[0]"], ["latent_dims", "[0]"]),
    "no equals sign": ([*PENDULUM, "--density-option", "k"], ["'k'", "NAME=VALUE"]),
    "twice": (
        [*PENDULUM, "--agent-option", "tau=1", "--agent-option", "tau=2"],
        ["'tau'", "twice"],
    ),
    "agent option": ([*PENDULUM, "--agent-option", "learning_rat=1"], ["'learning_rate'"]),
    "not for options": ([*PENDULUM, "--agent-option", "seed=3"], ["'seed'"]),
    "agent value": (
        [*PENDULUM, "--agent-option", "batch_size=0"],
        ["batch_size: got 0", "1 or more"],
    ),
    "agent range": ([*PENDULUM, "--agent-option", "gamma=1.5"], ["gamma: got 1.5", "from 0 to 1"]),
    "agent text": ([*PENDULUM, "--agent-option", "tau=slow"], ["tau: got 'slow'", "a number"]),
    "entropy": ([*PENDULUM, "--agent-option", "ent_coef=foo"], ["ent_coef: got 'foo'", "auto"]),
    "negative entropy": (
        [*PENDULUM, "--agent-option", "ent_coef=-1"],
        ["ent_coef: got -1", "0 or"],
    ),
    "policy value": (
        [*PENDULUM, "--agent-option", 'policy_kwargs={"clip_mean": "x"}'],
        ["policy_kwargs: clip_mean: got 'x', expected a number"],
    ),
    "gSDE value": (
        [*PENDULUM, "--agent-option", "sde_sample_freq=x"],
        ["sde_sample_freq: got 'x'"],
    ),
    "learning rate": (
        [*PENDULUM, "--agent-option", "learning_rate=1e300"],
        ["learning_rate: got 1e+300", "from 0 to 1000"],
    ),
    "no whole number": ([*PENDULUM, "--agent-option", "buffer_size=1e13"], ["buffer_size: got 1"]),
    " memory": (
        [*PENDULUM, "--agent-option", "buffer_size=10000000000000"],
        ["'buffer_size': 10000000000000", "allocate"],
    ),
    "width": (
        [*PENDULUM, "--agent-option", 'policy_kwargs={"net_arch": [-5]}'],
        ["net_arch: got [-5]", "numbers, 1 or more"],
    ),
    "broken value": ([*PENDULUM, "--env-option", "g=007"], ["--env-option g: got 007", "JSON"]),
    "model file": (
        ["train", "sac", "--env", "HalfCheetah-v5", "--env-option", "xml_file=5"],
        ["env_options: got {'xml_file': 5}", "AttributeError"],
    ),
    "option of a reset": (
        ["train", "sac", "--env", "HalfCheetah-v5", "--env-option", "reset_noise_scale=x"],
        ["env_options: got {'reset_noise_scale': 'x'}"],
    ),
    "no such device": ([*PENDULUM, "--device", "mps"], ["device: got 'mps', expected cpu"]),
    "train_freq": ([*PENDULUM, "--agent-option", "train_freq=0"], ["train_freq: got 0", "1 or"]),
    "class": ([*PENDULUM, "--agent-option", "action_noise=3"], ["action_noise: got 3", "null"]),
    "policy option": (
        [*PENDULUM, "--agent-option", 'policy_kwargs={"net_arc": [8]}'],
        ["policy_kwargs", "'net_arc'", "did you mean 'net_arch'"],
    ),
    "both": ([*PENDULUM, "--overwrite", "--resume"], ["--overwrite and --resume", "got both"]),
    "gSDE": ([*PENDULUM, "--agent-option", "use_sde=true"], ["use_sde"]),
    "env option": ([*PENDULUM, "--env-option", "gee=1"], ["gee", "Pendulum-v1"]),
    "tracker": ([*PENDULUM, "--track", "wandbb"], ["'wandbb'", "did you mean 'wandb'"]),
    "wandb mode": ([*PENDULUM, "--wandb-mode", "on"], ["'on'", "'online'"]),
    "no number": ([*PENDULUM, "--steps", "many"], ["--steps: got 'many'", "integer"]),
    "too few": (["video", "x", "--episodes", "0"], ["--episodes: got '0'", "equal to 1"]),
    "no steps": (
        ["train", "sac", "--env", "Pendulum-v1", "--steps", "0"],
        ["steps: got 0", "1 or more"],
    ),
    "negative steps": ([*PENDULUM, "--steps", "-5"], ["steps: got -5"]),
    "seed": ([*PENDULUM, "--seed", "-1"], ["seed: got -1", "0 or more"]),
    "copies": ([*PENDULUM, "--n-envs", "0"], ["n_envs: got 0"]),
    "device": ([*PENDULUM, "--device", "gpu"], ["'gpu'", "cuda"]),
    "discrete": (["train", "sac", "--env", "CartPole-v1"], ["CartPole-v1", "Discrete(2)", "Box"]),
    "run": (["eval", "nowhere"], ["no such run", "'nowhere'"]),
    "no run": (["video", "."], ["config.json"]),
    "report": (["report", "nowhere"], ["'nowhere'"]),
    "kind": (["list", "agent"], ["'agent'", "did you mean 'agents'"]),
    "experiment": (["experiment", "dmeo"], ["'dmeo'", "did you mean 'demo'"]),
    "experiment option": (["experiment", "demo", "--jbos", "3"], ["--jbos", "--jobs"]),
    "experiment value": (["experiment", "demo", "--jobs", "few"], ["--jobs: got 'few'", "integer"]),
    "no value": (["experiment", "demo", "--jobs"], ["--jobs", "argument"]),
    "preset": (["experiment", "demo", "--preset", "debgu"], ["'debgu'", "'debug'"]),
}


def mistaken(arguments: list[str]) -> str:
    """Run a command that must be refused as a mistake and return its one line."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("vaerl: "), lines
    return lines[0]


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_the_nearest_name(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, words = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    line = mistaken(arguments)
    assert all(word in line for word in words), (line, words)
    assert not any(tmp_path.rglob("config.json")), "nothing is written before all is checked"


@pytest.mark.parametrize(
    "arguments",
    [
        [*PENDULUM, "--out", "plain/x/y"],
        ["experiment", "demo", "--preset", "debug", "--out", "plain/x/y"],
        ["eval", "run", "--out", "plain/x/y"],
        ["video", "run", "--out", "plain/x/y.gif"],
        ["report", "run", "--out", "plain/x/y"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_file_in_the_way_of_a_folder_is_named_before_any_work(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("")
    config = TrainConfig("Pendulum-v1")
    RunDirectory(tmp_path / "run").create(config.to_dict())
    monkeypatch.setattr("vaerl.runs.train.load_run", lambda run: (None, config, 0))
    monkeypatch.setattr("vaerl.report.build.read_runs", None)
    line = mistaken(arguments)
    assert "out: got 'plain/x" in line and "'plain' is in the way" in line, line


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


@pytest.mark.parametrize("arguments", [["eval", "nowhere"], ["list", "agent"], PENDULUM[:-1]])
def test_a_mistake_stays_one_line_with_debug(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mistaken([*arguments, "--debug", *(["--out", __file__] if "train" in arguments else [])])


def test_a_fault_of_the_program_is_told_from_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with exit code 1, and only --debug adds its traceback."""

    def broken(every: bool) -> None:
        raise RuntimeError("lost\nits way")

    monkeypatch.setattr(sys.modules["vaerl.cli.main"], "environments", broken)
    result = CliRunner().invoke(app, ["list", "envs"])
    assert result.exit_code == 1
    line = "vaerl: internal error: RuntimeError: lost its way"
    assert result.stderr == f"{line} (add --debug to see where)\n"
    result = CliRunner().invoke(app, ["list", "envs", "--debug"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1] == line


def test_memory_that_runs_out_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As numpy and torch say it, on a CPU."""

    def fail(*arguments: object, **options: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr("vaerl.runs.train.train", fail)
    result = CliRunner().invoke(app, PENDULUM)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("vaerl: out of memory: ")


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
