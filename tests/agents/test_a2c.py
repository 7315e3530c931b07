"""A2C over densities: what RMSprop's first steps must not do."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from vaerl.agents import A2C
from vaerl.policies import ActorCriticPolicy


class Endless(gymnasium.Env):
    """Four states in a row, a reward of 1 at every step: worth 1 / (1 − γ) everywhere."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = 0
        return self.state, {}

    def step(self, action: np.ndarray) -> Any:
        self.state = (self.state + 1) % 4
        return self.state, 1.0, False, False, {}


@pytest.mark.parametrize("agent", [A2C, stable_baselines3.A2C])
def test_a_large_learning_rate_does_not_stop_the_critic(agent: Any) -> None:
    """SB3's own test: a latent density's gradients stay small, so that the clipped sum of all
    leaves room for the critic's."""
    env = TimeLimit(Endless(), 8)
    policy = {"net_arch": [32], "density": "cvae"}
    made = agent(
        ActorCriticPolicy, env, learning_rate=0.01, gamma=0.98, seed=1, policy_kwargs=policy
    ).learn(500)
    value = made.policy.predict_values(made.policy.obs_to_tensor(0)[0]).item()
    assert abs(value - 50.0) < 1.0
    actions = made.policy.get_distribution(made.policy.obs_to_tensor(0)[0]).sample()
    assert bool((actions.abs() < 100.0).all())


def test_other_optimizers_are_left_alone() -> None:
    """And other densities."""
    for density, optimizer, groups in (
        ("cvae", torch.optim.RMSprop, 2),
        ("gaussian", torch.optim.RMSprop, 1),
        ("cvae", torch.optim.Adam, 1),
    ):
        kwargs = {"density": density, "optimizer_class": optimizer, "net_arch": [8]}
        made = A2C(ActorCriticPolicy, TimeLimit(Endless(), 8), policy_kwargs=kwargs)
        assert len(made.policy.optimizer.param_groups) == groups
