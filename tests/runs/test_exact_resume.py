"""A resumed run ends as one that was never interrupted: every bit of its last checkpoint."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from vaerl.checkpoint.objects import Lost, capture, restore
from vaerl.data import Demonstrations
from vaerl.data.folder import write_folder
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import train

NET = {"net_arch": [8]}
MODEL: dict[str, Any] = {
    "learning_starts": 8,
    "members": 2,
    "buffer_size": 200,
    "fit_kwargs": {"steps": 4, "check_every": 4},
}
PLAN = {"horizon": 3, "population": 6, "elites": 3, "iterations": 2, "particles": 2}
AGENTS: dict[str, dict[str, Any]] = {
    "sac": {"learning_starts": 8, "batch_size": 8, "buffer_size": 200, "policy_kwargs": NET},
    "ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "policy_kwargs": NET},
    "a2c": {"n_steps": 4, "policy_kwargs": NET},
    "mpc": {**MODEL, "train_freq": 4, "gradient_steps": 4, "planner_kwargs": PLAN},
    "mbpo": {
        **MODEL,
        "batch_size": 8,
        "model_train_freq": 8,
        "rollout_batch_size": 20,
        "policy_kwargs": NET,
    },
    "bc": {"batch_size": 8, "chunk": 2, "policy_kwargs": NET, "patience": 3},
    "iql": {"batch_size": 8, "policy_kwargs": {**NET, "critic_arch": [8]}},
}
ENVS = ["Pendulum-v1", "HalfCheetah-v5", "Ant-v5"]
HALF = 40


def demonstrations(env_id: str, path: Path) -> str:
    """Random ones, in a file."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    rows, acts = [env.reset(seed=0)[0]], []
    for _ in range(30):
        acts.append(env.action_space.sample())
        rows.append(env.step(acts[-1])[0])
    made = Demonstrations.from_arrays(
        [np.stack(rows)], [np.stack(acts)], rewards=[np.arange(30, dtype=np.float64) / 30]
    )
    return str(write_folder(made, path))


def config(folder: Path, agent: str, env: str, copies: int, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "env": env,
        "agent": agent,
        "density": "gaussian" if agent in ("mpc", "mbpo") else "cvae",
        "dynamics": "gaussian" if agent == "mbpo" else "",
        "steps": 2 * HALF,
        "n_envs": copies,
        "out": str(folder / "run"),
        "checkpoint_every": HALF,
        "eval_every": 0,
        "picture_every": 0,
        "final_episodes": 1,
        "video": False,
        "device": "cpu",
        "env_options": {"max_episode_steps": 15},
        "agent_options": AGENTS[agent],
    }
    if agent in ("bc", "iql"):
        fields["data"] = demonstrations(env, folder / "data")
    return TrainConfig(**{**fields, **changes})


def checkpoints(run: RunDirectory) -> list[Path]:
    return sorted(run.checkpoints_path.iterdir())


def contents(checkpoint: Path) -> dict[str, Any]:
    """Sizes and hashes of the files."""
    return json.loads((checkpoint / "manifest.json").read_text())["files"]


def cut(run: RunDirectory) -> dict[str, Any]:
    """Delete what came after the first half, and return what the last checkpoint held."""
    *_, half, last = checkpoints(run)
    assert int(half.name[:9]) < int(last.name[:9])
    expected = contents(last)
    assert contents(half) != expected
    shutil.rmtree(last)
    return expected


def episode_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """What the log says about episodes, and when."""
    known = [row for row in run.metrics() if "rollout/episodes" in row]
    return [{k: v for k, v in row.items() if "time" not in k} for row in known]


def totals(run: RunDirectory) -> tuple[float, float]:
    """Episodes of the log, and the sum of their rewards."""
    rows = [(row["rollout/episodes"], row["rollout/ep_rew"]) for row in episode_rows(run)]
    return sum(count for count, _ in rows), sum(count * mean for count, mean in rows)


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent(agent: str, env: str, copies: int, tmp_path: Path) -> None:
    """Modules, optimizers, buffers, random streams and environments, from the middle of an
    episode."""
    wanted = config(tmp_path, agent, env, copies)
    run = train(wanted)
    rows, expected = episode_rows(run), cut(run)
    train(wanted, resume=True)
    assert contents(checkpoints(run)[-1]) == expected
    assert episode_rows(run) == rows
    assert bool(rows) == (agent not in ("bc", "iql"))


def test_in_a_new_process(tmp_path: Path) -> None:
    """By the command, with copies in processes of their own."""
    wanted = config(tmp_path, "sac", "HalfCheetah-v5", 2, subprocess=True)
    run = train(wanted)
    expected = cut(run)
    code = (
        "import sys; from vaerl.runs.train import read_config, train; "
        "from vaerl.runs import RunDirectory; "
        "train(read_config(RunDirectory.open(sys.argv[1])), resume=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)
    assert contents(checkpoints(run)[-1]) == expected


@pytest.mark.parametrize("short", [250, 4])
@pytest.mark.parametrize("agent", ["sac", "ppo", "bc", "mpc"])
def test_after_a_signal(
    agent: str, short: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a roll-out, which is finished if it is short, else taken back."""
    monkeypatch.setattr("vaerl.runs.callback.SHORT", short)
    monkeypatch.setattr("vaerl.runs.train.PROGRESS_INTERVAL", 0.0)
    straight = train(config(tmp_path / "straight", agent, "Pendulum-v1", 1))
    wanted = config(tmp_path, agent, "Pendulum-v1", 1)

    def stop(step: int) -> None:
        if step == 27:
            os.kill(os.getpid(), signal.SIGTERM)

    run = train(wanted, on_step=stop)
    assert run.status()["state"] == "stopped"
    begun = int(checkpoints(run)[-1].name[:9])
    assert begun == (24 if (agent, short) == ("ppo", 4) else {"ppo": 32, "mpc": 28}.get(agent, 27))
    train(wanted, resume=True)
    assert contents(checkpoints(run)[-1]) == contents(checkpoints(straight)[-1])
    assert totals(run) == pytest.approx(totals(straight), rel=1e-12)


class Sealed(gymnasium.Env):
    """Part of its state is out of reach."""

    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.engine = iter(range(10))
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        return np.zeros(1, np.float32), 1.0, next(self.engine) == 9, False, {}


def test_what_cannot_be_saved_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run resumes with new episodes."""
    if "test/Sealed-v0" not in gymnasium.registry:
        gymnasium.register("test/Sealed-v0", Sealed)
    wanted = config(tmp_path, "sac", "test/Sealed-v0", 1, env_options={})
    run = train(wanted)
    line = "environment: env.env.env.engine (range_iterator)"
    assert capsys.readouterr().err.count(line) == 1
    cut(run)
    train(wanted, resume=True)
    assert f"{line}; training goes on with new episodes" in capsys.readouterr().err


def test_objects_of_all_kinds() -> None:
    """Numbers keep their types, aliases stay aliases, and generators continue."""

    class Part:
        def __init__(self) -> None:
            self.array = np.arange(3, dtype=np.uint16)
            self.random = [np.random.default_rng(0), np.random.RandomState(0), random.Random(0)]
            self.noise = torch.Generator().manual_seed(0)
            self.tensor = torch.zeros(2)

    class Whole:
        def __init__(self) -> None:
            self.part = self.same = Part()
            self.back = self
            self.plain = {("a", 1): deque([1.5, np.float32(2.5), None, True, 3], maxlen=5)}
            self.bad, self.call, self.kind = float("nan"), print, Part

    def numbers(whole: Whole) -> list[Any]:
        part = whole.part
        drawn = [part.random[0].random(), part.random[1].random(), part.random[2].random()]
        drawn.append(torch.rand(1, generator=part.noise).item())
        return [*drawn, part.array.tolist(), part.tensor.tolist(), str(whole.plain), str(whole.bad)]

    used, fresh = Whole(), Whole()
    numbers(used)
    used.part.array[2], used.part.tensor[1], used.plain["b"] = 9, 4.0, np.int64(7)
    assert restore(fresh, capture(used)) is fresh
    assert numbers(fresh) == numbers(used)
    assert fresh.part is fresh.same and fresh.back is fresh
    with pytest.raises(Lost, match="part: int, expected Part"):
        fresh.part = 3  # type: ignore[assignment]
        restore(fresh, capture(used))
