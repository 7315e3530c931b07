"""Training leaves a whole run behind; looking at it changes nothing that is learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.runs.faulty import read_all
from vaerl.disk import VaerlLoadError
from vaerl.disk.errors import RunFailed, WriteError
from vaerl.report.pictures import Painter
from vaerl.runs import RunDirectory
from vaerl.runs.agent_options import agent_options
from vaerl.runs.config import TrainConfig, agent_defaults
from vaerl.runs.train import load_run, read_config, train

POINT_MASS = "vaerl/PointMass-v0"
SMALL = {
    "learning_starts": 20,
    "batch_size": 8,
    "buffer_size": 500,
    "policy_kwargs": {"net_arch": [16]},
}
QUIET: dict[str, Any] = {"eval_every": 0, "picture_every": 0, "video": False, "final_episodes": 2}


def small(out: Path, **changes: Any) -> TrainConfig:
    fields = {
        "env": POINT_MASS,
        "density": "gaussian",
        "steps": 80,
        "agent_options": SMALL,
        "out": str(out),
        "device": "cpu",
        **QUIET,
    }
    return TrainConfig(**{**fields, **changes})


def learned(run: RunDirectory) -> str:
    """SHA-256 of every parameter of the last checkpoint."""
    agent, _, _ = load_run(run.path)
    digest = hashlib.sha256()
    for name, tensor in sorted(agent.policy.state_dict().items()):
        if tensor.is_floating_point() and "extra_state" not in name:
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


class TestConfig:
    def test_it_survives_json(self) -> None:
        config = TrainConfig(env="Hopper-v5", track=("wandb",), density_options={"k": 4})
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def test_it_is_frozen_and_keeps_nothing_of_the_callers(self) -> None:
        options = {"gamma": 0.9}
        config = TrainConfig(env="Hopper-v5", agent_options=options)
        options["gamma"] = 0.5
        assert config.agent_options == {"gamma": 0.9}
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.steps = 3  # type: ignore[misc]

    def test_none_means_a_share_of_the_steps(self) -> None:
        config = TrainConfig(env="Hopper-v5", steps=1000)
        found = config.eval_every, config.picture_every, config.checkpoint_every
        assert found == (100, 200, 250)

    def test_own_options_win_over_defaults(self) -> None:
        assert agent_defaults("sac", POINT_MASS)["learning_starts"] == 1000
        config = TrainConfig(env=POINT_MASS, agent_options={"learning_starts": 7}).resolved()
        assert config.agent_options == {"learning_starts": 7}
        assert TrainConfig(env="Hopper-v5").resolved().agent_options == {}

    def test_debug_is_tiny_and_whole(self) -> None:
        config = TrainConfig(env=POINT_MASS, steps=10**6).debug()
        assert config.steps <= 200 and config.eval_every and config.picture_every
        assert config.track == () and config.wandb_mode == "offline"

    def test_every_field_has_its_sentence(self) -> None:
        source = Path("vaerl/runs/config.py")
        source = source if source.exists() else Path(__file__).parents[2] / source
        text = source.read_text()
        for item in dataclasses.fields(TrainConfig):
            after = text.partition(f"\n    {item.name}: ")[2].split("\n")[1]
            assert after.strip().startswith('"""'), item.name

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"steps": 0}, "steps: got 0, expected a whole number, 1 or more"),
            ({"steps": True}, "steps: got True"),
            ({"steps": 10.0}, r"steps: got 10\.0"),
            ({"seed": -1}, "seed: got -1"),
            ({"eval_every": -1}, "eval_every: got -1"),
            ({"final_episodes": 0}, "final_episodes: got 0"),
            ({"device": "tpu"}, "device: got 'tpu'"),
            ({"track": ("tensorbord",)}, "did you mean 'tensorboard'"),
            ({"density": ""}, "density: got ''"),
        ],
    )
    def test_a_wrong_value_is_named(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TrainConfig(**{"env": "Hopper-v5", **change})

    def test_an_unknown_field_is_named(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'density'"):
            TrainConfig.from_dict({"env": "Hopper-v5", "densty": "cvae"})


@pytest.mark.parametrize(
    ("agent", "density", "env", "copies"),
    [
        ("sac", "cvae", "Pendulum-v1", 1),
        ("sac", "mixture", "vaerl/Bandit40-v0", 3),
        ("ppo", "gaussian", "vaerl/MultiGoal-v0", 2),
        ("ppo", "cvae", "Pendulum-v1", 1),
    ],
)
def test_every_agent_trains_every_density(
    agent: str, density: str, env: str, copies: int, tmp_path: Path
) -> None:
    options = SMALL if agent == "sac" else {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    config = small(
        tmp_path / "run",
        agent=agent,
        density=density,
        env=env,
        n_envs=copies,
        agent_options=options,
    )
    run = train(config)
    assert run.status()["state"] == "finished"
    assert run.status()["steps"] >= config.steps
    assert read_config(run) == config.resolved()
    evaluation = run.evaluation()
    assert evaluation is not None and len(evaluation["stochastic"]["returns"]) == 2
    _, steps = run.series("eval/return_mean")
    assert len(steps) == 1, "the final evaluation is in the curve as well"
    agent_again, _, step = load_run(run.path)
    assert step == run.status()["steps"]
    action, _ = agent_again.predict(agent_again.observation_space.sample(), deterministic=True)
    assert agent_again.action_space.contains(action)


@pytest.mark.parametrize(("copies", "options"), [(1, {}), (2, {"gradient_steps": -1})])
def test_short_runs_have_curves_too(copies: int, options: dict, tmp_path: Path) -> None:
    """Even within one long episode: twenty rows of losses, each with the bound gap."""
    config = small(tmp_path / "run", env="Pendulum-v1", density="cvae", n_envs=copies, steps=150)
    config = dataclasses.replace(config, agent_options={**SMALL, **options})
    run = train(config)
    for key in ("train/critic_loss", "latent/bound_gap"):
        steps, _ = run.series(key)
        assert len(steps) >= 20 and len(set(steps.tolist())) == len(steps), (key, steps)
        assert steps[-1] == 150
    assert "diagnostics_interval" not in read_config(run).agent_options


def test_overwrite_and_resume_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--overwrite and --resume: got both"):
        train(small(tmp_path / "run"), overwrite=True, resume=True)


def test_looking_does_not_change_what_is_learned(tmp_path: Path) -> None:
    """Evaluation, pictures and checkpoints on or off: every parameter is the same, bit for bit."""
    plain = train(small(tmp_path / "plain", density="cvae"))
    looks = {"eval_every": 30, "eval_episodes": 1, "picture_every": 50, "checkpoint_every": 20}
    watched = train(small(tmp_path / "watched", density="cvae", **looks), painter=Painter)
    assert watched.series("eval/return_mean")[0].tolist() == [30, 60, 80]
    assert [path.name for path in watched.figures_path.glob("density-*")]
    assert not list(plain.figures_path.glob("density-*"))
    assert learned(plain) == learned(watched)
    other = train(small(tmp_path / "other", density="cvae", seed=1))
    assert learned(other) != learned(plain)


def test_ctrl_c_keeps_what_is_there_and_resume_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaerl.runs.train.PROGRESS_INTERVAL", 0.0)
    told: list[int] = []

    def interrupt(step: int) -> None:  # once: a second signal does not wait for the last state
        if step >= 30 and not told:
            told.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    config = small(tmp_path / "run")
    run = train(config, on_step=interrupt)
    stopped = run.status()
    assert stopped["state"] == "stopped" and stopped["steps"] < 80
    assert run.evaluation() is None
    _, _, step = load_run(run.path)
    assert 0 < step <= stopped["steps"]

    done: list[int] = []
    run = train(config, resume=True, on_step=done.append)
    assert run.status()["state"] == "finished" and run.status()["steps"] == 80
    assert run.status()["train_steps"] >= 80, "both parts together"
    assert run.status()["train_seconds"] > stopped["train_seconds"]
    assert min(done) > step, "it goes on, it does not begin anew"
    steps = [row["global_step"] for row in run.metrics()]
    assert steps == sorted(steps)
    assert run.evaluation() is not None
    with pytest.raises(ValueError, match="more than the 80 steps of the run"):
        train(config, resume=True)


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    train(small(tmp_path / "run", steps=30))
    with pytest.raises(ValueError, match="density: got 'cvae', expected 'gaussian' as"):
        train(small(tmp_path / "run", density="cvae"), resume=True)
    longer = train(small(tmp_path / "run", steps=40), resume=True)
    assert longer.status()["steps"] == 40


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    config = small(tmp_path / "run", steps=30)
    before = train(config).config_path.read_bytes()
    with pytest.raises(ValueError, match="holds a run already"):
        train(dataclasses.replace(config, seed=1))
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert train(dataclasses.replace(config, seed=1), overwrite=True).config["seed"] == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not a run"):
        train(dataclasses.replace(config, out=str(tmp_path / "other")), overwrite=True)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


class Breaks(gymnasium.Env):
    """Raises at its tenth step."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        if self.steps == 10:
            raise RuntimeError("a leg came off")
        return np.zeros(1, np.float32), 0.0, False, False, {}


gymnasium.register("test/Breaks-v0", Breaks)


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a leg came off"):
        train(small(tmp_path / "run", env="test/Breaks-v0"))
    run = RunDirectory(tmp_path / "run")
    assert run.status()["state"] == "failed" and "a leg came off" in run.status()["error"]
    assert "a leg came off" in (run.path / "error.txt").read_text()
    with pytest.raises(VaerlLoadError):
        load_run(run.path)


def test_whole_roll_outs_are_announced_and_no_replay_buffer_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    config = small(tmp_path / "run", agent="ppo", agent_options=options, steps=40)
    assert train(config).status()["steps"] == 48
    assert "takes whole roll-outs of 16 steps, 48 in all" in capsys.readouterr().err
    train(dataclasses.replace(config, steps=64), resume=True)
    assert capsys.readouterr().err == ""


def test_a_failed_last_save_names_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a resume, whose process has saved nothing itself."""
    kept = train(small(tmp_path / "run", steps=30)).checkpoints_path

    def full(*given: Any, **options: Any) -> None:
        raise WriteError(OSError(28, "No space left on device"), "agent.safetensors")

    monkeypatch.setattr("vaerl.checkpoint.save.save_checkpoint", full)
    with pytest.raises(RunFailed, match="the last checkpoint could not be written"):
        train(small(tmp_path / "run", steps=40), resume=True)
    name = max(path.name for path in kept.iterdir())
    assert f"the last good one is {name}" in capsys.readouterr().err
    assert RunDirectory(tmp_path / "run").status()["state"] == "failed"


def test_one_process_at_a_time_writes_to_a_run(tmp_path: Path) -> None:
    """Another one is refused at once; the lock of a killed one is free."""
    config = small(tmp_path / "run", steps=30)
    train(config)
    code = "import sys\nfrom vaerl.runs import RunDirectory\n"
    code += f"with RunDirectory({config.out!r}).locked():\n    print('held'); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    before = read_all(tmp_path / "run")
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(ValueError, match="is in use: another process is training there"):
            train(dataclasses.replace(config, steps=40), **how)  # type: ignore[arg-type]
    assert read_all(tmp_path / "run") == before
    holder.kill()
    holder.communicate()
    assert train(dataclasses.replace(config, steps=40), resume=True).status()["steps"] == 40


def test_a_deleted_folder_is_no_finished_run(tmp_path: Path) -> None:
    def delete(step: int) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(RunFailed, match="was deleted during the training"):
        train(small(tmp_path / "run", steps=30), on_step=delete)


def test_options_of_an_agent_are_those_of_its_constructor() -> None:
    sac, ppo = set(agent_options("sac")), set(agent_options("ppo"))
    assert {"learning_rate", "gamma", "policy_kwargs", "diagnostics_interval"} <= sac
    assert "n_epochs" in ppo and "n_epochs" not in sac
    assert not {"self", "env", "seed", "policy", "kwargs", "args", "support_multi_env"} & (
        sac | ppo
    )


def test_envpool_steps_the_copies(tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    out = tmp_path / "run"
    train(small(out, env="Pendulum-v1", n_envs=4, envpool=True))
    assert RunDirectory.open(out).status()["state"] == "finished"
    with pytest.raises(ValueError, match="envpool: got it together with subprocess"):
        small(out, envpool=True, subprocess=True)
