"""A run that starts from the run of a clone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaerl.cli.main import app
from vaerl.data import collect
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import load_run, train

QUIET: dict[str, Any] = {"eval_every": 0, "picture_every": 0, "video": False, "final_episodes": 2}
AVOIDING = "vaerl/Avoiding-v0"
PPO: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}


def still(rng: np.random.Generator, env: Any) -> Any:
    return lambda observation: rng.uniform(-0.001, 0.001, 2)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    collect(AVOIDING, still, 2, out=folder / "demos", env_options={"max_episode_steps": 9})
    options = {"chunk": 4, "history": 2, "policy_kwargs": {"net_arch": [8]}}
    config = TrainConfig(
        AVOIDING,
        "bc",
        data=str(folder / "demos"),
        steps=2,
        agent_options=options,
        out=str(folder / "bc"),
        device="cpu",
        **QUIET,
    )
    return train(config).path


def config(clone: Path, **changes: Any) -> TrainConfig:
    fields = {"agent": "ppo", "agent_options": PPO, "from_": str(clone), "device": "cpu", **QUIET}
    return TrainConfig(AVOIDING, **{**fields, **changes})


def test_a_run_goes_on_from_a_clone_resumes_and_loads_without_it(
    clone: Path, tmp_path: Path
) -> None:
    """The clone's policy stands in config.json; its weights are the frozen part's."""
    run = train(config(clone, steps=8, out=str(tmp_path / "run")))
    policy = run.config["agent_options"]["policy_kwargs"]
    assert (policy["chunk"], policy["history"], policy["net_arch"]) == (4, 2, [8])
    assert run.evaluation() is not None
    again = train(config(clone, steps=16, out=str(run.path)), resume=True)
    assert again.status()["steps"] == 16
    cloned = load_run(clone)[0].policy.state_dict()
    moved = clone.rename(tmp_path / "moved")
    agent, _, step = load_run(run.path)
    moved.rename(clone)
    assert step == 16
    kept = agent.policy.clone.state_dict()
    names = [name for name in kept if "noise" not in name]
    assert all((kept[name] == cloned[name]).all() for name in names) and names
    action, state = agent.predict(np.zeros((3, 4), np.float32))
    assert action.shape == (3, 2)
    assert agent.predict(np.zeros((3, 4), np.float32), state)[0].shape == (3, 2)


def test_options_given_override_those_of_the_clone(clone: Path, tmp_path: Path) -> None:
    options = {**PPO, "policy_kwargs": {"execute": 1, "num_codes": 4}}
    run = train(config(clone, steps=8, agent_options=options, out=str(tmp_path / "run")))
    agent, _, _ = load_run(run.path)
    assert agent.policy.chunks.execute == 1 and len(agent.policy.codes.codes) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "mpc", "agent_options": {}}, "got agent 'mpc', expected one of sac, ppo"),
        ({"density": "mixture"}, "--density: got 'mixture', the clone has 'cvae'"),
        ({"from_": "no/run"}, "no such run"),
    ],
)
def test_what_fits_no_clone_is_refused_before_anything_is_written(
    clone: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(config(clone, steps=8, out=str(tmp_path / "run"), **changes))
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_agent_is_refused_under_the_name_of_the_option(
    clone: Path, tmp_path: Path
) -> None:
    other = train(config(clone, from_="", steps=8, out=str(tmp_path / "ppo"))).path
    with pytest.raises(ValueError, match=r"^--from: got PPO, expected an agent of behaviour"):
        train(config(other, steps=8, out=str(tmp_path / "run")))


def test_the_option_is_called_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["train", "--help"])
    assert "--from " in capsys.readouterr().out
