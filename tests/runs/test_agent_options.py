"""Agent options are checked before anything is built: legal ones pass, others cost one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.env_util import make_vec_env

from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint
from vaerl.runs.agent_options import check_agent_options
from vaerl.runs.build import check_config, make_agent
from vaerl.runs.config import TrainConfig


@pytest.mark.parametrize(
    "options",
    [
        {"ent_coef": "auto_0.1"},
        {"ent_coef": "anneal_10_1", "improvement": "both"},
        {"ent_coef": "anneal_10_1_0.3"},
        {"target_entropy": "modes_4"},
        {"target_entropy": -3},
        {"target_entropy": "auto"},
        {"ent_coef": "0.1", "target_entropy": "-3"},
        {"replay_buffer_kwargs": None, "optimize_memory_usage": False},
        {
            "optimize_memory_usage": True,
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
        {"train_freq": [1, "episode"]},
        {"learning_rate": "lin_1e-3"},
        {"learning_rate": "lin_1e-3_1e-4"},
    ],
)
def test_what_sac_takes_passes(options: dict[str, Any]) -> None:
    check_agent_options("sac", options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ent_coef", "auto_0"),
        ("ent_coef", "anneal_10"),
        ("ent_coef", "anneal_1_0"),
        ("ent_coef", True),
        ("ent_coef", "nan"),
        ("ent_coef", float("inf")),
        ("relative_entropy", "yes"),
        ("relative_entropy", 1),
        ("optimize_memory_usage", True),
        ("replay_buffer_kwargs", "none"),
        ("target_entropy", "modes_0"),
        ("target_entropy", "many"),
        ("gamma", 1.5),
        ("gamma", "lin_0.9"),
        ("learning_rate", "lin"),
        ("learning_rate", "lin_-1"),
        ("learning_rate", "lin_1e-3_0_1_2"),
        ("learning_rate", "linear_1e-3"),
    ],
)
def test_what_sac_refuses_is_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        check_agent_options("sac", {name: value})
    text = str(error.value)
    assert f"{name}: got {value!r}" in text and "expected" in text and "\n" not in text


def test_a_saving_of_memory_says_what_else_it_needs() -> None:
    """And the buffer is made with it; a model has no use for such a buffer."""
    saving = {"optimize_memory_usage": True}
    kwargs = {"replay_buffer_kwargs": {"handle_timeout_termination": False}}
    with pytest.raises(ValueError) as error:
        check_agent_options("sac", saving)
    written = str(error.value).split("replay_buffer_kwargs=")[1].split(",")[0]
    assert json.loads(written) == kwargs["replay_buffer_kwargs"]
    config = TrainConfig(env="Pendulum-v1", agent_options=saving | kwargs | {"buffer_size": 10})
    check_config(config)
    agent: Any = make_agent(config, make_vec_env("Pendulum-v1"), seed=0)
    assert agent.replay_buffer.optimize_memory_usage
    with pytest.raises(ValueError, match="optimize_memory_usage: got True, expected false: its mo"):
        check_agent_options("mbpo", saving | kwargs)


def test_a_learning_rate_on_a_line_falls_and_comes_back_from_a_checkpoint(tmp_path: Path) -> None:
    """From START at the first step to END at the last, in the optimisers of the agent."""
    config = TrainConfig(
        env="Pendulum-v1",
        steps=40,
        agent_options={"learning_rate": "lin_1e-3_1e-4", "learning_starts": 10, "batch_size": 8},
    )
    agent: Any = make_agent(config, make_vec_env("Pendulum-v1"), seed=0)
    assert agent.actor.optimizer.param_groups[0]["lr"] == 1e-3
    agent.learn(40)
    assert agent.actor.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    save_checkpoint(agent, tmp_path / "checkpoint", num_timesteps=40)
    assert load_checkpoint(tmp_path / "checkpoint").lr_schedule(0.5) == pytest.approx(5.5e-4)
