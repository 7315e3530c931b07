"""Models of changes that are whole numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit, log_density, predict


def model(density: str = "mixture", **options: Any) -> DynamicsModel:
    torch.manual_seed(0)
    given = {"reward": None, "members": 2, **options}
    return DynamicsModel(
        2, 2, density=density, density_kwargs={"whole": True}, discrete_actions=True, **given
    )


def walks(count: int = 2000) -> Transitions:
    """Action 0 stays, action 1 goes one or three cells to the right with equal chances."""
    torch.manual_seed(1)
    states = torch.randint(0, 5, (count, 2)).float()
    actions = torch.randint(0, 2, (count,))
    step = actions * (1 + 2 * torch.randint(0, 2, (count,)))
    return Transitions(states, actions, states + torch.stack((step, torch.zeros_like(step)), 1))


@pytest.mark.parametrize("density", ["mixture", "cvae"])
def test_a_walk_on_cells(density: str) -> None:
    """Its NLL comes to the entropy of the law, ½ log 2, and draws are cells of it."""
    world, data = model(density), walks()
    fit(world, data, FitOptions(steps=400, learning_rate=5e-3), torch.Generator().manual_seed(0))
    assert world.target_normaliser.scale.tolist() == [1.0, 1.0]
    nll = -log_density(world, data, 64).mean().item()
    assert nll == pytest.approx(0.5 * torch.tensor(2.0).log().item(), abs=0.08)
    start = torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    draws = predict(world, start, torch.tensor([0, 1]), 1000, torch.Generator().manual_seed(0))
    assert torch.equal(draws, draws.round())
    assert (draws[:, 0] == start[0]).all(1).float().mean() > 0.95
    share = [(draws[:, 1, 0] == x).float().mean().item() for x in (3.0, 5.0)]
    assert min(share) > 0.4 and sum(share) > 0.95


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match="reward: got 'learned' with whole=True, expected 'regressed'"
    ):
        model(reward="learned")
    with pytest.raises(ValueError, match="propagation: got 'expectation' with whole=True"):
        model(propagation="expectation")
    with pytest.raises(ValueError, match="whole: unknown option of density 'flow'"):
        model("flow", reward="learned")
    data = walks(50)
    with pytest.raises(ValueError, match=r"blur: got 0\.5, expected 0: the changes are whole"):
        fit(model(), data, FitOptions(steps=1, blur=0.5))
    far = Transitions(data.states, data.actions, data.states + 40.0 * data.actions[:, None])
    with pytest.raises(ValueError, match=r"changes with a spread of .* at most 10 with whole=True"):
        fit(model(), far, FitOptions(steps=1))
    rounded = Transitions(data.states + 0.1, data.actions, data.next_states + 0.1)
    assert torch.equal(model().targets(rounded), (data.next_states - data.states))
    data.next_states[7, 1] += 0.25
    with pytest.raises(ValueError, match=r"next_states: got a change of 0\.25 in row 7"):
        fit(model(), data, FitOptions(steps=1))
