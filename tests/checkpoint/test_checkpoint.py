"""Checkpoints: what is saved comes back, at every point where the machine may fail."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

import vaerl.agents
import vaerl.policies
from tests.runs.faulty import Crash, FaultyOs, read_all
from tests.runs.tiny import Corridor, corridor, digest, make, observations, trained
from vaerl.agents.description import AgentDescription, describe, make_agent
from vaerl.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from vaerl.checkpoint.load import restore
from vaerl.checkpoint.read import list_checkpoints
from vaerl.checkpoint.rng import capture_rng, preserve_rng
from vaerl.checkpoint.state import Parts
from vaerl.checkpoint.tensors import pack
from vaerl.disk import files, jsonio
from vaerl.disk.errors import VaerlLoadError, WriteError
from vaerl.runs.directory import RunDirectory


@pytest.mark.parametrize("name", ["sb3-sac", "sb3-ppo", "sb3-a2c"])
def test_an_agent_comes_back_with_all_it_learned(tmp_path: Path, name: str) -> None:
    """Parameters, buffers, optimizers, counters and predictions are the saved ones."""
    agent = trained(name, learning_rate=LinearSchedule(1e-3, 1e-4, 0.5))
    path = save_checkpoint(agent, tmp_path)
    loaded = load_checkpoint(path, Corridor())
    assert type(loaded) is type(agent) and loaded.seed == 0
    assert digest(loaded) == digest(agent)
    obs = observations()
    for other in (loaded, load_checkpoint(path)):
        np.testing.assert_array_equal(
            other.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0]
        )
    assert loaded.learning_rate(0.9) == agent.learning_rate(0.9)
    before = loaded.num_timesteps
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.num_timesteps > before and digest(loaded) != digest(agent)


DENSITIES = [("sac", "cvae"), ("ppo", "cvae"), ("sac", "mixture")]


@pytest.mark.parametrize(("name", "density"), DENSITIES)
def test_a_vaerl_agent_comes_back(tmp_path: Path, name: str, density: str) -> None:
    """Densities, their options and the heads' own random streams survive."""
    cls = vaerl.agents.agent_class(name)
    options: dict[str, Any] = (
        {"learning_starts": 4, "buffer_size": 100, "batch_size": 4}
        if name == "sac"
        else {"n_steps": 8, "batch_size": 4, "n_epochs": 1, "recognition_steps": 1}
    )
    agent = cls(density, corridor(), seed=1, policy_kwargs={"net_arch": [8]}, **options).learn(8)
    loaded = load_checkpoint(save_checkpoint(agent, tmp_path))
    assert digest(loaded) == digest(agent)
    assert loaded.policy_kwargs["density"] == density
    obs = observations()
    for deterministic in (True, False):
        np.testing.assert_array_equal(
            loaded.predict(obs, deterministic=deterministic)[0],
            agent.predict(obs, deterministic=deterministic)[0],
        )


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_a_seeded_agent_goes_on_with_the_saved_stream(tmp_path: Path, name: str) -> None:
    """Also if another agent with that seed, on the same space, restarted the stream meanwhile."""
    options: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "seed": 0}
    options |= {"sac": {"buffer_size": 9}, "ppo": {"n_steps": 8, "batch_size": 4}}[name]

    def made() -> Any:
        return vaerl.agents.agent_class(name)("cvae", Corridor(), **options)

    agent, _ = made(), made()
    agent.predict(observations())
    checkpoint = find_checkpoint(save_checkpoint(agent, tmp_path))
    expected = agent.predict(observations())[0]
    resumed = made()
    restore(resumed, checkpoint, rng=True)
    np.testing.assert_array_equal(resumed.predict(observations())[0], expected)


def test_a_vaerl_policy_in_an_sb3_agent_comes_back(tmp_path: Path) -> None:
    """The unmodified algorithm with our policy class: both go by name."""
    options = {"learning_starts": 4, "buffer_size": 100, "batch_size": 4}
    kwargs = {"net_arch": [8], "density": "gaussian"}
    agent = SAC(vaerl.policies.SACPolicy, corridor(), policy_kwargs=kwargs, **options).learn(8)
    loaded = load_checkpoint(save_checkpoint(agent, tmp_path))
    assert type(loaded) is SAC and type(loaded.policy) is vaerl.policies.SACPolicy
    assert digest(loaded) == digest(agent)


def test_saving_and_loading_leave_every_generator_alone(tmp_path: Path) -> None:
    """A seeded agent is saved and loaded without a draw and without a reseed."""
    agent = trained("sb3-sac")
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.gauss(0, 1)  # leaves a second number waiting
    before = _rng_bytes()
    load_checkpoint(save_checkpoint(agent, tmp_path), Corridor())
    assert _rng_bytes() == before
    torch.rand(3)
    drawn = agent.action_space.sample()
    loaded = load_checkpoint(tmp_path, Corridor(), restore_rng=True)
    assert _rng_bytes() == before
    np.testing.assert_array_equal(loaded.action_space.sample(), drawn)


def _rng_bytes() -> str:
    state = pack(capture_rng(), "rng", tensors := {})
    return repr((state, {name: tensor.tolist() for name, tensor in tensors.items()}))


def test_preserve_rng_also_holds_a_heads_own_stream() -> None:
    """What a policy keeps as extra state is put back with the global generators."""
    agent = vaerl.agents.SAC("cvae", Corridor(), buffer_size=10, seed=0)
    first = agent.predict(observations())[0]
    with preserve_rng(agent):
        inside = agent.predict(observations())[0]
        agent.action_space.sample()
    np.testing.assert_array_equal(agent.predict(observations())[0], inside)
    assert not np.array_equal(first, inside)


class _Stream(nn.Module):
    """Keeps a torch.Generator the way modules keep what is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def get_extra_state(self) -> Any:
        return {"state": self.generator.get_state(), "uses": [1, 2]}

    def set_extra_state(self, state: Any) -> None:
        assert state["uses"] == [1, 2]
        self.generator.set_state(state["state"])


def test_extra_state_and_shared_tensors_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator kept as extra state goes on where it was; an aliased tensor is stored once."""

    class Policy(PPO.policy_aliases["MlpPolicy"]):  # type: ignore[misc, name-defined]
        def _build(self, lr_schedule: Any) -> None:
            super()._build(lr_schedule)
            self.stream = _Stream()
            self.same = self.action_net

    monkeypatch.setitem(PPO.policy_aliases, "MlpPolicy", Policy)
    agent = trained("sb3-ppo")
    torch.rand(3, generator=agent.policy.stream.generator)
    path = save_checkpoint(agent, tmp_path)
    loaded = load_checkpoint(path)
    stored = find_checkpoint(path).tensors
    assert "modules/policy/action_net.weight" in stored
    assert "modules/policy/same.weight" not in stored
    assert loaded.policy.same.weight is loaded.policy.action_net.weight
    ours, theirs = (torch.rand(4, generator=a.policy.stream.generator) for a in (agent, loaded))
    assert torch.equal(ours, theirs)
    assert digest(loaded) == digest(agent)


@pytest.mark.parametrize("name", ["sb3-sac", "sb3-ppo", "sb3-a2c"])
def test_a_description_is_that_of_the_agent_it_makes(tmp_path: Path, name: str) -> None:
    """Through JSON and a new agent it comes back equal, schedules and classes included."""
    kwargs = {"net_arch": [8], "activation_fn": nn.Tanh}
    agent = make(name, learning_rate=LinearSchedule(1e-3, 1e-4, 0.5), policy_kwargs=kwargs)
    description = describe(agent)
    again = AgentDescription.from_dict(json.loads(jsonio.dumps(asdict(description))))
    made = make_agent(again, again.make_env(again.n_envs), seed=0)
    assert describe(made) == description == again
    assert made.policy.activation_fn is nn.Tanh
    assert made.learning_rate(0.9) == agent.learning_rate(0.9)


def test_an_environment_is_made_again_only_as_it_was(tmp_path: Path) -> None:
    """By id and options; an environment with further wrappers, or with no id, is asked for."""
    env = gymnasium.make("Corridor-v0", max_episode_steps=7)
    description = describe(PPO("MlpPolicy", env, n_steps=16, batch_size=8))
    assert (description.env, description.env_options) == ("Corridor-v0", {"max_episode_steps": 7})
    path = save_checkpoint(PPO("MlpPolicy", env, n_steps=16, batch_size=8), tmp_path / "id")
    assert load_checkpoint(path).get_env().get_attr("spec")[0].max_episode_steps == 7
    for name, env in {
        "wrapped": wrappers.NormalizeObservation(corridor()),
        "bare": Corridor(),
    }.items():
        path = save_checkpoint(PPO("MlpPolicy", env, n_steps=16, batch_size=8), tmp_path / name)
        with pytest.raises(VaerlLoadError, match=r"env '' cannot be made .*; pass env="):
            load_checkpoint(path)
        load_checkpoint(path, env)


def test_in_a_run_the_configuration_describes_the_agent(tmp_path: Path) -> None:
    """The checkpoint itself holds no description, and away from its run it says what is missing."""
    agent = trained("sb3-ppo")
    run = RunDirectory(tmp_path / "run").create({**asdict(describe(agent)), "steps": 40})
    path = save_checkpoint(agent, run.checkpoints_path, described=True)
    assert "agent" not in find_checkpoint(path).manifest
    assert digest(load_checkpoint(run.path)) == digest(agent)
    shutil.move(path, tmp_path / "away" / "checkpoints" / path.name)
    with pytest.raises(VaerlLoadError, match=r"config\.json: missing"):
        load_checkpoint(tmp_path / "away")


def test_what_is_not_pure_data_is_refused_by_name(tmp_path: Path) -> None:
    """A save says which argument is no data, and what a checkpoint can hold."""
    agent = make("sb3-ppo", policy_kwargs={"net_arch": [8], "activation_fn": nn.Tanh})
    assert load_checkpoint(save_checkpoint(agent, tmp_path)).policy.activation_fn is nn.Tanh
    agent.policy_kwargs["activation_fn"] = lambda: nn.Tanh()
    with pytest.raises(ValueError, match=r"^policy_kwargs:activation_fn: .* is not pure data"):
        save_checkpoint(agent, tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate: .* is not pure data"):
        describe(make("sb3-ppo", learning_rate=lambda progress: 1e-3 * progress))

    class Mine(PPO):
        pass

    mine = Mine("MlpPolicy", Corridor(), n_steps=16, batch_size=8)
    with pytest.raises(ValueError, match="agent Mine has no registered name"):
        save_checkpoint(mine, tmp_path)
    mine.world_model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Mine\.world_model would be lost"):
        Parts(mine)


def test_a_diverged_agent_is_not_saved(tmp_path: Path) -> None:
    """A parameter that is not finite is named, and the earlier checkpoint stays the last."""
    agent = trained("sb3-a2c")
    good = save_checkpoint(agent, tmp_path)
    agent.policy.value_net.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"parameter policy/value_net\.bias is not finite"):
        save_checkpoint(agent, tmp_path)
    assert find_checkpoint(tmp_path).path == good


def test_an_environment_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """The message shows both spaces."""
    path = save_checkpoint(trained("sb3-sac"), tmp_path)

    class Wider(Corridor):
        observation_space = spaces.Box(-5.0, 5.0, (3,))

    class Stronger(Corridor):
        action_space = spaces.Box(-2.0, 2.0, (1,))

    with pytest.raises(
        VaerlLoadError, match=r"observation space: got .*\(3,\).* expected .*\(2,\)"
    ):
        load_checkpoint(path, Wider())
    with pytest.raises(VaerlLoadError, match=r"action space: got .*2\.0.* expected .*1\.0"):
        load_checkpoint(path, Stronger())


def test_the_newest_checkpoint_is_the_last_one_saved(tmp_path: Path) -> None:
    """A run that went back to an earlier step goes on from there."""
    agent = trained("sb3-a2c")
    for step in (10, 20, 15):
        save_checkpoint(agent, tmp_path, num_timesteps=step, keep_last=2)
    assert [int(p.name.split("-")[0]) for p in list_checkpoints(tmp_path)] == [15, 20]
    assert find_checkpoint(tmp_path).num_timesteps == 15
    assert len(os.listdir(tmp_path)) == 2


def test_a_damaged_checkpoint_gives_way_to_an_older_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each that fails, then the newest that holds together."""
    agent = trained("sb3-a2c")
    run = tmp_path / "run"
    paths = [
        save_checkpoint(agent, run / "checkpoints", num_timesteps=step) for step in (10, 20, 30, 40)
    ]
    data = (paths[3] / "agent.safetensors").read_bytes()
    (paths[3] / "agent.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (paths[2] / "manifest.json").unlink()
    assert find_checkpoint(run).path == paths[1]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "SHA-256" in said[0] and "manifest.json: missing" in said[1]
    assert find_checkpoint(run / "checkpoints").path == paths[1]
    with pytest.raises(VaerlLoadError, match=r"SHA-256"):
        load_checkpoint(paths[3])
    for path in paths[:2]:
        (path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(VaerlLoadError, match=r"no checkpoint in .* can be loaded: .*SHA-256.*; "):
        load_checkpoint(run)
    with pytest.raises(VaerlLoadError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)
    with pytest.raises(VaerlLoadError, match="no such checkpoint or run"):
        load_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize("mode", ["crash", "torn", "ENOSPC"])
def test_whatever_call_fails_a_complete_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """At every write, fsync and rename of a save: the old or the new checkpoint verifies."""
    agent = make("sb3-a2c", policy_kwargs={"net_arch": []})
    base = tmp_path / "base"
    for step in (10, 20):
        save_checkpoint(agent, base, num_timesteps=step)
    shutil.copytree(base, tmp_path / "count")
    ops = FaultyOs()
    monkeypatch.setattr(files, "os", ops)
    save_checkpoint(agent, tmp_path / "count", num_timesteps=30, keep_last=1)
    assert {"open", "write", "fsync", "rename", "makedirs"} <= set(ops.calls)
    calls = [at for at, call in enumerate(ops.calls) if mode != "torn" or call == "write"]
    for at in calls:
        folder = tmp_path / f"{at}"
        shutil.copytree(base, folder)
        before = read_all(folder)
        monkeypatch.setattr(files, "os", FaultyOs(at, mode))
        outcome = "saved"
        try:
            save_checkpoint(agent, folder, num_timesteps=30, keep_last=1)
        except WriteError as error:
            assert error.errno == errno.ENOSPC
            outcome = "refused"
        except Crash:
            outcome = "crashed"
        monkeypatch.setattr(files, "os", OsWithoutFsync())
        found = find_checkpoint(folder).num_timesteps
        assert found in ((30,) if outcome == "saved" else (20, 30)), (at, ops.calls[at])
        if outcome == "refused":
            assert before.items() <= read_all(folder).items(), (at, ops.calls[at])
        if at % 5 == 0:  # what the failure left is in nobody's way, and gone
            save_checkpoint(agent, folder, num_timesteps=40)
            assert find_checkpoint(folder).num_timesteps == 40
            assert not [name for name in os.listdir(folder) if name.startswith(".")]
        shutil.rmtree(folder)


class OsWithoutFsync(FaultyOs):
    """Works; leaves out the slow flush."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    """kill -9 at random moments of saving without pause: never nothing to load."""
    agent = trained("sb3-a2c")
    save_checkpoint(agent, tmp_path, num_timesteps=1)
    pauses = random.Random(0)
    last = 1
    for _ in range(5):
        newest = list_checkpoints(tmp_path)[0]
        child = os.fork()
        if child == 0:
            try:
                for step in range(last + 1, last + 10_000):
                    save_checkpoint(agent, tmp_path, num_timesteps=step, keep_last=2)
            finally:
                os._exit(1)
        until = time.monotonic() + 60
        while list_checkpoints(tmp_path)[0] == newest and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(pauses.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found = find_checkpoint(tmp_path)
        assert found.num_timesteps >= last
        last = found.num_timesteps
    loaded = load_checkpoint(tmp_path).policy.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in agent.policy.state_dict().items())
