"""Errors by horizon: known for a model whose drift and noise are."""

from __future__ import annotations

import pytest
import torch

from vaerl.dynamics import DynamicsModel, Transitions, horizon_errors

SIGMA, DRIFT = 0.5, 0.25


def still() -> DynamicsModel:
    """A model in which nothing moves but by noise of 0.5 a step, and the reward is such noise."""
    torch.manual_seed(0)
    options = {"variance": "fixed", "sigma": SIGMA}
    model = DynamicsModel(1, 1, density="gaussian", density_kwargs=options, members=2)
    with torch.no_grad():
        for parameter in model.networks["density"].mean_head.parameters():
            parameter.zero_()
    return model


def walks(drift: float, episodes: int = 200, length: int = 12) -> Transitions:
    """Walks with the noise of that model and a drift, from far apart."""
    generator = torch.Generator().manual_seed(0)
    moves = drift + SIGMA * torch.randn(episodes, length, 1, generator=generator)
    after = moves.cumsum(1) + 10.0 * torch.randn(episodes, 1, 1, generator=generator)
    rewards = SIGMA * torch.randn(episodes * length, generator=generator)
    numbers = torch.arange(episodes).repeat_interleave(length)
    actions = torch.zeros(episodes * length, 1)
    before = (after - moves).flatten(0, 1)
    return Transitions(before, actions, after.flatten(0, 1), rewards, episodes=numbers)


def test_a_true_model_is_off_by_its_own_spread() -> None:
    """After k steps both are σ √k, PIT values are uniform, and rewards as hard as they are."""
    data = walks(0.0)
    found = horizon_errors(still(), data, 9, 600, 200, torch.Generator().manual_seed(1))
    wanted = SIGMA * torch.arange(1, 10).sqrt() / data.states.std()
    # 600 starts in 200 episodes overlap: at least 200 independent errors, 5 / √400 of each
    torch.testing.assert_close(found.error, wanted, rtol=0.25, atol=0.0)
    torch.testing.assert_close(found.spread, wanted, rtol=0.05, atol=0.0)
    assert found.calibration.max() < 0.1
    assert found.reward.min() > 0.9 and found.reward.max() < 1.1


def test_a_drift_that_the_model_lacks_grows_with_the_steps() -> None:
    """The error is √(k² drift² + k σ²), the spread stays σ √k, and calibration gets worse."""
    data = walks(DRIFT)
    found = horizon_errors(still(), data, 9, 600, 200, torch.Generator().manual_seed(1))
    k = torch.arange(1, 10)
    wanted = (k**2 * DRIFT**2 + k * SIGMA**2).sqrt() / data.states.std()
    torch.testing.assert_close(found.error, wanted, rtol=0.25, atol=0.0)
    assert (found.error > 1.2 * found.spread)[4:].all()
    assert found.calibration[8] > 2.0 * found.calibration[0]


@pytest.mark.parametrize("starts", [50, 53])
def test_every_start_sees_all_members(starts: int) -> None:
    """Members that drift apart spread the particles of each start, for any number of starts."""
    model = still()
    with torch.no_grad():
        model.networks["density"].mean_head.bias.copy_(torch.tensor([[[-9.0]], [[9.0]]]))
    model.changed()
    found = horizon_errors(model, walks(0.0), 1, starts, 32, torch.Generator().manual_seed(1))
    wanted = (81.0 * 32 / 31 + SIGMA**2) ** 0.5 / walks(0.0).states.std()
    torch.testing.assert_close(found.spread[0], wanted, rtol=0.05, atol=0.0)


def test_refusals() -> None:
    data = walks(0.0)
    with pytest.raises(ValueError, match="data: got no episode of 13 steps"):
        horizon_errors(still(), data, 13)
    with pytest.raises(ValueError, match="data: got no episode of 1000 steps"):
        horizon_errors(still(), data, 1000)
    with pytest.raises(ValueError, match="data: got no episodes or no rewards"):
        horizon_errors(still(), Transitions(data.states, data.actions, data.next_states), 3)
