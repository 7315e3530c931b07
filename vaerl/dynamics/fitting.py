"""Fitting a dynamics model: bootstrapped members, a holdout, patience, elites.

All members take every step together; each keeps the parameters with which it did best on the
holdout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.options import check_choice, check_positive, check_share
from vaerl.dynamics.data import Transitions
from vaerl.dynamics.model import DynamicsModel
from vaerl.dynamics.scores import SCORES, score, termination_loss


@dataclass(frozen=True)
class FitOptions:
    """How a model is fitted.

    >>> FitOptions(steps=100).patience
    5
    """

    steps: int = 2000
    """Updates at most."""
    batch_size: int = 256
    """Transitions in every member's batch."""
    learning_rate: float = 1e-3
    """Of Adam, at the start; it falls along half a cosine to a twentieth over `steps`."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    holdout: float = 0.1
    """Share of the transitions that is scored and not trained on; 0 scores the training data."""
    holdout_rows: int = 1000
    """Rows of the holdout at most."""
    score: str = "nll"
    """What members are chosen and stopped by: "nll" (its bound for latent densities) or
    "energy"."""
    score_k: int = 32
    """Samples behind a score: importance samples of the bound, or draws of the energy."""
    check_every: int = 100
    """Updates between two looks at the holdout."""
    patience: int = 5
    """Looks without progress of any member after which it stops."""
    min_progress: float = 1e-3
    """What counts as progress, in the units of the score."""
    bootstrap: bool = True
    """Whether every member sees a resampling of the data of its own, with replacement."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "holdout_rows", "check_every", "patience"):
            check_positive(name, getattr(self, name))
        check_positive("steps", self.steps, at_least=0)
        check_positive("score_k", self.score_k, at_least=2)
        check_choice("score", self.score, SCORES)
        check_share("holdout", self.holdout)
        for name, least in (("learning_rate", "positive"), ("weight_decay", "0 or more")):
            value = getattr(self, name)
            legal = isinstance(value, int | float) and math.isfinite(value)
            if not legal or value < 0 or (value == 0 and least == "positive"):
                raise ValueError(f"{name}: got {value!r}, expected a finite number, {least}")


@dataclass(frozen=True)
class FitReport:
    """What a fit did."""

    scores: tuple[float, ...]
    """The best score of every member on the holdout."""
    elites: tuple[int, ...]
    """Members that roll-outs use, the best first."""
    steps: int
    """Updates taken."""
    history: tuple[tuple[float, ...], ...]
    """Scores of all members at every look, the first before any update."""

    @property
    def score(self) -> float:
        """Mean of the elites' best scores."""
        return sum(self.scores[i] for i in self.elites) / len(self.elites)


def fit(
    model: DynamicsModel,
    data: Transitions,
    options: FitOptions | None = None,
    generator: torch.Generator | None = None,
) -> FitReport:
    """Fit all members to `data`, going on from their present parameters, and choose the elites.

    Args:
        model: changed in place; its normalisers are fitted to all the data.
        data: at least two transitions.
        options: see `FitOptions`.
        generator: of the split, the batches and the densities' noise.

    Raises:
        ValueError: data that does not fit the model.

    >>> from vaerl.dynamics import DynamicsModel
    >>> s = torch.linspace(-1.0, 1.0, 64).unsqueeze(1)
    >>> model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    >>> report = fit(model, Transitions(s, 0.0 * s, 0.5 * s), FitOptions(steps=100))
    >>> report.steps, report.history[-1] < report.history[0]
    (100, True)
    """
    options = options or FitOptions()
    model.check(data)
    if len(data) < 2:
        raise ValueError(f"data: got {len(data)} transition, expected at least 2")
    data = data.to(model.elites.device)
    model.standardise(data)
    train, holdout = _split(data, options, generator)
    run = _Fit(model, train, options, generator)
    history = [score(model, holdout, options.score, options.score_k)]
    best, kept = history[0].clone(), _copy(model)
    best[~torch.isfinite(best)] = torch.inf
    stale = 0
    while run.taken < options.steps and stale < options.patience:
        run.advance(min(options.check_every, options.steps - run.taken))
        now = score(model, holdout, options.score, options.score_k)
        history.append(now)
        better = now < best  # never true of NaN
        stale = 0 if bool((now < best - options.min_progress).any()) else stale + 1
        best = torch.where(better, now, best)
        _keep(model, kept, better)
    _restore(model, kept)
    order = best.argsort(stable=True)[: len(model.elites)]
    with torch.no_grad():
        model.elites.copy_(order)
        model.fits += 1
    model.changed()
    return FitReport(
        tuple(best.tolist()),
        tuple(order.tolist()),
        run.taken,
        tuple(tuple(scores.tolist()) for scores in history),
    )


class _Fit:
    """The optimiser and the members' own resamplings of the training data."""

    def __init__(
        self,
        model: DynamicsModel,
        data: Transitions,
        options: FitOptions,
        generator: torch.Generator | None,
    ) -> None:
        self.model, self.options, self.generator = model, options, generator
        self.taken = 0
        self.context = model.inputs(data.states, data.actions)
        self.target = model.targets(data)
        self.ends = data.terminations
        count, members = len(data), model.members
        self.batch = min(options.batch_size, count)
        if options.bootstrap and members > 1:
            self.own = self._randint(count, (members, count))
        else:
            self.own = torch.arange(count, device=self.context.device).expand(members, count)
        self.optimizer = torch.optim.AdamW(
            model.networks.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )

    def advance(self, updates: int) -> None:
        """Take `updates` steps with all members."""
        networks: Any = self.model.networks
        options, size = self.options, self.model.state_dim
        for _ in range(updates):
            share = 0.5 * (1.0 + math.cos(math.pi * self.taken / options.steps))
            for group in self.optimizer.param_groups:
                group["lr"] = options.learning_rate * (0.05 + 0.95 * share)
            rows = self.own.gather(1, self._randint(self.own.shape[1], (len(self.own), self.batch)))
            context, x = self.context[rows], self.target[rows]
            loss, _ = networks["density"].loss(
                context, x, diagnostics=False, generator=self.generator
            )
            if "termination" in networks:
                assert self.ends is not None, "check(data) comes first"
                ends = self.ends[rows]
                loss = loss + termination_loss(networks, context, x[..., :size], ends)
            self.optimizer.zero_grad()
            loss.mean(1).sum().backward()  # members share nothing: each gets its own gradient
            self.optimizer.step()
            self.taken += 1
        self.model.changed()

    def _randint(self, high: int, shape: tuple[int, int]) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.context.device)


def _split(
    data: Transitions, options: FitOptions, generator: torch.Generator | None
) -> tuple[Transitions, Transitions]:
    """Training data and holdout, at least one transition each."""
    count = len(data)
    order = torch.randperm(count, generator=generator, device=data.states.device)
    held = min(max(1, round(options.holdout * count)), count - 1)
    if options.holdout == 0.0:
        return data, data.rows(order[: options.holdout_rows])
    return data.rows(order[held:]), data.rows(order[: min(held, options.holdout_rows)])


def _copy(model: DynamicsModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.networks.parameters()]


@torch.no_grad()
def _keep(model: DynamicsModel, kept: list[Tensor], members: Tensor) -> None:
    """Copy the parameters of some members."""
    for old, parameter in zip(kept, model.networks.parameters(), strict=True):
        old[members] = parameter[members]


@torch.no_grad()
def _restore(model: DynamicsModel, kept: list[Tensor]) -> None:
    for parameter, old in zip(model.networks.parameters(), kept, strict=True):
        parameter.copy_(old)
