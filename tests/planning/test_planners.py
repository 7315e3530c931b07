"""Planners find known optima, in boxes and over choices, under mean and risk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaerl.dynamics import DynamicsModel
from vaerl.planning import (
    BoxActions,
    DiscreteActions,
    Plan,
    SimulatorModel,
    Step,
    cvar,
    make_planner,
    plan_returns,
    planner_names,
)
from vaerl.planning.noise import coloured_noise

TARGET = torch.tensor([0.3, -0.7])
NAMES = ["random", "cem", "icem", "mppi"]
THOROUGH: dict[str, dict[str, Any]] = {
    "random": {"population": 20_000},
    "cem": {"population": 200, "iterations": 10},
    "icem": {"population": 200, "iterations": 10, "colour": 0.0},
    "mppi": {"population": 1000, "iterations": 20, "temperature": 0.1},
}


class Walk:
    """s' = s + a, the true simulator of a walk."""

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Next states alone: the planner is given a reward."""
        return states + actions


class Counter:
    """Over choices: choice k adds k − 1; its own reward is −|s' − 2|; it ends below −1."""

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Next states with rewards and ends."""
        after = states + (actions - 1.0).unsqueeze(-1)
        place = after.squeeze(-1)
        return Step(after, -(place - 2.0).abs(), place < -1.0)


def quadratic(states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
    """Best at one action, wherever one is."""
    return -(actions - TARGET).square().sum(-1)


def seeded(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def test_every_planner_is_tested() -> None:
    """A new planner joins this file."""
    assert list(planner_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_of_a_quadratic_is_found(name: str) -> None:
    """Each state of the batch, from its own samples; random shooting only comes near."""
    planner = make_planner(
        name, BoxActions([-1, -1], [1, 1]), horizon=2, particles=1, **THOROUGH[name]
    )
    plan = planner.plan(Walk(), torch.zeros(3, 2), reward=quadratic, generator=seeded())
    near = {"random": 0.25, "mppi": 0.1}.get(name, 0.03)
    assert (plan.actions - TARGET).abs().max() < near
    assert plan.actions.shape == (3, 2, 2)


@pytest.mark.parametrize("name", NAMES)
def test_actions_stay_in_their_bounds(name: str) -> None:
    """With the best action far outside, planners go to the bound and not beyond."""
    bounds = BoxActions([-0.5, 2.0], [0.1, 3.0])
    planner = make_planner(name, bounds, horizon=3, particles=1, population=300)
    plan = planner.plan(
        Walk(), torch.zeros(1, 2), reward=lambda s, a, n: 10.0 * a.sum(-1), generator=seeded()
    )
    assert (plan.actions <= torch.tensor([0.1, 3.0])).all()
    assert (plan.actions >= torch.tensor([-0.5, 2.0])).all()
    assert plan.actions[0, 0, 1] > 2.5


@pytest.mark.parametrize("name", NAMES)
def test_choices_lead_to_the_goal(name: str) -> None:
    """From 0 and from 5 the shortest way to 2, by a model with rewards of its own."""
    planner = make_planner(name, DiscreteActions(3), horizon=3, particles=1, population=200)
    plan = planner.plan(Counter(), torch.tensor([[0.0], [5.0]]), generator=seeded())
    assert plan.actions[:, :2].tolist() == [[2, 2], [0, 0]]
    assert plan.actions[1].tolist() == [0, 0, 0]
    assert plan.values.tolist() == [-1.0, -3.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("actions", [DiscreteActions(3), BoxActions([0.0], [2.0])])
def test_states_may_be_float64(name: str, actions: DiscreteActions | BoxActions) -> None:
    """Values of the states' type, and a law that a warm start can go on from."""

    class Sum:
        def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Step:
            after = states + actions.reshape(-1, 1)
            return Step(after, -(after - 2.0).abs().squeeze(-1))

    planner = make_planner(name, actions, horizon=2, particles=1)
    states, generator = torch.zeros(2, 1, dtype=torch.float64), seeded()
    plan = planner.plan(Sum(), states, generator=generator)
    again = planner.plan(Sum(), states, warm=plan, generator=generator)
    assert plan.values.dtype == again.values.dtype == torch.float64
    assert all(part.dtype == torch.float32 for part in again.law)


@pytest.mark.parametrize("name", ["random", "cem", "icem", "mppi"])
def test_a_warm_start_goes_on_from_the_last_plan(name: str) -> None:
    """Few samples, many steps: with warm starts the plan gets better than without."""
    settings: dict[str, Any] = {"population": 12, "horizon": 6, "particles": 1}
    settings |= {} if name in ("random", "mppi") else {"elites": 4}
    planner = make_planner(name, BoxActions([-1, -1], [1, 1]), **settings)
    values: dict[bool, float] = {}
    for warm in (False, True):
        plan: Plan | None = None
        generator = seeded()
        total = 0.0
        for _ in range(30):
            plan = planner.plan(
                Walk(),
                torch.zeros(4, 2),
                reward=quadratic,
                warm=plan if warm else None,
                generator=generator,
            )
            first = plan.actions[:, 0]
            total += quadratic(first, first, first).mean().item()
        values[warm] = total
    assert values[True] > values[False]


def test_a_warm_start_is_shifted_by_one_step() -> None:
    """What was planned for the next step becomes the first action of the law."""
    box = BoxActions([-1.0], [1.0])
    mean = torch.tensor([[[0.1], [0.2], [0.3]]])
    law = box.shift((mean, torch.zeros_like(mean)))
    assert torch.allclose(law[0].flatten(), torch.tensor([0.2, 0.3, 0.0]))
    assert torch.equal(law[1], torch.full((1, 3, 1), 0.5))
    choices = DiscreteActions(2)
    (shifted,) = choices.shift((torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]),))
    assert torch.allclose(shifted, torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))


def test_cvar_lies_between_the_worst_and_the_mean() -> None:
    """CVaR_α rises with α; CVaR_1 is the mean, a small α the minimum; shares interpolate."""
    returns = torch.randn(5, 40, generator=seeded(), dtype=torch.float64)
    values = torch.stack([cvar(returns, alpha) for alpha in (0.01, 0.1, 0.33, 0.5, 0.99, 1.0)])
    assert (values.diff(dim=0) >= 0.0).all()
    assert torch.allclose(values[-1], returns.mean(-1))
    assert torch.allclose(values[0], returns.amin(-1))
    assert cvar(torch.tensor([0.0, 1.0, 2.0]), 0.5).item() == pytest.approx(0.5 / 1.5)
    normal = torch.randn(200_000, generator=seeded(), dtype=torch.float64)
    assert cvar(normal, 0.25).item() == pytest.approx(-1.2711, abs=0.01)


class Gamble:
    """Choice 1 pays 3 or −2 alike, choice 0 always .4."""

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """The state does not matter."""
        heads = torch.rand(len(states), generator=generator) < 0.5
        risky = torch.where(heads, 3.0, -2.0)
        return Step(states, torch.where(actions == 1, risky, 0.4))


@pytest.mark.parametrize(("objective", "choice"), [("mean", 1), ("cvar", 0)])
def test_risk_decides_a_gamble(objective: str, choice: int) -> None:
    """The mean takes .5 on average with a chance of −2; CVaR takes the safe .4."""
    planner = make_planner(
        "cem",
        DiscreteActions(2),
        horizon=1,
        population=64,
        particles=200,
        objective=objective,
        alpha=0.25,
    )
    plan = planner.plan(Gamble(), torch.zeros(1, 1), generator=seeded())
    assert plan.actions.item() == choice


def test_returns_add_up_discounted_until_the_end() -> None:
    """Rewards are counted up to the one at which the episode ends, and no further."""
    plans = torch.tensor([[[0, 0, 0, 2], [2, 2, 1, 1]]])
    returns = plan_returns(Counter(), torch.zeros(1, 1), plans, discount=0.5, particles=3)
    assert returns.shape == (1, 2, 3)
    assert returns[0, 0].tolist() == [-3.0 - 0.5 * 4.0] * 3
    assert returns[0, 1].tolist() == [-1.0] * 3
    kept = plan_returns(
        Counter(),
        torch.zeros(1, 1),
        plans,
        reward=lambda s, a, n: torch.ones(len(s)),
        termination=lambda s, a, n: torch.zeros(len(s), dtype=torch.bool),
    )
    assert kept.flatten().tolist() == [4.0, 4.0]


def test_a_learned_ensemble_is_a_model() -> None:
    """Held members: with no noise the particles of a plan part by member, evenly."""
    torch.manual_seed(0)
    options = {"variance": "fixed", "sigma": 1e-6, "hidden": [8]}
    model = DynamicsModel(2, 2, density="gaussian", density_kwargs=options, members=3)
    plans = torch.zeros(1, 4, 5, 2)
    returns = plan_returns(model, torch.zeros(1, 2), plans, particles=6, generator=seeded())
    assert torch.allclose(returns[..., :3], returns[..., 3:], atol=1e-4)
    assert torch.allclose(returns[0, 0], returns[0, 3], atol=1e-4)
    assert returns[0, 0, :3].std() > 1e-3


class Slippery:
    """A true simulator in NumPy: choice k moves by k − 1, or one time in ten not at all."""

    def step_batch(self, states: Any, actions: Any, rng: Any) -> tuple[Any, Any, Any]:
        """Next states, rewards and ends of a batch."""
        move = np.where(rng.random(len(states)) < 0.1, 0.0, actions - 1.0)
        after = states + move[:, None]
        return after, -abs(after[:, 0] - 2.0), after[:, 0] < -1.0


def test_the_true_simulator_is_a_model() -> None:
    """A planner finds its way with it; a seed repeats it, another one does not."""
    model = SimulatorModel(Slippery())
    planner = make_planner("cem", DiscreteActions(3), horizon=4, particles=20)
    plan = planner.plan(model, torch.tensor([[0.0], [4.0]]), generator=seeded())
    assert plan.actions[:, 0].tolist() == [2, 0]
    at, up = torch.zeros(200, 1), torch.full((200,), 2)
    first, again, other = (model.step(at, up, seeded(s)).next_states for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.float32
    with pytest.raises(ValueError, match=r"env: got Walk, expected one with a method step_batch"):
        SimulatorModel(Walk())


def test_coloured_noise_is_standard_and_slow() -> None:
    """Variance 1 at every time; neighbours agree the more, the higher β."""
    together = []
    for beta in (0.0, 1.0, 2.0):
        noise = coloured_noise(torch.randn(20_000, 12, 1, generator=seeded()), beta).squeeze(-1)
        assert torch.allclose(noise.var(0), torch.ones(12), atol=0.05)
        together.append((noise[:, :-1] * noise[:, 1:]).mean().item())
    assert abs(together[0]) < 0.02
    assert together[0] + 0.2 < together[1] < together[2] - 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_repeats_a_plan(name: str) -> None:
    """Nothing reads the global stream."""
    planner = make_planner(name, BoxActions([-1, -1], [1, 1]), horizon=4)
    plans = []
    for _ in range(2):
        torch.rand(3)
        plan = planner.plan(Walk(), torch.zeros(2, 2), reward=quadratic, generator=seeded(5))
        plans.append(plan.actions)
    assert torch.equal(*plans)


def test_a_model_that_gives_something_else_is_refused() -> None:
    """A dict is no step."""

    class Odd:
        def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Any:
            return {"next": states}

    with pytest.raises(TypeError, match=r"model.step: got dict, expected next states"):
        make_planner("cem", DiscreteActions(3)).plan(Odd(), torch.zeros(1, 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("actions", [DiscreteActions(3), BoxActions([0.0], [2.0])])
def test_values_belong_to_the_chosen_actions(name: str, actions: Any) -> None:
    """And rewards may be of any number type, other than the states'."""
    for kind in (torch.float64, torch.int64):

        def reward(states: Tensor, chosen: Tensor, after: Tensor, kind: Any = kind) -> Tensor:
            return (-10.0 * (chosen.reshape(len(states)) - 1.2).square()).to(kind)

        planner = make_planner(name, actions, horizon=3, particles=2, population=16)
        walk = Drift()
        plan = planner.plan(walk, torch.zeros(2, 1), reward=reward, generator=seeded())
        assert walk.steps == 3 * planner.iterations  # none to value the plan
        found = plan_returns(walk, torch.zeros(2, 1), plan.actions.unsqueeze(1), reward=reward)
        assert torch.allclose(plan.values, found.mean((1, 2)), rtol=1e-6, atol=0.0)
        again = planner.plan(walk, torch.zeros(2, 1), reward=reward, warm=plan, generator=seeded(1))
        assert again.actions.shape == plan.actions.shape


class Drift:
    """s' = s + 1, whatever the action."""

    steps = 0

    def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Tensor:
        """Next states alone."""
        self.steps += 1
        return states + 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_rewards_that_are_not_finite_are_named(name: str, number: str) -> None:
    """Infinite ones are not called NaN."""
    planner = make_planner(name, BoxActions([0.0], [1.0]), horizon=2)
    words = {"nan": "NaN"}.get(number, number)
    with pytest.raises(ValueError, match=rf"^model: the best return is {words}, expected finite"):
        planner.plan(Drift(), torch.zeros(1, 1), reward=lambda s, a, n: s[:, 0] + float(number))


def test_a_plan_that_breaks_a_particle_is_worth_nothing_under_cvar() -> None:
    """A model that is NaN in a fifth of the particles above a = .5 keeps plans below, as the mean
    does."""

    class Breaks(Walk):
        def step(self, states: Tensor, actions: Tensor, generator: Any = None) -> Step:
            broken = (actions[:, 0] > 0.5) & (torch.arange(len(states)) % 5 == 0)
            return Step(states, actions[:, 0].masked_fill(broken, torch.nan))

    for objective in ("mean", "cvar"):
        planner = make_planner(
            "icem", BoxActions([-1.0], [1.0]), horizon=1, population=200, objective=objective
        )
        found = planner.plan(Breaks(), torch.zeros(1, 1), generator=seeded())
        assert 0.4 < found.actions[0, 0, 0] <= 0.5
    assert torch.isnan(cvar(torch.tensor([torch.nan, 1.0, 2.0]), 0.5))


def test_after_the_end_nothing_counts() -> None:
    """Neither a NaN nor an end that is no number; before it, an end is true or false, 1 or 0."""
    plans = torch.ones(1, 1, 3, 1)

    def gain(states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        return torch.where(states[:, 0] > 0.0, torch.nan, 1.0)

    for ends in (lambda s, a, n: n[:, 0] > 0.0, lambda s, a, n: (n[:, 0] == 1.0).float() * n[:, 0]):
        found = plan_returns(Walk(), torch.zeros(1, 1), plans, reward=gain, termination=ends)
        assert found.item() == 1.0
    for end in (-1.0, 0.5, 5.0, torch.nan):
        with pytest.raises(ValueError, match=f"^termination: got {end:g}, expected True or False"):
            plan_returns(
                Walk(), torch.zeros(1, 1), plans, reward=gain,
                termination=lambda s, a, n: torch.full((len(s),), end),  # noqa: B023
            )  # fmt: skip


@pytest.mark.parametrize("returns", [[1.0], torch.tensor(1.0), torch.zeros(3, 0)])
def test_cvar_needs_particles(returns: Any) -> None:
    with pytest.raises(ValueError, match=r"^returns: got .*, expected a torch.Tensor \(…, P\)"):
        cvar(returns, 0.5)
