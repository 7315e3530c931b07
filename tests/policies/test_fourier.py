"""Critics over waves of the action: they learn what is narrow, and stay SB3's in all else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch

from tests.policies.common import ACT, OBS, TinyEnv, sac_policy
from vaerl.agents import SAC
from vaerl.envs import bandit
from vaerl.policies import SACPolicy


def fit_error(waves: int) -> float:
    """Mean squared error of the first critic on sin(20 a) after some hundred updates."""
    torch.manual_seed(0)
    policy = sac_policy(critic_frequencies=waves, critic_bandwidth=12.0)
    critic, generator = policy.critic, torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(400):
        actions = 2.0 * torch.rand((128, 2), generator=generator) - 1.0
        error = critic(torch.zeros(128, 3), actions)[0] - torch.sin(20.0 * actions[:, :1])
        loss = error.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_waves_learn_what_coordinates_do_not() -> None:
    plain, waves = fit_error(0), fit_error(64)
    assert plain > 0.3 and waves < 0.1, (plain, waves)


def test_they_are_saved_and_work_in_unmodified_sb3(tmp_path: Any) -> None:
    kwargs = {"net_arch": [16], "critic_frequencies": 5, "critic_bandwidth": 2.0}
    for cls in (SAC, stable_baselines3.SAC):
        agent: Any = cls(
            SACPolicy, TinyEnv(), learning_starts=8, buffer_size=50, policy_kwargs=kwargs
        ).learn(20)
        agent.save(tmp_path / "agent")
        other: Any = cls.load(tmp_path / "agent")
        obs, actions = torch.zeros(3, 2), torch.rand(3, 2)
        for mine, theirs in zip(
            agent.critic(obs, actions), other.critic(obs, actions), strict=True
        ):
            assert torch.equal(mine, theirs)
    assert torch.equal(agent.critic.waves, agent.critic_target.waves)


@pytest.mark.parametrize(
    "kwargs", [{"critic_frequencies": -1}, {"critic_frequencies": 4, "critic_bandwidth": 0.0}]
)
def test_illegal_settings_are_refused(kwargs: Any) -> None:
    name = list(kwargs)[-1]
    with pytest.raises(ValueError, match=f"{name}: got"):
        SACPolicy(OBS, ACT, lambda _: 1e-3, **kwargs)


def missed_on_the_bandit(waves: int, updates: int = 2000) -> float:
    """KL(exp Q ‖ target) in nats of a critic fitted to the 40-mode bandit's rewards."""
    torch.manual_seed(0)
    critic = SACPolicy(
        OBS,
        ACT,
        lambda _: 1e-3,
        net_arch={"pi": [8], "qf": [128, 128]},
        n_critics=1,
        critic_frequencies=waves,
    ).critic
    rng = np.random.default_rng(0)
    points = np.concatenate(
        (bandit.sample(10_000, rng), rng.uniform(-bandit.SCALE, bandit.SCALE, (10_000, 2)))
    )
    actions = torch.as_tensor(points / bandit.SCALE, dtype=torch.float32)
    rewards = torch.as_tensor(bandit.log_prob(points), dtype=torch.float32)[:, None]
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    state = torch.zeros(256, 3)
    for rows in torch.randint(len(actions), (updates, 256)):
        loss = (critic(state, actions[rows])[0] - rewards[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    side = (torch.arange(160) + 0.5) / 80 - 1.0
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        q = critic(torch.zeros(len(grid), 3), grid)[0].squeeze(1)
    log_q = torch.log_softmax(q.double(), 0)
    target = bandit.log_prob(bandit.SCALE * grid.double().numpy())
    log_p = torch.log_softmax(torch.as_tensor(target), 0)
    return float((log_q.exp() * (log_q - log_p)).sum())


@pytest.mark.slow
def test_waves_see_the_modes_of_the_bandit() -> None:
    plain, waves = missed_on_the_bandit(0), missed_on_the_bandit(64)
    assert plain > 1.0 and waves < 0.1, (plain, waves)
