"""Agent options are checked before anything is built: legal ones pass, others cost one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.env_util import make_vec_env

from vaerl.runs.agent_options import check_agent_options
from vaerl.runs.build import make_agent
from vaerl.runs.checkpoint import save_checkpoint
from vaerl.runs.checkpoint_load import load_checkpoint
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
        ("target_entropy", "modes_0"),
        ("target_entropy", "many"),
        ("gamma", 1.5),
        ("gamma", "lin_0.9"),
        ("learning_rate", "lin"),
        ("learning_rate", "lin_-1"),
        ("learning_rate", "lin_1e-3_0_1"),
        ("learning_rate", "linear_1e-3"),
    ],
)
def test_what_sac_refuses_is_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        check_agent_options("sac", {name: value})
    text = str(error.value)
    assert f"{name}: got {value!r}" in text and "expected" in text and "\n" not in text


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
