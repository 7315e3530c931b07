"""Planners over sampled action sequences: random shooting, CEM, iCEM and MPPI.

A planner keeps settings only. `plan` takes a model, B states and the last plan, and gives the next
plan; all sequences of all states are rolled out together, each with P particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from vaerl.densities.options import check_choice, check_positive, check_share
from vaerl.disk.errors import NotFinite
from vaerl.planning.actions import Actions, Law
from vaerl.planning.evaluation import Function, plan_returns
from vaerl.planning.model import Model
from vaerl.planning.objectives import OBJECTIVES, cvar, worth

MOST_STEPS = 10**8
"""Steps of the model for one action; a hundred times as many as the largest planners in use."""

Judge = Callable[[Tensor, torch.Generator | None], tuple[Tensor, Tensor]]
"""(plans ``(B, N, H, …)``, noise) → returns of their particles ``(B, N, P)``, values ``(B, N)``."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The result of planning; passed back to `plan`, it is the next warm start."""

    actions: Tensor
    """The sequence chosen for each state, ``(B, H, A)`` or ``(B, H)``; act with ``[:, 0]``."""
    law: Law
    """The law that sequences are drawn from, after the last refit."""
    kept: Tensor | None
    """Good sequences that go into the next planning, or None."""
    judge: Callable[[], Tensor] = field(repr=False)
    """Gives `values`."""

    @cached_property
    def values(self) -> Tensor:
        """Objective of that sequence, ``(B,)``.

        CEM and MPPI act on the middle of their law, which they have not tried: it is rolled out
        when its value is first asked for.
        """
        return self.judge()


class Planner:
    """The base of all planners.

    Args:
        actions: `BoxActions` or `DiscreteActions`.
        horizon: H, steps looked ahead.
        population: N, sequences drawn in the first iteration.
        iterations: refits of the law.
        particles: P, roll-outs of each sequence.
        objective: "mean" of the particles' returns, or "cvar", the mean of their worst share
            `alpha`.
        alpha: α in (0, 1].
        discount: γ of the returns.

    Raises:
        ValueError: an illegal setting.
    """

    name: ClassVar[str] = "planner"

    def __init__(
        self,
        actions: Actions,
        *,
        horizon: int = 15,
        population: int = 64,
        iterations: int = 3,
        particles: int = 5,
        objective: str = "mean",
        alpha: float = 0.25,
        discount: float = 1.0,
    ) -> None:
        self.actions = actions
        self.horizon = check_positive("horizon", horizon)
        self.population = check_positive("population", population)
        self.iterations = check_positive("iterations", iterations)
        self.particles = check_positive("particles", particles)
        rolled = self.horizon * self.population * self.iterations * self.particles
        if rolled > MOST_STEPS:
            raise ValueError(
                f"planner: got horizon × population × iterations × particles = {rolled:,} steps "
                f"of the model for one action, expected at most {MOST_STEPS:,}"
            )
        self.objective = check_choice("objective", objective, OBJECTIVES)
        cvar(torch.zeros(1), alpha)
        self.alpha = alpha
        self.discount = check_share("discount", discount)

    @torch.inference_mode()
    def plan(
        self,
        model: Model,
        states: Tensor,
        *,
        reward: Function | None = None,
        termination: Function | None = None,
        warm: Plan | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan from states ``(B, S)``.

        Args:
            model: a learned model or the true one; see `vaerl.planning.Model`.
            reward, termination: known functions of (states, actions, next_states); needed where
                the model has none.
            warm: the plan of the step before, for the same B states one step earlier.
            generator: of everything random, in planner and model.

        No gradient can be taken through the plan.

        Raises:
            ValueError: states that are not finite ``(B, S)``; a model without rewards and no
                reward function; a warm start of another size; a model that gives only NaN.
        """
        check_states(states)

        def judge(candidates: Tensor, noise: torch.Generator | None) -> tuple[Tensor, Tensor]:
            returns = plan_returns(
                model,
                states,
                candidates,
                reward=reward,
                termination=termination,
                particles=self.particles,
                discount=self.discount,
                generator=noise,
            )
            return returns, worth(returns, self.objective, self.alpha)

        law, kept = self._start(states, warm)
        plans = values = states  # replaced below: there is at least one iteration
        for iteration in range(self.iterations):
            plans = self._candidates(iteration, law, kept, generator)
            returns, values = judge(plans, generator)
            best = values.amax(1)
            if not bool(torch.isfinite(best).all()):
                raise NotFinite(f"model: the best return is {_not_finite(returns)}")
            law, kept = self._update(law, plans, values)
        actions, value = self._choose(law, plans, values, judge)
        return Plan(actions, law, kept, value)

    def _start(self, states: Tensor, warm: Plan | None) -> tuple[Law, Tensor | None]:
        if warm is None:
            return self.actions.start(len(states), self.horizon, states.device), None
        if warm.actions.shape[:2] != (len(states), self.horizon):
            raise ValueError(
                f"warm: got a plan for {warm.actions.shape[0]} states and "
                f"{warm.actions.shape[1]} steps, expected {len(states)} and {self.horizon}"
            )
        kept = None if warm.kept is None else self.actions.shift_plans(warm.kept)
        return self.actions.shift(warm.law), kept

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.actions.draw(law, self.population, 0.0, generator)

    def _update(self, law: Law, plans: Tensor, values: Tensor) -> tuple[Law, Tensor | None]:
        raise NotImplementedError

    def _choose(
        self, law: Law, plans: Tensor, values: Tensor, judge: Judge
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        """The middle of the refitted law, and its value: noise of single returns is averaged away.

        The value has noise of its own, so that no later draw depends on whether it is asked for.
        """
        centre = self.actions.centre(law)

        def value() -> Tensor:
            noise = torch.Generator(values.device).manual_seed(0)
            return judge(centre.unsqueeze(1), noise)[1][:, 0]

        return centre, value


class RandomShooting(Planner):
    """The best of N sequences drawn uniformly; `iterations` batches of them.

    >>> from vaerl.planning import BoxActions
    >>> RandomShooting(BoxActions([-1.0], [1.0]), horizon=5, population=100).iterations
    1
    """

    name: ClassVar[str] = "random"

    def __init__(self, actions: Actions, *, iterations: int = 1, **settings: object) -> None:
        super().__init__(actions, iterations=iterations, **settings)  # type: ignore[arg-type]

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        batch, device = len(law[0]), law[0].device
        drawn = self.actions.uniform(batch, self.population, self.horizon, generator, device)
        return drawn if kept is None else torch.cat((kept, drawn), dim=1)

    def _update(self, law: Law, plans: Tensor, values: Tensor) -> tuple[Law, Tensor | None]:
        return law, take_best(plans, values, 1)

    def _choose(
        self, law: Law, plans: Tensor, values: Tensor, judge: Judge
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        return take_best(plans, values, 1)[:, 0], lambda: values.amax(1)


class CEM(Planner):
    """Cross-entropy method: the law is refitted to the best sequences (Rubinstein 1999).

    Args:
        elites: number of best sequences.
        inertia: share of the old law in the new one.
    """

    name: ClassVar[str] = "cem"

    def __init__(
        self, actions: Actions, *, elites: int = 8, inertia: float = 0.1, **settings: object
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        self.elites = check_positive("elites", elites)
        if elites > self.population:
            raise ValueError(
                f"elites: got {elites}, expected at most the population of {self.population}"
            )
        self.inertia = check_share("inertia", inertia)

    def _update(self, law: Law, plans: Tensor, values: Tensor) -> tuple[Law, Tensor | None]:
        best = take_best(plans, values, self.elites)
        weights = values.new_full((len(values), self.elites), 1.0 / self.elites)
        return self.actions.refit(law, best, weights, self.inertia), None


class ICEM(CEM):
    """CEM with memory and coloured noise (Pinneri et al. 2020): few samples are enough.

    Noise has colour, the population falls by `decay` each iteration, a share of the elites goes on
    into the next iteration and the next step, the middle of the law joins the last iteration, and
    the best sequence is acted on.

    Args:
        colour: β of the noise's power ∝ f^(−β); 0 is white.
        decay: factor ≥ 1 by which the population falls; it keeps at least twice the elites.
        keep: share of the elites that go on.
    """

    name: ClassVar[str] = "icem"

    def __init__(
        self,
        actions: Actions,
        *,
        colour: float = 2.0,
        decay: float = 1.25,
        keep: float = 0.3,
        **settings: object,
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        self.colour = _number("colour", colour, 0.0)
        self.decay = _number("decay", decay, 1.0)
        self.keep = max(1, round(check_share("keep", keep) * self.elites))

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        least = min(self.population, 2 * self.elites)
        count = max(least, int(self.population * self.decay**-iteration))
        parts = [self.actions.draw(law, count, self.colour, generator)]
        if kept is not None:
            parts.append(kept)
        if iteration == self.iterations - 1:
            parts.append(self.actions.centre(law).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _update(self, law: Law, plans: Tensor, values: Tensor) -> tuple[Law, Tensor | None]:
        law, _ = super()._update(law, plans, values)
        return law, take_best(plans, values, self.keep)

    def _choose(
        self, law: Law, plans: Tensor, values: Tensor, judge: Judge
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        return take_best(plans, values, 1)[:, 0], lambda: values.amax(1)


class MPPI(Planner):
    """Model-predictive path integral: sequences weighted by exp(value/λ) (Williams et al. 2017).

    The law's middle moves to the weighted mean; its spread stays that of the start in a box.

    Args:
        temperature: λ in units of the values' standard deviation over the sequences, so that it
            does not depend on the scale of rewards.
        colour: β of the noise; 0 is white.
    """

    name: ClassVar[str] = "mppi"

    def __init__(
        self,
        actions: Actions,
        *,
        temperature: float = 0.3,
        colour: float = 0.0,
        **settings: object,
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        if not isinstance(temperature, int | float) or not 0.0 < temperature <= 1e6:
            raise ValueError(f"temperature: got {temperature!r}, expected a number in (0, 1e6]")
        self.temperature, self.colour = float(temperature), _number("colour", colour, 0.0)

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.actions.draw(law, self.population, self.colour, generator)

    def _update(self, law: Law, plans: Tensor, values: Tensor) -> tuple[Law, Tensor | None]:
        finite = torch.isfinite(values)
        least = torch.where(finite, values, torch.inf).amin(1, keepdim=True)
        values = torch.where(finite, values, least)
        scale = values.std(1, keepdim=True, correction=0).clamp_min(1e-12)
        weights = torch.softmax(values / (self.temperature * scale), dim=1)
        refitted = self.actions.refit(law, plans, weights, 0.0)
        return (refitted[0], *law[1:]), None


def _number(argument: str, value: float, least: float) -> float:
    """A number from `least` to 100."""
    if not isinstance(value, int | float) or not least <= value <= 100.0:
        raise ValueError(f"{argument}: got {value!r}, expected a number from {least:g} to 100")
    return float(value)


def _not_finite(returns: Tensor) -> str:
    """The number that is to blame."""
    infinite = returns[torch.isinf(returns)]
    return f"{infinite[0].item():g}" if len(infinite) else "NaN"


def take_best(plans: Tensor, values: Tensor, count: int) -> Tensor:
    """The `count` best plans of each state, the best first, ``(B, count, H, …)``."""
    best = values.topk(min(count, values.shape[1]), dim=1).indices
    rows = torch.arange(len(values), device=values.device).unsqueeze(1)
    return plans[rows, best]


def check_states(states: Tensor) -> None:
    """Raise one line unless states are finite floats ``(B, S)``, B ≥ 1."""
    if not isinstance(states, Tensor) or not states.is_floating_point():
        kind = states.dtype if isinstance(states, Tensor) else type(states).__name__
        raise TypeError(f"states: got {kind}, expected a floating-point torch.Tensor")
    if states.ndim != 2 or not states.numel():
        raise ValueError(
            f"states: got shape {tuple(states.shape)}, expected (B, S) with at least one row"
        )
    if not bool(torch.isfinite(states).all()):
        raise NotFinite("states: got NaN or infinity")
