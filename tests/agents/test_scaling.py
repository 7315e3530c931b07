"""Rewards in units of the deviation of the return stay within bounds."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import wrappers

from tests.agents.model_tasks import Walk
from tests.agents.test_mbpo import FAST as MODEL
from tests.policies.common import TinyEnv
from vaerl.agents import MBPO, SAC
from vaerl.agents.scaling import ReturnScale
from vaerl.policies.critic_heads import Backup

FAST: dict[str, Any] = {
    "learning_starts": 0,
    "batch_size": 8,
    "buffer_size": 64,
    "policy_kwargs": {"net_arch": [8]},
}


def learned_from(agent: Any, steps: int) -> list[torch.Tensor]:
    """The rewards that critics learn from."""
    seen: list[torch.Tensor] = []
    regress = agent._critics.regress

    def spy(step: Any) -> torch.Tensor:
        backup: Backup = step.backup
        seen.append(backup.rewards.clone())
        return regress(step)

    agent.native, agent._critics.regress = False, spy
    agent.learn(steps)
    return seen


def test_rewards_stay_within_ten_deviations() -> None:
    """As in VecNormalize: of the first return alone no deviation is known, and a large reward
    among small ones would swamp the critics."""
    first, *_ = learned_from(SAC("gaussian", TinyEnv(), scale_rewards=True, **FAST), 2)
    assert first.unique().tolist() == [-10.0]
    same = wrappers.TransformReward(TinyEnv(), lambda r: 3.0)
    agent = SAC("gaussian", same, scale_rewards=True, gamma=0.0, **FAST)
    assert {float(r) for batch in learned_from(agent, 12) for r in batch} == {10.0}
    model = MBPO(
        "gaussian", wrappers.TransformReward(Walk(), lambda r: 3.0), dynamics="gaussian",
        scale_rewards=True, gamma=0.0, real_share=0.5, **MODEL,
    )  # fmt: skip
    assert max(float(batch.abs().max()) for batch in learned_from(model, 40)) <= 10.0


def test_ordinary_rewards_are_only_divided() -> None:
    scale = ReturnScale(0.9)
    for reward in np.random.default_rng(0).normal(size=(50, 4)):
        scale.update(reward, np.zeros(4, bool))
    rewards = torch.randn(32, 1)
    deviation = float(scale.moments.running_var.sqrt()) + 1e-8
    assert torch.equal(scale(rewards), rewards / torch.tensor(deviation, dtype=torch.float32))
    assert scale(100.0 * torch.ones(2)).tolist() == pytest.approx([10.0, 10.0], rel=1e-7)
    assert bool(torch.isnan(scale(torch.tensor([torch.nan]))).all())


@pytest.mark.parametrize("shape", ["steady", "drifting"])
def test_scaled_returns_stay_within_what_a_critic_can_name(shape: str) -> None:
    """Also where the return hardly varies: there the deviation alone divides by far too little."""
    rng = np.random.default_rng(0)
    scale = ReturnScale(0.99, support=5.0)
    plain = ReturnScale(0.99)
    largest, total = 0.0, 0.0
    for step in range(3000):
        reward = 1.0 + 0.1 * rng.normal() + (step / 1000.0 if shape == "drifting" else 0.0)
        total = 0.99 * total + reward
        largest = max(largest, abs(total))
        for sees in (scale, plain):
            sees.update(np.array([reward]), np.array([False]))
    unit = float(scale(torch.tensor([0.01])) / 0.01)
    assert largest * unit <= 5.0 * (1.0 + 1e-5)
    beyond = largest * float(plain(torch.tensor([0.01])) / 0.01)
    assert (beyond > 5.0) == (unit * largest == pytest.approx(5.0, rel=1e-5)), beyond


def test_errors_of_a_model_are_not_blown_up_before_a_first_reward() -> None:
    """All real rewards are 0; a critic with named values counts in units of the largest return."""
    for support in (math.inf, 5.0):
        scale = ReturnScale(0.9, support=support)
        for _ in range(5):
            scale.update(np.zeros(2), np.zeros(2, bool))
        wrong = torch.tensor([0.02, -0.01])
        torch.testing.assert_close(scale(wrong), wrong, rtol=1e-6, atol=0.0)
    scale = ReturnScale(0.0, support=5.0)
    for _ in range(2):
        scale.update(np.full(1, 20.0), np.zeros(1, bool))
    assert scale(torch.tensor([20.0])).tolist() == pytest.approx([5.0])


def test_returns_beyond_what_a_critic_can_name_are_told_once() -> None:
    """Where nothing scales rewards; targets are cut there."""
    high = wrappers.TransformReward(TinyEnv(), lambda r: 3.0)
    options = {**FAST, "gamma": 0.9, "critic": "xqc"}
    with pytest.warns(UserWarning, match=r"return of size 5\.7, but its values end at 5") as told:
        SAC("gaussian", high, **options).learn(30)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SAC("gaussian", high, scale_rewards=True, **options).learn(30)
        SAC("gaussian", high, critic_options={"support": 50.0}, **options).learn(30)
        SAC("gaussian", high, **{**options, "critic": "sac"}).learn(30)
