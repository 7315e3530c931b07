"""Several laws side by side: a wall ahead with a way on either side, where the middle crashes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vaerl.planning import BoxActions, DiscreteActions, make_planner

STATES, HORIZON = 128, 6
SETTINGS: dict[str, dict[str, Any]] = {
    "cem": {"population": 128, "iterations": 2},
    "mppi": {"population": 128, "iterations": 2},
    "icem": {"population": 128, "iterations": 2},
}


class Glide:
    """s = (x, y): an action moves x, and y rises by itself."""

    def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Tensor:
        """The next states."""
        return states + torch.stack((0.2 * actions[:, 0], torch.full_like(states[:, 1], 0.2)), 1)


def crashed(after: Tensor) -> Tensor:
    """Inside of the wall, at the height reached in the third step."""
    return (after[:, 0].abs() < 0.25) & ((after[:, 1] - 0.6).abs() < 0.05)


def reward(states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    """Straight ahead is best, but for the wall."""
    return -after[:, 0].abs() - 5.0 * crashed(after)


def crashes(plans: Tensor) -> float:
    """Share of plans ``(B, H, 1)`` that hit the wall."""
    at, hit = torch.zeros(len(plans), 2), torch.zeros(len(plans), dtype=torch.bool)
    for t in range(HORIZON):
        at = Glide().step(at, plans[:, t])
        hit |= crashed(at)
    return hit.float().mean().item()


def plan(name: str, modes: int, **settings: Any) -> Any:
    planner = make_planner(
        name,
        BoxActions([-1.0], [1.0]),
        horizon=HORIZON,
        particles=1,
        modes=modes,
        **SETTINGS[name],
        **settings,
    )
    noise = torch.Generator().manual_seed(0)
    found = planner.plan(Glide(), torch.zeros(STATES, 2), reward=reward, generator=noise)
    return planner, found


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_one_law_hits_the_wall_and_several_go_round(name: str) -> None:
    """Both act on the middle of a law; the states differ in their noise only."""
    one, several = (crashes(plan(name, modes)[1].actions) for modes in (1, 4))
    assert one > 0.3, one
    assert several < 0.05, several


def test_the_laws_of_icem_take_different_ways() -> None:
    """It acts on the best plan it has tried; its laws are the memory that the next step needs."""
    planner, found = plan("icem", 2)
    assert crashes(found.actions) == 0.0
    sides = planner.actions.centre(found.law).view(STATES, 2, HORIZON)[..., :3].sum(-1).sign()
    share = (sides.prod(1) < 0).float().mean().item()
    assert share > 0.8, share


def test_values_belong_to_the_law_acted_on() -> None:
    _, found = plan("cem", 4)
    at, total = torch.zeros(STATES, 2), torch.zeros(STATES)
    for t in range(HORIZON):
        after = Glide().step(at, found.actions[:, t])
        total += reward(at, found.actions[:, t], after)
        at = after
    torch.testing.assert_close(found.values, total)  # a sum of six, in another order at most


def test_a_warm_start_keeps_the_laws() -> None:
    planner, first = plan("cem", 2)
    noise = torch.Generator().manual_seed(1)
    again = planner.plan(
        Glide(), torch.zeros(STATES, 2), reward=reward, warm=first, generator=noise
    )
    assert len(again.law[0]) == 2 * STATES
    assert again.actions.shape == first.actions.shape


def test_choices_have_modes_too() -> None:
    """Plans over two choices: their traits count how often each was chosen by then."""
    traits = DiscreteActions(2).traits(torch.tensor([[[0, 1, 1], [0, 0, 1]]]))
    assert traits.tolist() == [[[1, 0, 1, 1, 1, 2], [1, 0, 2, 0, 2, 1]]]


def test_more_laws_than_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"modes: got 40, expected at most a quarter of .* 128"):
        plan("cem", 40)
    with pytest.raises(ValueError, match=r"elites: got 40, expected .* 128 / modes = 32"):
        plan("cem", 4, elites=40)
