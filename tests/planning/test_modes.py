"""Several laws side by side: a wall ahead with a way on either side, where the middle crashes."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from vaerl.planning import BoxActions, DiscreteActions, Plan, Planner, make_planner

STATES, HORIZON = 128, 6
FEWER_PASSES: dict[str, dict[str, Any]] = {"mppi": {"population": 128, "iterations": 2}}
"""With the defaults one law of MPPI hits the wall less often."""


class Glide:
    """s = (x, y): an action moves x, and y rises by itself."""

    def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Tensor:
        """The next states."""
        return states + torch.stack((0.2 * actions[:, 0], torch.full_like(states[:, 1], 0.2)), 1)


def crashed(after: Tensor, half: float = 0.25) -> Tensor:
    """Inside of the wall of such half width, at the height reached in the third step."""
    return (after[:, 0].abs() < half) & ((after[:, 1] - 0.6).abs() < 0.05)


def reward(states: Tensor, actions: Tensor, after: Tensor, half: float = 0.25) -> Tensor:
    """Straight ahead is best, but for the wall."""
    return -after[:, 0].abs() - 5.0 * crashed(after, half)


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
        **FEWER_PASSES.get(name, {}),
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
    assert sides(planner, found).float().mean() > 0.8


def test_values_belong_to_the_law_acted_on() -> None:
    _, found = plan("cem", 4)
    at, total = torch.zeros(STATES, 2), torch.zeros(STATES)
    for t in range(HORIZON):
        after = Glide().step(at, found.actions[:, t])
        total += reward(at, found.actions[:, t], after)
        at = after
    torch.testing.assert_close(found.values, total)  # a sum of six, in another order at most


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_where_plans_are_equal_every_law_has_its_turn(name: str) -> None:
    """Each is chosen in 8 to 42 of 80 plans (20 expected, σ 3.9), and the value of the chosen one
    does not gain by the choice: its mean over 80 plans has a deviation of .12."""
    chance = torch.Generator().manual_seed(0)
    planner = make_planner(name, BoxActions([-1.0], [1.0]), horizon=HORIZON, modes=4)
    chancy = lambda s, a, after: torch.randn(len(s), generator=chance)  # noqa: E731
    noise, chosen, values = torch.Generator().manual_seed(0), [], []
    for _ in range(80):
        found = planner.plan(Glide(), torch.zeros(1, 2), reward=chancy, generator=noise)
        centres = planner.actions.centre(found.law)
        chosen.append(int((centres - found.actions).abs().flatten(1).sum(1).argmin()))
        values.append(found.values.item())
    counts = [chosen.count(law) for law in range(4)]
    assert all(8 <= count <= 42 for count in counts), counts
    assert abs(sum(values) / 80) < 0.5  # the best of four would have 1.1


def sides(planner: Planner, found: Plan) -> Tensor:
    """Whether the two laws of each state pass the wall on different sides."""
    centres = planner.actions.centre(found.law).view(STATES, 2, HORIZON)
    return centres[..., :3].sum(-1).sign().prod(1) < 0


@pytest.mark.parametrize("name", ["cem", "icem"])
def test_a_warm_start_mixes_no_law_with_plans_of_another(name: str) -> None:
    """Plans are shared out anew: a law fitted to some on the left owes nothing to one on the right,
    whatever the inertia."""
    found = []
    for inertia in (0.0, 0.5):
        planner, first = plan(name, 2)
        planner.iterations, planner.inertia = 1, inertia
        noise = torch.Generator().manual_seed(1)
        start = torch.zeros(STATES, 2)
        found.append(planner.plan(Glide(), start, reward=reward, warm=first, generator=noise))
    for without, much in zip(found[0].law, found[1].law, strict=True):
        assert torch.equal(without, much)
    assert sides(planner, found[0]).float().mean() > 0.8


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
def test_laws_that_have_merged_part_again(name: str) -> None:
    """Where there was no wall all laws go straight ahead; before one they take both ways."""
    planner, _ = plan(name, 2)
    noise = torch.Generator().manual_seed(1)
    law = planner.actions.start(2 * STATES, HORIZON, torch.device("cpu"))
    straight = torch.zeros(STATES, HORIZON, 1)
    merged = Plan(straight, law, None, lambda: straight[:, 0, 0])
    ahead = torch.zeros(STATES, 2)
    found = planner.plan(Glide(), ahead, reward=reward, warm=merged, generator=noise)
    assert sides(planner, found).float().mean() > 0.8


def closed_loop(modes: int, half: float, **settings: Any) -> tuple[float, float]:
    """Share of crashes and mean return of CEM, each plan begun from the last."""
    settings |= {"horizon": HORIZON, "particles": 1, "modes": modes}
    planner = make_planner("cem", BoxActions([-1.0], [1.0]), **settings)
    noise, at = torch.Generator().manual_seed(0), torch.zeros(STATES, 2)
    hit, total, last = torch.zeros(STATES, dtype=torch.bool), torch.zeros(STATES), None
    wall = functools.partial(reward, half=half)
    for _ in range(4):
        last = planner.plan(Glide(), at, reward=wall, warm=last, generator=noise)
        after = Glide().step(at, last.actions[:, 0])
        total += wall(at, last.actions[:, 0], after)
        at = after
        hit |= crashed(at, half)
    return hit.float().mean().item(), total.mean().item()


def test_several_laws_are_better_in_the_closed_loop() -> None:
    """Round a wall of half width .25 two of the three steps before it are enough, and nobody
    crashes; round one of .35 all three are needed, and one law goes ahead in the first."""
    one, two, four = (closed_loop(modes, 0.25) for modes in (1, 2, 4))
    assert max(two[0], four[0]) < 0.02 and four[1] > one[1], (one, two, four)
    one, two, four = (closed_loop(modes, 0.35) for modes in (1, 2, 4))
    assert one[0] > 0.6 and four[0] < 0.25, (one, four)
    assert one[1] < two[1] < four[1], (one, two, four)
    one, four = (closed_loop(modes, 0.35, population=128) for modes in (1, 4))
    assert one[0] > 0.1 and four[0] < 0.03, (one, four)


def test_choices_have_modes_too() -> None:
    """Plans over two choices: their traits count how often each was chosen by then."""
    traits = DiscreteActions(2).traits(torch.tensor([[[0, 1, 1], [0, 0, 1]]]))
    assert traits.tolist() == [[[1, 0, 1, 1, 1, 2], [1, 0, 2, 0, 2, 1]]]


def test_more_laws_than_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"modes: got 40, expected at most a quarter of .* 64"):
        plan("cem", 40)
    with pytest.raises(ValueError, match=r"elites: got 2, expected at least modes = 4 and .* 64"):
        plan("cem", 4, elites=2)
    with pytest.raises(ValueError, match=r"modes: got 4, expected at most 1"):
        make_planner("random", DiscreteActions(2), modes=4)
