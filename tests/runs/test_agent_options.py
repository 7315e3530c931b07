"""Agent options are checked before anything is built: legal ones pass, others cost one line."""

from __future__ import annotations

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
        ("ent_coef", True),
        ("ent_coef", float("inf")),
        ("buffer_size", 0),
        ("buffer_size", 10.0),
        ("train_freq", [0, "episode"]),
        ("train_freq", [1]),
        ("action_noise", "normal"),
        ("policy_kwargs", [8]),
        ("relative_entropy", "yes"),
        ("relative_entropy", 1),
        ("replay_buffer_kwargs", "none"),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ent_coef": "auto_0"}, "ent_coef: got 'auto_0', expected"),
        ({"ent_coef": "anneal_10"}, "ent_coef: got 'anneal_10', expected"),
        ({"ent_coef": "nan"}, "ent_coef: got 'nan', expected"),
        ({"target_entropy": "modes_0"}, "target_entropy: got 'modes_0', expected"),
        ({"target_entropy": "many"}, "target_entropy: got 'many', expected"),
        ({"optimize_memory_usage": True}, "handle_timeout_termination = True"),
        ({"train_freq": [1, "day"]}, "'step' or 'episode' not 'day'"),
        ({"policy_kwargs": {"net_arc": [8]}}, "did you mean 'net_arch'"),
    ],
)
def test_the_agent_refuses_the_rest_in_one_line(options: dict[str, Any], message: str) -> None:
    config = TrainConfig(env="Pendulum-v1", agent_options=options)
    with pytest.raises(ValueError) as error:
        check_config(config)
        make_agent(config, make_vec_env("Pendulum-v1"), seed=0)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_buffer_that_saves_memory_is_made_but_not_for_a_model() -> None:
    """A model is fitted to next observations, which such a buffer does not keep."""
    saving = {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
        "buffer_size": 10,
    }
    env = make_vec_env("Pendulum-v1")
    config = TrainConfig(env="Pendulum-v1", agent_options=saving)
    check_config(config)
    agent: Any = make_agent(config, env, seed=0)
    assert agent.replay_buffer.optimize_memory_usage
    with pytest.raises(ValueError, match="optimize_memory_usage: got True, expected False"):
        make_agent(TrainConfig(env="Pendulum-v1", agent="mbpo", agent_options=saving), env, seed=0)


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


@pytest.mark.parametrize("agent", ["sac", "ppo", "bc"])
def test_an_option_of_the_policy_is_sent_to_policy_kwargs(agent: str) -> None:
    with pytest.raises(ValueError, match=r"'net_arch', an option of its policy.*policy_kwargs$"):
        check_agent_options(agent, {"net_arch": [8]})
    with pytest.raises(ValueError, match=r"got 'lerning_rate', did you mean 'learning_rate'\?"):
        check_agent_options(agent, {"lerning_rate": 0.1})
