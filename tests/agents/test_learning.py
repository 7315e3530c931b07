"""The agents learn: two modes that a Gaussian cannot hold, and acting like the observation."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.policies.common import TinyEnv
from vaerl.agents import PPO, SAC


class TwoModes(gym.Env):
    """One step; the reward peaks at −0.6 and at 0.6."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        reward = float(np.exp(-0.5 * ((abs(action[0]) - 0.6) / 0.2) ** 2))
        return np.zeros(1, np.float32), reward, True, False, {}


@pytest.mark.parametrize(("density", "holds_both"), [("gaussian", False), ("cvae", True)])
def test_two_modes(density: str, holds_both: bool) -> None:
    """At temperature 0.25 half the optimum's mass lies at each peak and little between.

    The CVAE finds it; a Gaussian has to leave one peak or to cover the valley.
    """
    agent = SAC(
        density,
        TwoModes(),
        learning_starts=250,
        train_freq=250,
        gradient_steps=250,
        batch_size=64,
        learning_rate=3e-3,
        ent_coef=0.25,
        gamma=0.0,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [32, 32]},
    ).learn(750)
    actions = agent.density_value(np.zeros((1, 1), np.float32)).sample((4000,)).flatten().numpy()
    left, right, valley = ((np.abs(actions - c) < 0.3).mean() for c in (-0.6, 0.6, 0.0))
    held = bool(min(left, right) > 0.15 and valley < 0.2)
    assert held is holds_both, (left, right, valley)


def test_ppo_learns_to_act_like_the_observation() -> None:
    """The mean absolute error of the deterministic action falls well below its start."""
    agent = PPO(
        "cvae",
        TinyEnv(),
        n_steps=256,
        batch_size=64,
        n_epochs=8,
        learning_rate=3e-3,
        gamma=0.0,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [32], "log_std_init": -0.5},
    )
    obs = np.random.default_rng(0).uniform(-1.0, 1.0, (256, 2)).astype(np.float32)

    def error() -> float:
        return float(np.abs(agent.predict(obs, deterministic=True)[0] - obs).mean())

    before = error()
    agent.learn(2048)
    after = error()
    assert after < 0.25 < 0.4 < before, (before, after)
