"""A regressed reward follows the outcome of its step, and rare ones are found."""

from __future__ import annotations

import math

import pytest
import torch

from tests.dynamics.test_fitting import two_ways
from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit, score

RARE = FitOptions(steps=600, batch_size=256, check_every=200)


def rare_rewards(count: int, seed: int) -> Transitions:
    """s' = s + a/10, and a reward of 1 at the edge, for 2.6 per cent of the rows."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.rand(count, 1, generator=generator)
    actions = 2.0 * torch.rand(count, 1, generator=generator) - 1.0
    after = states + 0.1 * actions
    return Transitions(states, actions, after, (after > 1.0).float()[:, 0])


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_rare_rewards_are_found_by_regression(density: str) -> None:
    """A likelihood widens where they are and leaves its mean near 0; squared error finds the mean,
    of all rows and at the edge."""
    data, mean, edge = rare_rewards(4000, 1), {}, {}
    for reward in ("learned", "regressed"):
        torch.manual_seed(0)
        model = DynamicsModel(1, 1, density=density, members=2, reward=reward)
        fit(model, data, RARE, torch.Generator().manual_seed(2))
        drawn = model.step(data.states, data.actions, torch.Generator().manual_seed(0)).rewards
        mean[reward] = drawn.mean().item() / data.rewards.mean().item()
        edge[reward] = drawn[data.rewards == 1.0].mean().item()
    assert abs(mean["regressed"] - 1.0) < 0.3 < 0.5 < 1.0 - mean["learned"], mean
    assert edge["regressed"] > 0.15 > 0.08 > edge["learned"], edge


@pytest.mark.parametrize("propagation", ["ts1", "tsinf"])
def test_the_reward_belongs_to_the_outcome_that_is_drawn(propagation: str) -> None:
    """Where a step has two outcomes, each draw gets the reward of its own."""
    data = two_ways(2000, 1)
    change = (data.next_states - data.states - data.actions)[:, 0]
    data = Transitions(data.states, data.actions, data.next_states, (change > 0.0).float())
    torch.manual_seed(0)
    model = DynamicsModel(
        1, 1, density="cvae", members=2, reward="regressed", propagation=propagation
    )
    options = FitOptions(steps=250, batch_size=64, learning_rate=5e-3)
    fit(model, data, options, torch.Generator().manual_seed(2))
    step = model.step(data.states, data.actions, torch.Generator().manual_seed(0))
    up = (step.next_states - data.states - data.actions)[:, 0] > 0.0
    assert 0.4 < up.float().mean() < 0.6
    assert (step.rewards - up.float()).abs().mean() < 0.1


def test_it_counts_as_a_gaussian_in_units_of_the_data() -> None:
    """A network of 0 is off by the rewards' own deviation: ½ log 2πe + log of it."""
    data = two_ways(200, 1)
    rewards = 3.0 + 5.0 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    paid = Transitions(data.states, data.actions, data.next_states, rewards)
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="gaussian", members=2, reward="regressed")
    model.standardise(paid)
    plain = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    plain.load_state_dict(model.state_dict(), strict=False)
    last = model.networks["reward"][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    model.changed()
    expected = 0.5 * math.log(2.0 * math.pi * math.e) + rewards.std(correction=0).log()
    torch.testing.assert_close(
        score(model, paid) - score(plain, data), expected.expand(2), rtol=1e-5, atol=1e-5
    )
    step = model.step(data.states, data.actions)
    torch.testing.assert_close(step.rewards, rewards.mean().expand(200), rtol=1e-6, atol=1e-5)


def test_the_mean_path_has_the_reward_of_its_step() -> None:
    """Under "expectation": the mean over members, each at its own mean outcome."""
    torch.manual_seed(0)
    model = DynamicsModel(
        1, 1, density="gaussian", members=2, reward="regressed", propagation="expectation"
    )
    with torch.no_grad():
        model.networks["reward"][-1].weight.zero_()
        model.networks["reward"][-1].bias.copy_(torch.tensor([1.0, 4.0]).view(2, 1, 1))
    model.changed()
    assert model.step(torch.zeros(3, 1), torch.zeros(3, 1)).rewards.tolist() == [2.5] * 3


def test_whole_numbers_may_pay_too() -> None:
    """A reward beside whole changes is refused in one law, and regressed beside it."""
    states = torch.zeros(50, 1)
    moves = torch.randint(2, (50, 1), generator=torch.Generator().manual_seed(0)).float()
    data = Transitions(states, moves, states + moves, 0.3 * moves[:, 0])
    model = DynamicsModel(
        1, 1, density="cvae", density_kwargs={"whole": True}, members=2, reward="regressed"
    )
    report = fit(model, data, FitOptions(steps=20, check_every=10), torch.Generator())
    assert math.isfinite(report.score)
    with pytest.raises(ValueError, match=r"rewards: got None, expected \(N,\)"):
        fit(model, Transitions(states, moves, states + moves))
