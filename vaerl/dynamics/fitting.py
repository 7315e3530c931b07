"""Fitting a dynamics model: bootstrapped members, a holdout, patience, elites.

All members take every step together; each keeps the parameters that scored best on the holdout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaerl.densities.noise import check_generator, standard_normal
from vaerl.densities.options import (
    check_above_zero,
    check_at_least_zero,
    check_choice,
    check_flag,
    check_positive,
    check_share,
)
from vaerl.disk.errors import NotFinite
from vaerl.dynamics.data import Transitions
from vaerl.dynamics.episodes import episode_bound, stretches_from
from vaerl.dynamics.heads import heads_loss
from vaerl.dynamics.model import DynamicsModel
from vaerl.dynamics.scores import SCORES, score
from vaerl.finite import number

BLUR_FALL = 300.0
"""Factor by which the noise on the targets falls before it stops."""


@dataclass(frozen=True)
class FitOptions:
    """How a model is fitted.

    >>> FitOptions(steps=100).patience
    5
    """

    steps: int = 2000
    """Maximum number of updates."""
    batch_size: int = 256
    """Transitions in every member's batch."""
    learning_rate: float = 1e-3
    """Of Adam, at the start; it falls along half a cosine to a twentieth over `steps`."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    clip: float = 10.0
    """Largest norm of a member's gradient; longer ones, as when a sharp density meets an outlier,
    are scaled down to it."""
    holdout: float = 0.1
    """Share of the transitions held out for scoring, below 1; 0 scores the training data."""
    holdout_rows: int = 1000
    """Maximum number of rows in the holdout."""
    score: str = "nll"
    """The score that selects members and stops the fit: "nll" (its bound for latent densities) or
    "energy", which does not see regressed rewards and learned ends."""
    score_k: int = 32
    """Samples for each score: importance samples of the bound, or draws of the energy."""
    check_every: int = 100
    """Updates between two scores on the holdout."""
    patience: int = 5
    """Scores without progress of any member after which the fit stops."""
    min_progress: float = 1e-3
    """Smallest improvement that counts as progress, in the units of the score."""
    bootstrap: bool = True
    """Whether every member trains on its own resampling of the data, with replacement."""
    kl_warmup: float = 0.2
    """Share of `steps` in which the weight of the latents' KL grows from 0 to 1, in the first fit
    of a model with a code a step; patience begins after it. It keeps a latent density from merging
    rare outcomes before its latents separate them; densities without latents ignore it."""
    blur: float = 0.0
    """Standard deviation, in those of the targets, of noise on them at the start of the first fit;
    it falls geometrically to a 300th over `blur_share` of `steps` and stops; patience begins after
    it. Sharp modes have gradients of order 1/σ, which hide the small ones that tell where a mode
    begins and ends; while the law is blurred, the model learns these too."""
    blur_share: float = 0.7
    """Share of `steps`, see `blur`."""
    stretch: int = 50
    """Steps of the stretches of episodes in a batch, for a model with a code an episode."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "holdout_rows", "check_every", "patience", "stretch"):
            check_positive(name, getattr(self, name))
        check_positive("steps", self.steps, at_least=0)
        check_positive("score_k", self.score_k, at_least=2)
        check_choice("score", self.score, SCORES)
        check_share("holdout", self.holdout, all_too=False)
        check_share("kl_warmup", self.kl_warmup)
        check_share("blur_share", self.blur_share)
        check_flag("bootstrap", self.bootstrap)
        for name in ("learning_rate", "clip"):
            check_above_zero(name, getattr(self, name))
        for name in ("weight_decay", "blur", "min_progress"):
            check_at_least_zero(name, getattr(self, name))


@dataclass(frozen=True)
class FitReport:
    """The result of a fit."""

    scores: tuple[float, ...]
    """The best score of every member on the holdout."""
    elites: tuple[int, ...]
    """Members that roll-outs use, the best first."""
    steps: int
    """Updates taken."""
    history: tuple[tuple[float, ...], ...]
    """Scores of all members at every evaluation, the first before any update."""

    @property
    def score(self) -> float:
        """Mean of the elites' best scores."""
        return sum(self.scores[i] for i in self.elites) / len(self.elites)


def fit(
    model: DynamicsModel,
    data: Transitions,
    options: FitOptions | None = None,
    generator: torch.Generator | None = None,
    holdout: Transitions | None = None,
) -> FitReport:
    """Fit all members to `data`, starting from their current parameters, and choose the elites.

    Args:
        model: changed in place; its normalisers are fitted to all the data.
        data: at least two transitions; with a code an episode, two episodes where one is held out.
        options: see `FitOptions`.
        generator: of the split, the batches and the densities' noise.
        holdout: transitions to score members on, instead of a share of `data`.

    Raises:
        ValueError, TypeError: data that does not fit the model.

    >>> from vaerl.dynamics import DynamicsModel
    >>> s = torch.linspace(-1.0, 1.0, 64).unsqueeze(1)
    >>> model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    >>> report = fit(model, Transitions(s, 0.0 * s, 0.5 * s), FitOptions(steps=100))
    >>> report.steps, report.history[-1] < report.history[0]
    (100, True)
    """
    options = options or FitOptions()
    if not isinstance(options, FitOptions):
        raise TypeError(f"options: got {type(options).__name__}, expected FitOptions")
    check_generator("generator", generator)
    model.check(data)
    missing = shortage(model, data, holdout is None and options.holdout > 0.0)
    if missing:
        raise ValueError(missing)
    if model.whole and options.blur:
        raise ValueError(f"blur: got {options.blur!r}, expected 0: the changes are whole numbers")
    data = data.to(model.elites.device)
    model.standardise(data)
    if holdout is None:
        split = _split_episodes if model.latent == "episode" else _split
        train, holdout = split(data, options, generator)
    else:
        train, holdout = data, model.check(holdout).to(model.elites.device)
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
        progress = bool((now < best - options.min_progress).any())
        stale = 0 if progress or run.taken < max(run.warmup, run.blurred) else stale + 1
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


def shortage(model: DynamicsModel, data: Transitions, held_out: bool = True) -> str:
    """What checked data has too little of for a fit, in one line; "" if it is enough.

    >>> model = DynamicsModel(1, 1, density="gaussian", latent="episode", reward=None)
    >>> rows = [[0.0], [1.0]]
    >>> shortage(model, Transitions(rows, rows, rows, episodes=[0, 0]))
    'episodes: got 1, expected at least 2: one is held out'
    """
    if len(data) < 2:
        return f"data: got {len(data)} transition, expected at least 2"
    if model.latent == "episode" and held_out:
        assert data.episodes is not None, "check(data) comes first"
        if bool((data.episodes == data.episodes[0]).all()):
            return "episodes: got 1, expected at least 2: one is held out"
    return ""


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
        self.warmup = (
            options.kl_warmup * options.steps if _has_kl(model) and not model.fits else 0.0
        )
        self.blurred = options.blur_share * options.steps if options.blur and not model.fits else 0
        self.context = model.inputs(data.states, data.actions)
        self.target = model.targets(data)
        self.after = model.head_targets(data)
        self.episodes = data.episodes
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
        options = self.options
        loss_of = self._stretches_loss if self.model.latent == "episode" else self._loss
        for _ in range(updates):
            share = 0.5 * (1.0 + math.cos(math.pi * self.taken / options.steps))
            for group in self.optimizer.param_groups:
                group["lr"] = options.learning_rate * (0.05 + 0.95 * share)
            loss = loss_of()
            if not bool(torch.isfinite(loss.detach()).any()):  # one member may go astray alone
                raise NotFinite(f"loss of every member of the model is {number(loss[0].item())}")
            self.optimizer.zero_grad()
            loss.sum().backward()  # members share nothing: each gets its own gradient
            self._clip()
            self.optimizer.step()
            self.taken += 1
        self.model.changed()

    @torch.no_grad()
    def _clip(self) -> None:
        """Shorten the gradients of members whose norm is above the limit."""
        gradients = [p.grad for p in self.model.networks.parameters() if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        share = (self.options.clip / norms.clamp_min(self.options.clip)).nan_to_num(1.0)
        for gradient in gradients:
            gradient.mul_(share.view(-1, *(1,) * (gradient.ndim - 1)))

    def _loss(self) -> Tensor:
        """Mean over a batch of −log p(Δs, r, d | s, a), or its bound, ``(E,)``."""
        networks: Any = self.model.networks
        rows = self._draw(self.batch)
        context, x = self.context[rows], self.target[rows]
        weight = min(1.0, self.taken / self.warmup) if self.warmup else 1.0
        loss, _ = networks["density"].loss(
            context, self._blur(x), diagnostics=False, kl_weight=weight, generator=self.generator
        )
        return (loss + self._heads_loss(context, x, rows)).mean(1)

    def _stretches_loss(self) -> Tensor:
        """−L_k of stretches of episodes that begin at any row, per step, ``(E,)``."""
        assert self.episodes is not None, "check(data) comes first"
        length = self.options.stretch
        starts = self._draw(max(1, self.batch // length))
        rows, mask = stretches_from(starts, self.episodes, length)
        context, x = self.context[rows], self.target[rows]
        bound = episode_bound(
            self.model.networks,
            context,
            self._blur(x),
            mask,
            self.model.latent_k,
            self.generator,
            training=True,
        )
        heads = self._heads_loss(context.flatten(1, 2), x.flatten(1, 2), rows.flatten(1, 2))
        heads = (heads * mask.flatten(1, 2)).sum(1)
        return (heads - bound.sum(1)) / mask.sum((1, 2))

    def _blur(self, x: Tensor) -> Tensor:
        """Targets with the noise of this step, see `FitOptions.blur`."""
        if self.taken >= self.blurred:
            return x
        scale = self.options.blur * BLUR_FALL ** (-self.taken / self.blurred)
        return torch.add(x, standard_normal(x.shape, x, self.generator), alpha=scale)

    def _heads_loss(self, context: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        """−log p(r, d | s, a, Δs) of rows ``(E, B)``, as far as heads learn them."""
        change = x[..., : self.model.change_dim]
        known = (None if all_rows is None else all_rows[rows] for all_rows in self.after)
        return heads_loss(self.model.networks, context, change, *known)

    def _draw(self, count: int) -> Tensor:
        """Rows ``(E, count)``, each member's from its own resampling."""
        return self.own.gather(1, self._randint(self.own.shape[1], (len(self.own), count)))

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


def _split_episodes(
    data: Transitions, options: FitOptions, generator: torch.Generator | None
) -> tuple[Transitions, Transitions]:
    """The same, with every episode on one side only; of such that are all longer than the share,
    the shortest is held out."""
    assert data.episodes is not None, "check(data) comes first"
    numbers, place, counts = torch.unique_consecutive(
        data.episodes, return_inverse=True, return_counts=True
    )
    order = torch.randperm(len(numbers), generator=generator, device=numbers.device)
    most = min(options.holdout * len(data), options.holdout_rows)
    held = int((counts[order].cumsum(0) <= most).sum())
    if held == 0:
        order, held = order[counts[order].argmin()].unsqueeze(0), 1
    chosen = torch.zeros(len(numbers), dtype=torch.bool, device=numbers.device)
    chosen[order[: max(1, min(held, len(numbers) - 1))]] = True
    inside = chosen[place]
    train = data if options.holdout == 0.0 else data.rows(~inside)
    return train, data.rows(inside)


def _has_kl(model: DynamicsModel) -> bool:
    """Whether the density of single steps has latents."""
    return model.latent == "step" and bool(getattr(model.networks["density"], "latent_dims", ()))


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
