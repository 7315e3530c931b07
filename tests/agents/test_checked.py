"""What the constructors, `learn` and `predict` cannot use costs one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runs.tiny import BitFlippingEnv, corridor
from vaerl.agents import BC, MPC, PPO, SAC


def sac(**options: Any) -> SAC:
    return SAC("gaussian", corridor(), **{"buffer_size": 10, **options})


def ppo(**options: Any) -> PPO:
    return PPO("gaussian", corridor(), **{"n_steps": 8, "batch_size": 8, **options})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"{name} {value!r}": (lambda name=name, value=value: sac(**{name: value}), f"{name}: got ")
        for name, values in {
            "buffer_size": (0, -1, 1.5),
            "batch_size": (0, -3),
            "gamma": (-0.1, 1.1, float("nan")),
            "tau": (-1, 2.0),
            "learning_rate": (-1.0, 1e4, "fast"),
            "learning_starts": (-1, 0.5),
            "train_freq": (0, -1, (0, "step")),
            "gradient_steps": (-2, 1.5),
            "target_update_interval": (0,),
            "ent_coef": (-1, "fast"),
            "stats_window_size": (0,),
            "seed": (-1, "x", 2**32, 1.5),
            "policy_kwargs": (5, "x"),
        }.items()
        for value in values
    },
    **{
        f"PPO {name} {value!r}": (lambda n=name, v=value: ppo(**{n: v}), f"{name}: got ")
        for name, value in {
            "clip_range": -0.1,
            "gae_lambda": 1.5,
            "n_epochs": 0,
            "batch_size": 0,
            "max_grad_norm": -1.0,
            "target_kl": -1.0,
            "vf_coef": -1.0,
        }.items()
    },
    **{
        f"learn {value!r}": (
            lambda value=value: sac().learn(value),
            "total_timesteps: got .*, expected a whole number, 0 or more",
        )
        for value in (-1, "x", 2.5, float("nan"), True)
    },
    "PPO learn": (lambda: ppo().learn(-1), "total_timesteps: got -1"),
    **{
        f"{cls.__name__} without env": (lambda cls=cls: cls("gaussian", None), "env: got None")
        for cls in (SAC, PPO, MPC, BC)
    },
    "env 5": (lambda: SAC("gaussian", 5), "env: got 5, expected an environment or its id"),  # type: ignore[arg-type]
    "policy 5": (lambda: SAC(5, corridor()), "policy: got 5, expected a density's name"),  # type: ignore[arg-type]
    "policy None": (lambda: PPO(None, corridor()), "policy: got None"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_argument_out_of_its_range_is_named(name: str) -> None:
    make, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_file_of_another_agent_is_refused_in_one_line(tmp_path: Path) -> None:
    sac().save(tmp_path / "sac.zip")
    with pytest.raises(ValueError, match=r"policy: got SACPolicy, expected .*ActorCriticPolicy"):
        PPO.load(tmp_path / "sac.zip")


@pytest.mark.parametrize("make", [SAC, PPO])
def test_a_dict_without_a_key_is_named(make: Any) -> None:
    env = BitFlippingEnv(n_bits=3, continuous=True)
    options = {"buffer_size": 10} if make is SAC else {"n_steps": 8, "batch_size": 8}
    agent = make("gaussian", env, **options)
    seen, _ = env.reset()
    assert agent.predict(seen)[0].shape == (3,)
    less = {key: value for key, value in seen.items() if key != "achieved_goal"}
    for given in (less, {**seen, "more": np.zeros(1)}, np.zeros(3)):
        with pytest.raises(ValueError, match=r"observation: got .*, expected a dict with the keys"):
            agent.predict(given)


def test_learning_nothing_is_legal() -> None:
    assert sac().learn(0).num_timesteps == 0
