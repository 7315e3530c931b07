"""What a perfect model of an environment would score, and what the best Gaussian would.

Every figure of the dynamics tables has its reference here: the NLL of the exact law, of the
Gaussian with the same moments (all that a Gaussian model could learn from endless data), the
floors of histogram scores, and step functions with which a planner can be run on the true law, on
that Gaussian, or on the mean. `oracle_planning` has the planners.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.laws import Law
from vaerl.envs.noisy_pendulum import FRICTIONS, MAX_TORQUE, HiddenFrictionEnv
from vaerl.experiments.dynamics.scores import HistogramScores, histogram_scores
from vaerl.experiments.dynamics.worth import StepFunction
from vaerl.names import check_name

REFERENCES = ("true", "gaussian", "mean")


class PredictionOracle(NamedTuple):
    """NLL in nats over (s, a): the exact law's with its standard error, and two Gaussians'."""

    exact: float
    standard_error: float
    gaussian: float  # full covariance
    diagonal: float


class FrictionOracle(NamedTuple):
    """NLL of ω' of HiddenFriction by what is known of c; shares of episodes named rightly."""

    known: float
    filtered: float
    filtered_first_ten: float
    memoryless: float
    gaussian: float
    named: tuple[float, ...]  # after 1, 5 and 20 steps


def prediction_oracle(
    env: KnownLawEnv, *, pairs: int = 20_000, noise: float | None = None, seed: int = 0
) -> PredictionOracle:
    """Score the exact law and Gaussians with its moments over `env.random_pairs`.

    Args:
        pairs: draws of (s, a), one s' each.
        noise: score s' + N(0, noise² I) instead, as laws with atoms ask for.

    >>> from vaerl.envs.wet_chicken import WetChickenEnv
    >>> oracle = prediction_oracle(WetChickenEnv(), noise=0.05)
    >>> round(oracle.exact, 1), round(oracle.gaussian, 1)
    (-0.9, 0.6)
    """
    rng = np.random.default_rng(seed)
    law = env.transition_distribution(*env.random_pairs(pairs, rng))
    drawn = law.sample(1, rng)[0]
    if noise is None:
        nll = -law.log_prob(drawn)
    else:
        nll = -law.noisy_log_prob(drawn + noise * rng.standard_normal(drawn.shape), noise)
    return PredictionOracle(
        float(nll.mean()),
        float(nll.std() / math.sqrt(pairs)),
        float(gaussian_nll(law, noise=noise or 0.0).mean()),
        float(gaussian_nll(law, noise=noise or 0.0, diagonal=True).mean()),
    )


def gaussian_nll(law: Law, *, noise: float = 0.0, diagonal: bool = False) -> Array:
    """Give the expected NLL (*batch,) of the Gaussian with the law's moments.

    ½ log det(2πe Σ), Σ the covariance of the scored coordinates plus noise² I: no Gaussian does
    better. Minus infinity where Σ is singular.
    """
    covariance = law.covariance()
    size = covariance.shape[-1]
    covariance = covariance + noise**2 * np.eye(size)
    with np.errstate(divide="ignore"):
        if diagonal:
            log_det = np.log(np.diagonal(covariance, axis1=-2, axis2=-1)).sum(axis=-1)
        else:
            log_det = np.linalg.slogdet(covariance)[1]
    return 0.5 * (size * math.log(2.0 * math.pi * math.e) + log_det)


def reference_samples(
    env: KnownLawEnv,
    states: ArrayLike,
    actions: ArrayLike,
    kind: str,
    count: int,
    rng: np.random.Generator,
) -> Array:
    """Draw next states (count, *batch, D) from the best that a kind of model could learn.

    Args:
        kind: "true", the law itself; "gaussian", independent Gaussians with the law's means and
            variances, clipped to the observation box; "mean", the law's mean.
    """
    law = env.transition_distribution(states, actions)
    if check_name("kind", kind, REFERENCES) == "true":
        return law.sample(count, rng)
    mean = law.mean()
    values = np.broadcast_to(mean, (count, *mean.shape))
    if kind == "gaussian":
        variance = np.diagonal(law.covariance(), axis1=-2, axis2=-1)
        values = values + np.sqrt(variance) * rng.standard_normal(values.shape)
    box = env.observation_space
    states = np.asarray(states, dtype=np.float64)
    return np.clip(env.complete(states, np.asarray(actions), values), box.low, box.high)


def reference_step(env: KnownLawEnv, kind: str = "true") -> StepFunction:
    """Give the same as a step function for planners: (states, actions, rng) → next states."""
    if check_name("kind", kind, REFERENCES) == "true":
        return lambda states, actions, rng: env.step_batch(states, actions, rng).next_states
    return lambda states, actions, rng: reference_samples(env, states, actions, kind, 1, rng)[0]


def histogram_floors(
    env: KnownLawEnv, kind: str = "true", *, pairs: int = 1500, count: int = 200, seed: int = 0
) -> HistogramScores:
    """Score a reference ("true", "gaussian", "mean") by histograms, rounded to whole numbers."""
    rng = np.random.default_rng(seed)
    states, actions = env.random_pairs(pairs, rng)
    true = reference_samples(env, states, actions, "true", count, rng)
    model = reference_samples(env, states, actions, kind, count, rng)
    return histogram_scores(true, np.rint(model) + 0.0)  # + 0 turns −0 into 0


def friction_oracle(*, episodes: int = 1000, steps: int = 200, seed: int = 0) -> FrictionOracle:
    """Score HiddenFriction's ω' in episodes with random torque: c known, filtered, forgotten.

    A latent held for the episode can at best do as the Bayes filter; one drawn anew at every step
    at best as the memoryless mixture.
    """
    env, rng = HiddenFrictionEnv(), np.random.default_rng(seed)
    states = env.start_states(episodes, rng)
    friction = rng.choice(FRICTIONS, size=episodes)
    rubs = friction == FRICTIONS[1]
    chance = np.full(episodes, 0.5)
    rows, named = [], []
    for t in range(1, steps + 1):
        torque = rng.uniform(-MAX_TORQUE, MAX_TORQUE, (episodes, 1))
        after = env.step_batch(states, torque, rng, friction).next_states
        laws = [
            env.transition_distribution(states, torque, chance=known)
            for known in (1.0 * rubs, chance, 0.5)
        ]
        nll = [float(-law.log_prob(after).mean()) for law in laws]
        rows.append([*nll, float(gaussian_nll(laws[2]).mean())])
        chance = env.friction_chance(chance, states, torque, after)
        if t in (1, 5, 20):
            named.append(float(((chance > 0.5) == rubs).mean()))
        states = after
    table = np.array(rows)
    known, filtered, memoryless, gaussian = table.mean(axis=0).tolist()
    first = float(table[:10, 1].mean())
    return FrictionOracle(known, filtered, first, memoryless, gaussian, tuple(named))
