"""Recording by a run, by the weights in a zip file, and by a function; nothing runs code."""

from __future__ import annotations

import io
import json
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from tests.data.test_data import same
from tests.runs.test_train import small
from vaerl.data import collect, load_demonstrations, succeeded
from vaerl.data.drivers import expert
from vaerl.runs.collect import CollectConfig
from vaerl.runs.drivers import load_zip, record
from vaerl.runs.train import load_run, train

PENDULUM = "Pendulum-v1"
SHORT = {"max_episode_steps": 5}
NET = {"policy_kwargs": {"net_arch": [8]}}


def config(tmp_path: Path, **changes: Any) -> CollectConfig:
    fields = {"env": PENDULUM, "episodes": 2, "out": str(tmp_path / "demos"), "env_options": SHORT}
    return CollectConfig(**{**fields, **changes})


def test_a_run_records_into_its_folder(tmp_path: Path) -> None:
    """Environment and options are those of the run; the policy acts as `predict` does."""
    run = train(small(tmp_path / "run", env_options={"max_episode_steps": 6}))
    asked = CollectConfig(run=str(run.path), episodes=2, deterministic=True)
    found = record(asked, command="vaerl collect …")
    same(found, load_demonstrations(run.path / "episodes"))
    assert found.env == "vaerl/PointMass-v0" and max(map(len, found)) <= 6
    assert found.provenance["step"] == 80 and found.provenance["command"] == "vaerl collect …"
    agent, _, _ = load_run(run.path)
    seen = found[1].observations
    best = agent.predict(seen[:-1], deterministic=True)[0]  # type: ignore[index]
    np.testing.assert_allclose(found[1].actions, best, rtol=0.0, atol=1e-5)
    with pytest.raises(ValueError, match="with deterministic True, got False"):
        record(CollectConfig(run=str(run.path), episodes=3))
    for changes in ({"env": None}, {"env": 3}, {"env_options": [1]}):
        data = {**run.config, **changes}
        run.config_path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
        with pytest.raises(
            ValueError, match=r"config.json: got env .* expected a Gymnasium id and"
        ):
            CollectConfig(run=str(run.path), episodes=3)


@pytest.mark.parametrize(("cls", "name"), [(SAC, "sb3-sac"), (PPO, "sb3-ppo")])
def test_weights_of_a_zip_act_as_the_agent_that_was_saved(
    tmp_path: Path, cls: Any, name: str
) -> None:
    agent = cls("MlpPolicy", PENDULUM, seed=3, device="cpu", **deepcopy(NET))
    agent.save(tmp_path / "agent.zip")
    loaded = load_zip(tmp_path / "agent.zip", PENDULUM, agent=name, agent_options=NET)
    observation = np.array([[0.2, 0.9, -1.0]], np.float32)
    ours, theirs = (a.predict(observation, deterministic=True)[0] for a in (loaded, agent))
    np.testing.assert_array_equal(ours, theirs)
    found = record(config(tmp_path, sb3=str(tmp_path / "agent.zip"), agent=name, agent_options=NET))
    assert [len(e) for e in found] == [5, 5] and len(found.provenance["sha256"]) == 64
    with pytest.raises(ValueError, match=r"agent\.zip', .*: got \[.*\], the network described has"):
        load_zip(tmp_path / "agent.zip", PENDULUM, agent=name)


class Poison:
    """Unpickling it would leave a file behind."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def test_a_poisoned_zip_runs_no_code(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"weight": Poison(tmp_path / "ran")}, stream)
    place = tmp_path / "evil.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("policy.pth", stream.getvalue())
    with pytest.raises(ValueError, match=r"policy\.pth in '.*evil\.zip' is not a file of tensors"):
        load_zip(place, PENDULUM)
    assert not (tmp_path / "ran").exists()
    torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
    assert (tmp_path / "ran").exists(), "the poison works where it is not refused"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(ValueError, match=r"holds no policy\.pth"):
        load_zip(place, PENDULUM)
    with pytest.raises(ValueError, match="is not a readable zip file"):
        load_zip(tmp_path / "none.zip", PENDULUM)


def test_a_function_of_the_current_folder_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["import numpy as np", "def swing(observation): return np.sign(observation[2:])"]
    (tmp_path / "swinging.py").write_text("\n".join([*lines, "one = 1", ""]))
    monkeypatch.chdir(tmp_path)
    found = record(config(tmp_path, function="swinging:swing"))
    seen = found[0].observations
    np.testing.assert_array_equal(found[0].actions, np.sign(seen[:-1, 2:]))  # type: ignore[call-overload]
    for name, line in (
        ("swing", "expected MODULE:FUNCTION"),
        ("swinging:swin", "got 'swinging:swin', but module 'swinging' has no attribute 'swin'"),
        ("swinging:one", "'swinging:one' is 1, expected a function"),
    ):
        with pytest.raises(ValueError, match=line):
            record(config(tmp_path, function=name))


def test_a_recording_that_was_cut_equals_one_that_was_not(tmp_path: Path) -> None:
    avoiding = {"env": "vaerl/Avoiding-v0", "env_options": {}, "expert": True}
    whole = record(config(tmp_path, **avoiding, episodes=4, out=str(tmp_path / "whole")))

    def cut(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(config(tmp_path, **avoiding, episodes=4), on_episode=cut)
    assert len(list((tmp_path / "demos").glob("episode-*.npz"))) == 2
    told: list[int] = []
    same(whole, record(config(tmp_path, **avoiding, episodes=4), on_episode=told.append))
    assert told == [3, 4]


def test_successes_alone_are_kept(tmp_path: Path) -> None:

    def driver(rng: np.random.Generator, env: Any, number: int) -> Any:
        """Every second episode runs into the first post."""
        return expert(rng, env, number) if number % 2 else lambda seen: np.array([-0.002, 0.01])

    found = collect("vaerl/Avoiding-v0", driver, 2, keep=succeeded)
    assert all(e.infos["is_success"][-1] == 1.0 for e in found)
    same(found, collect("vaerl/Avoiding-v0", driver, 4).pick([1, 3]))
    with pytest.raises(ValueError, match="the environment reports none"):
        record(config(tmp_path, random=True, successes_only=True, out=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_demonstrations_are_chosen_by_a_seed(tmp_path: Path) -> None:
    record(config(tmp_path, random=True, episodes=6))
    asked = {"env": "", "env_options": {}, "data": str(tmp_path / "demos"), "episodes": 3}
    first, again = (
        record(config(tmp_path, **asked, out=str(tmp_path / name))) for name in ("a", "b")
    )
    same(first, again)
    header = json.loads((tmp_path / "a" / "demonstrations.json").read_text())
    assert header["env"] == PENDULUM and header["provenance"]["source"]["driver"] == "random"
    other = record(config(tmp_path, **asked, seed=1, out=str(tmp_path / "c")))
    assert any((a.actions != b.actions).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "driver: got none, expected one of --expert"),
        ({"expert": True, "random": True}, "driver: got --expert and --random"),
        ({"random": True, "env": ""}, "env: got none"),
        ({"random": True, "env": "Pendulmu-v1"}, "did you mean 'Pendulum-v1'"),
        ({"random": True, "episodes": None}, "episodes: got none"),
        ({"random": True, "episodes": 0}, "episodes: got 0"),
        ({"random": True, "seed": -1}, "seed: got -1"),
        ({"random": True, "out": ""}, "out: got none"),
        ({"random": True, "to": "me/x-v0"}, "to: got 'me/x-v0', expected minari:NAME"),
        ({"run": "no/run"}, "no such run: 'no/run'"),
        ({"data": "x", "noise": (1.0,)}, "noise: got .* with --data"),
    ],
)
def test_what_cannot_be_recorded_is_refused_first(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        config(tmp_path, **changes)
