"""Rewards in units of the deviation of the return stay within bounds."""

from __future__ import annotations

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
