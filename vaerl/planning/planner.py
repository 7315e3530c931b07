"""The base of planners over sampled action sequences.

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

from vaerl.densities.noise import check_generator
from vaerl.densities.options import check_choice, check_flag, check_positive, check_share
from vaerl.disk.errors import NotFinite
from vaerl.planning.actions import Actions, Law
from vaerl.planning.evaluation import Function, plan_returns
from vaerl.planning.model import Model
from vaerl.planning.objectives import OBJECTIVES, cvar, cvar_variance, worth

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
    """The laws that sequences are drawn from, after the last refit: M of each state in turn."""
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
        actions: `BoxActions`, `DiscreteActions`, or others with the methods of `Actions`.
        horizon: H, steps looked ahead.
        population: N, sequences drawn in the first iteration.
        iterations: refits of the law.
        particles: P, roll-outs of each sequence.
        modes: M, laws kept side by side, each with its share of the population. One law goes to the
            middle of several good plans: between a way left and a way right of a wall, into it.
            The first iteration of every plan shares out the plans drawn from all laws by likeness
            and fits each law to its share alone, so that laws that have merged part again; in later
            iterations each is refitted to its own plans. The best of them is acted on.
        early_stop: refit only as long as plans improve beyond the noise of their particles. A warm
            start tries its plan, one step on, and stops after the first pass if the best of those
            drawn are worth no more; later passes stop where the best are worth no more than those
            of the pass before. A batch of states goes on until none improves.
        objective: "mean" of the particles' returns, or "cvar", the mean of their worst share
            `alpha`.
        alpha: α in (0, 1].
        discount: γ of the returns.

    Raises:
        ValueError: an illegal setting.
    """

    name: ClassVar[str] = "planner"
    acts_on_best: ClassVar[bool] = False
    """Whether the best plan is acted on, or the middle of its law."""

    def __init__(
        self,
        actions: Actions,
        *,
        horizon: int = 15,
        population: int = 64,
        iterations: int = 3,
        particles: int = 5,
        modes: int = 1,
        early_stop: bool = False,
        objective: str = "mean",
        alpha: float = 0.25,
        discount: float = 1.0,
    ) -> None:
        if not isinstance(actions, Actions):
            raise ValueError(
                f"actions: got {actions!r}, expected BoxActions or DiscreteActions, "
                "or in make_planner an action space of Gymnasium"
            )
        self.actions = actions
        self.horizon = check_positive("horizon", horizon)
        self.population = check_positive("population", population)
        self.iterations = check_positive("iterations", iterations)
        self.particles = check_positive("particles", particles)
        self.modes = check_positive("modes", modes)
        if 4 * modes > max(population, 4):
            raise ValueError(
                f"modes: got {modes}, expected at most a quarter of the population of {population}"
            )
        self.early_stop = check_flag("early_stop", early_stop)
        self.share = population // modes  # sequences drawn from each law
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
                reward function; a warm start for other states, horizon, modes or actions; a model
                that gives only NaN.
        """
        check_states(states)
        check_generator("generator", generator)

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
        before: Tensor | None = None
        for iteration in range(self.iterations):
            drawn = self._candidates(iteration, law, kept, generator)
            if self.early_stop and iteration == 0 and warm is not None:
                last = self.actions.shift_plans(warm.actions.unsqueeze(1))
                drawn = torch.cat((last.repeat_interleave(self.modes, 0), drawn), dim=1)
            plans = drawn.reshape(len(states), -1, *drawn.shape[2:])
            returns, values = judge(plans, generator)
            best = values.amax(1)
            if not bool(torch.isfinite(best).all()):
                raise NotFinite(f"model: the best return is {_not_finite(returns)}")
            if iteration == 0 and self.modes > 1:
                law, kept = self._update(law, *self._split(plans, values), anew=True)
            else:
                law, kept = self._update(law, drawn, values.reshape(drawn.shape[:2]))
            if self.early_stop:
                if iteration == 0 and warm is not None:
                    before = values.reshape(len(states), self.modes, -1)[..., 0].mean(1)
                now = _level(returns, values, 1.0 if self.objective == "mean" else self.alpha)
                if before is not None and bool((now <= before).all()):
                    break
                before = now
        actions, value = self._choose(law, plans, values, judge, generator)
        return Plan(actions, law, kept, value)

    def fresh(self, states: int, device: torch.device) -> Law:
        """The laws before anything is known."""
        return self.actions.start(states * self.modes, self.horizon, device)

    def check_plan(self, argument: str, plan: Plan, states: int) -> None:
        """Raise one line unless `plan` is one of such a planner, for so many states."""
        law = self.fresh(states, torch.device("cpu"))
        centre = self.actions.centre(law)
        legal = [centre[:states].shape, *(part.shape for part in law)]
        found = [plan.actions.shape, *(part.shape for part in plan.law)]
        if plan.kept is not None:
            legal.append(torch.Size((len(centre), *plan.kept.shape[1:2], *centre.shape[1:])))
            found.append(plan.kept.shape)
        if found != legal:
            shown, expected = ([tuple(shape) for shape in shapes] for shapes in (found, legal))
            raise ValueError(
                f"{argument}: got a plan of shapes {shown}, expected {expected} for {states} "
                f"states, {self.horizon} steps, modes={self.modes} and these actions"
            )

    def _start(self, states: Tensor, warm: Plan | None) -> tuple[Law, Tensor | None]:
        if warm is None:
            return self.fresh(len(states), states.device), None
        if not isinstance(warm, Plan):
            raise TypeError(f"warm: got {type(warm).__name__}, expected a Plan or None")
        self.check_plan("warm", warm, len(states))
        kept = None if warm.kept is None else self.actions.shift_plans(warm.kept)
        return self.actions.shift(warm.law), kept

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.actions.draw(law, self.share, 0.0, generator)

    def _update(
        self, law: Law, plans: Tensor, values: Tensor, anew: bool = False
    ) -> tuple[Law, Tensor | None]:
        """The refitted law, which owes nothing to the old one if `anew`, and plans to keep."""
        raise NotImplementedError

    def _choose(
        self,
        law: Law,
        plans: Tensor,
        values: Tensor,
        judge: Judge,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        """What to act on, ``(B, H, …)``, and its value ``(B,)`` when asked for.

        It is the best plan of all, or the best middle of the refitted laws: there the noise of
        single returns is averaged away. The value of a middle has noise of its own, so that it does
        not gain by the choice, and no later draw depends on whether it is asked for.
        """
        if self.acts_on_best:
            return take_best(plans, values, 1)[:, 0], lambda: values.amax(1)
        centres = self.actions.centre(law)
        centres = centres.reshape(len(plans), self.modes, *centres.shape[1:])
        if self.modes > 1:
            centres = take_best(centres, judge(centres, generator)[1], 1)

        def judged() -> Tensor:
            return judge(centres, torch.Generator(values.device).manual_seed(0))[1]

        return centres[:, 0], lambda: judged()[:, 0]

    def _split(self, plans: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The better half of the plans, shared among M laws by likeness, with their values.

        The first law takes the plans most like the best one; each further law those most like the
        plan that differs most from the others' first. Both are ``(B·M, N / 2M, …)``.
        """
        half = plans.shape[1] // 2
        plans, values = take_best(plans, values, half), values.topk(half, dim=1).values
        traits = self.actions.traits(plans)
        rows = torch.arange(len(plans), device=plans.device)
        nearest = traits.new_full(traits.shape[:2], torch.inf)
        first, distances = torch.zeros_like(rows), []
        for _ in range(self.modes):
            distance = (traits - traits[rows, first].unsqueeze(1)).square().sum(-1)
            distances.append(distance)
            nearest = torch.minimum(nearest, distance)
            first = nearest.argmax(1)
        own = torch.stack(distances, 1).topk(half // self.modes, dim=2, largest=False).indices
        picked, place = own.flatten(0, 1), rows.repeat_interleave(self.modes).unsqueeze(1)
        return plans[place, picked], values[place, picked]


def _level(returns: Tensor, values: Tensor, alpha: float) -> Tensor:
    """What the best eighth of the plans is worth, ``(B,)``, from returns ``(B, N, P)`` and their
    CVaR_α.

    The best of many are the lucky ones too: their lead over the middle counts as far as values
    differ by more than the noise of P particles does, mean + (1 − noise² / spread²) · lead (James &
    Stein 1961).
    """
    lead = values.topk(max(1, values.shape[1] // 8), dim=1).values.mean(1) - values.mean(1)
    noise = cvar_variance(returns, alpha).mean(1)
    share = 1.0 - noise / values.var(1, correction=0).clamp_min(1e-12)
    return values.mean(1) + share.clamp_min(0.0) * lead


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
