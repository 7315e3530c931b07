"""Inverse kinematics as a density task: postures x of a planar arm, given a noisy sight of its tip.

    x ~ p(x),   y = f(x) + σ ε,   c = (y − m) / s
    log p(x | c) = log p(x) + log N(y; f(x), σ² I) − log p(y)

f and p(x) are those of `vaerl.envs.inverse_kinematics`, m and s mean and standard deviation of y.
A pair (c, x) is drawn as it arises, so that x is an exact draw of the posterior. The evidence p(y)
is the density of a point of the plane: the tips of 2·10⁶ draws from the prior and their mirror
images, on a grid of σ/8, smoothed by N(0, σ² I). Where y is likely it is good to 2 %.

Source: Kruse, Ardizzone, Rother & Köthe 2021, "Benchmarking invertible architectures on inverse
problems" (four joints); the arms of 8 and 16 joints and the noise are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

from vaerl.envs.base import Array
from vaerl.envs.inverse_kinematics import BANDWIDTHS, Arm, Posterior
from vaerl.envs.metrics import mmd
from vaerl.experiments.density_suite.laws import Sampler, Target

CELLS = 8  # of the grid in a σ
PLACES = 5  # sights at which samples are judged
LEAST = 0.1  # p(y) there
COMPARED = 500  # samples there
_BLOCK = 10_000  # small enough for the cache


class Evidence(NamedTuple):
    """p(y) on a grid, and the scale of y."""

    corner: Array
    cell: float
    density: Array
    mean: Array
    std: Array

    def log_prob(self, y: Array) -> Array:
        """log p(y) (n,) of sights (n, 2), in nats."""
        places = (y - self.corner) / self.cell
        density = map_coordinates(self.density, places.T, order=1)
        return np.log(np.maximum(density, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class ArmTarget(Target):
    """p(x | c) of an arm with `joints` joints; sizes and units are those of the environment."""

    context_dim: ClassVar[int] = 2
    sigma: float = 0.02
    #: of the prior, for the evidence
    draws: int = 2_000_000

    @property
    def arm(self) -> Arm:
        """Its geometry and prior."""
        return Arm(self.event_dim)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(n, self.event_dim + 2, generator=generator, dtype=torch.float64).numpy()
        x = self.arm.stds * noise[:, 2:]
        y = self.arm.tip(x) + self.sigma * noise[:, :2]
        evidence = self.evidence()
        return torch.from_numpy((y - evidence.mean) / evidence.std), torch.from_numpy(x)

    def sample(self, contexts: Tensor, generator: torch.Generator) -> Tensor:
        """Exact draws by rejection; quick where most contexts are equal."""
        places, which = contexts.double().unique(dim=0, return_inverse=True)
        x = torch.empty(len(contexts), self.event_dim, dtype=torch.float64)
        seed = int(torch.randint(2**31, (), generator=generator))
        for number, place in enumerate(places):
            rows = which == number
            exact = self.posterior(place).sample(int(rows.sum()), np.random.default_rng(seed))
            x[rows] = torch.from_numpy(exact)
        return x

    def log_prob(self, contexts: Tensor, x: Tensor) -> Tensor:
        y, postures = self.sights(contexts), x.double().numpy()
        offset = (y - self.arm.tip(postures)) / self.sigma
        log_sight = -0.5 * np.square(offset).sum(-1) - math.log(2.0 * math.pi * self.sigma**2)
        log_joint = self.arm.log_prior(postures) + log_sight
        return torch.from_numpy(log_joint - self.evidence().log_prob(y))

    def sights(self, contexts: Tensor) -> Array:
        """The y (n, 2) of contexts (n, 2)."""
        evidence = self.evidence()
        return evidence.mean + evidence.std * contexts.double().numpy()

    def posterior(self, context: Tensor) -> Posterior:
        """p(x | c) at one context (2,)."""
        return Posterior(self.arm, self.sights(context), self.sigma)

    def evidence(self) -> Evidence:
        """p(y), computed once a process."""
        return _evidence(self.event_dim, self.sigma, self.draws)

    def judge(self, sampler: Sampler) -> dict[str, float]:
        """The benchmark's scores, means over `PLACES` sights: the error of the tip ("error") and
        the mismatch with exact draws, with those of the posterior itself ("…_ceiling", "…_floor").
        """
        scores = []
        for judged in _judges(self):
            x = sampler(judged.context.expand(COMPARED, -1)).double().numpy()
            first, second = judged.exact[:COMPARED], judged.exact[COMPARED:]
            stds = self.arm.stds
            scores.append(
                {
                    "error": judged.posterior.miss(x).mean(),
                    "error_ceiling": judged.posterior.miss(judged.exact).mean(),
                    "mismatch": mmd(x / stds, first / stds, BANDWIDTHS),
                    "mismatch_floor": mmd(second / stds, first / stds, BANDWIDTHS),
                }
            )
        return {name: fmean(score[name] for score in scores) for name in scores[0]}

    def shown(self) -> Tensor:
        return torch.cat([judged.context for judged in _judges(self)[:3]])

    def outlines(self, x: Tensor) -> Array:
        """The arms (n, links + 1, 2)."""
        return self.arm.points(x.double().numpy())


@dataclass(frozen=True)
class Arm4(ArmTarget):
    """The benchmark's arm."""

    name: ClassVar[str] = "arm-4"
    summary: ClassVar[str] = "postures of an arm of 4 joints that reach c"
    event_dim: ClassVar[int] = 4


@dataclass(frozen=True)
class Arm8(ArmTarget):
    """Eight turning joints."""

    name: ClassVar[str] = "arm-8"
    summary: ClassVar[str] = "postures of an arm of 8 joints that reach c"
    event_dim: ClassVar[int] = 8


@dataclass(frozen=True)
class Arm16(ArmTarget):
    """Sixteen turning joints."""

    name: ClassVar[str] = "arm-16"
    summary: ClassVar[str] = "postures of an arm of 16 joints that reach c"
    event_dim: ClassVar[int] = 16


class Judged(NamedTuple):
    """A sight at which samples are judged."""

    context: Tensor
    posterior: Posterior
    exact: Array


@cache
def _judges(target: ArmTarget) -> list[Judged]:
    """Sights as they arise, among those that rejection can reach, with their exact draws."""
    contexts, _ = target.draw(100, torch.Generator().manual_seed(1))
    likely = target.evidence().log_prob(target.sights(contexts)) > math.log(LEAST)
    judges = []
    for context in contexts[torch.from_numpy(likely)][:PLACES].split(1):
        posterior = target.posterior(context[0])
        exact = posterior.sample(2 * COMPARED, np.random.default_rng(0))
        judges.append(Judged(context, posterior, exact))
    return judges


@cache
def _evidence(joints: int, sigma: float, draws: int) -> Evidence:
    arm, rng, cell = Arm(joints), np.random.default_rng(0), sigma / CELLS
    margin = 8.0 * sigma
    reach: Array = np.array([2.0, 2.0 + 8.0 * arm.stds[0] * arm.slides]) + margin
    half = np.ceil(reach / cell).astype(int)
    corner, shape = -half * cell, 2 * half + 1
    counts = np.zeros(shape.prod(), dtype=np.int64)
    total, squares = np.zeros(2), np.zeros(2)
    for _ in range(draws // _BLOCK):
        tips = arm.tip(arm.draw(_BLOCK, rng))
        total, squares = total + tips.sum(0), squares + np.square(tips).sum(0)
        at = np.rint((tips - corner) / cell).astype(np.int64)
        counts += np.bincount(np.ravel_multi_index(at.T, shape), minlength=len(counts))
    mean = total / draws
    width = math.sqrt(CELLS**2 - 1.0 / 12.0)  # a cell adds the variance of a uniform law
    plane = counts.reshape(shape).astype(np.float64)
    plane = 0.5 * (plane + plane[:, ::-1])  # a posture and its mirror image are equally likely
    smooth = gaussian_filter(plane, width, mode="constant", truncate=7.0)
    std = np.sqrt(squares / draws - np.square(mean) + sigma**2)
    return Evidence(corner, cell, smooth / (draws * cell**2), mean, std)
