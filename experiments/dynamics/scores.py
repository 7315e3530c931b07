"""Distances of a learned law from the true one, which score every task with a known law."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaerl.dynamics import (
    DynamicsModel,
    Transitions,
    calibration_error,
    energy_distance,
    log_density,
    mode_scores,
    pit,
    predict,
)
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.laws import DiscreteLaw, Law, MixedLaw, MixtureLaw

PAIRS = 200  # pairs (s, a) whose laws are compared by draws
DRAWS = 200
PIT_ROWS = 1000
K = 256  # importance samples of a bound
PROBE_DRAWS = 2000


class HistogramScores(NamedTuple):
    """Means over pairs (s, a) of KL(p ‖ p̂), KL(p̂ ‖ p) and the Hellinger distance."""

    kl: float
    inverse_kl: float
    hellinger: float


class Looks(NamedTuple):
    """Data for pictures, without the model."""

    probe_draws: Tensor
    """The model's at the environment's probe pairs, ``(n, P, S)``."""
    probe_truth: Tensor
    pit: Tensor
    """Of test transitions, ``(N, S)``."""


def nll(world: DynamicsModel, data: Transitions, k: int = K) -> float:
    """−mean log p of test transitions under the ensemble's mean law, a bound where it is latent."""
    return -float(log_density(world, data, k).double().mean())


def law_scores(
    env: KnownLawEnv,
    world: DynamicsModel,
    pairs: tuple[np.ndarray, np.ndarray],
    *,
    noise: float,
    radius: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """Energy distance in standard deviations, mode coverage and spurious mass: means over pairs.

    Draws of the law carry the noise that the model has learned from.
    """
    states, actions = pairs
    law = env.transition_distribution(states, actions)
    scored = list(law.scored)
    rng = np.random.default_rng(0)
    truth, other = (_drawn(law, noise, rng)[..., scored] for _ in range(2))
    s, a = as_tensors(states, actions)
    draws = predict(world, s, a, DRAWS, generator)[..., scored]
    scale = truth.flatten(0, 1).std(0)
    distance = energy_distance(draws / scale, truth / scale)

    def log_prob(x: Tensor) -> Tensor:
        whole = np.zeros((*x.shape[:-1], len(states[0])))
        whole[..., scored] = x.double().numpy()
        found = law.noisy_log_prob(whole, noise) if noise else law.log_prob(whole)
        return torch.as_tensor(found)

    centres, weights = modes_of(law)
    modes = mode_scores(draws, other, log_prob, centres, weights, radius=radius)
    return {
        "energy": float(distance.mean()),
        "coverage": float(modes.coverage.mean()),
        "spurious": float(modes.spurious.mean()),
    }


def histogram_scores(true: ArrayLike, model: ArrayLike) -> HistogramScores:
    """Compare samples of two discrete laws, pair by pair, by their histograms.

    KL = Σ p (log(p + 1e-5) − log(p̂ + 1e-5)), Hellinger = ‖√p − √p̂‖ / √2, as in rlutils
    (kl_preds_v2) of Moerland et al. 2017. Two sets of 200 samples of the same law of the ghost
    grid still differ: KL .031, Hellinger .081.

    Args:
        true, model: (count, pairs, D), numbers that are equal where the states are.

    >>> scores = histogram_scores([[[0.0]], [[1.0]]], [[[1.0]], [[1.0]]])
    >>> round(scores.kl, 2), round(scores.hellinger, 3)
    (5.06, 0.541)
    """
    p, q = np.asarray(true, dtype=np.float64), np.asarray(model, dtype=np.float64)
    if p.ndim != 3 or q.ndim != 3 or p.shape[1:] != q.shape[1:] or not len(p) or not len(q):
        raise ValueError(
            f"true, model: got shapes {p.shape}, {q.shape}, expected (count, pairs, D)"
        )
    rows = []
    for pair in range(p.shape[1]):
        both = np.concatenate([p[:, pair], q[:, pair]])
        _, cell = np.unique(both, axis=0, return_inverse=True)
        bins = int(cell.max()) + 1
        a = np.bincount(cell.ravel()[: len(p)], minlength=bins) / len(p)
        b = np.bincount(cell.ravel()[len(p) :], minlength=bins) / len(q)
        ratio = np.log(a + 1e-5) - np.log(b + 1e-5)
        distance = math.sqrt(0.5 * np.square(np.sqrt(a) - np.sqrt(b)).sum())
        rows.append((float(a @ ratio), float(-b @ ratio), distance))
    return HistogramScores(*np.mean(rows, axis=0).tolist())


def calibration(
    env: KnownLawEnv, world: DynamicsModel, data: Transitions, generator: torch.Generator
) -> tuple[float, Tensor]:
    """Mean distance of PIT values from uniform, and the values of the scored coordinates."""
    few = data.rows(torch.arange(min(PIT_ROWS, len(data))))
    draws = predict(world, few.states, few.actions, DRAWS, generator)
    values = pit(draws, few.next_states, generator)[:, list(env.scored)]
    error = float(np.mean([calibration_error(column) for column in values.T]))
    return error, values


def looks(
    env: KnownLawEnv,
    world: DynamicsModel,
    values: Tensor,
    noise: float,
    generator: torch.Generator,
) -> Looks:
    """Draws at the environment's probe pairs, the model's and the law's."""
    probes = list(env.probe_pairs().values())
    states = np.stack([state for state, _ in probes])
    actions = np.stack([np.asarray(action) for _, action in probes])
    law = env.transition_distribution(states, actions)
    scored = list(law.scored)
    truth = _drawn(law, noise, np.random.default_rng(1), PROBE_DRAWS)[..., scored]
    s, a = as_tensors(states, actions)
    draws = predict(world, s, a, PROBE_DRAWS, generator)[..., scored]
    return Looks(draws.contiguous(), truth.float().contiguous(), values.contiguous())


def modes_of(law: Law) -> tuple[Tensor, Tensor]:
    """Places ``(B, K, S)`` and probabilities ``(B, K)`` of a law's modes, coinciding ones joined.

    >>> modes_of(MixtureLaw([0.5, 0.5], [[1.0], [1.0]], 0.1))[1].tolist()
    [1.0, 0.0]
    """
    centres, weights = _parts(law)
    weights = weights.copy()
    for j in range(1, weights.shape[-1]):
        for i in range(j):
            same = np.abs(centres[..., i, :] - centres[..., j, :]).max(axis=-1) < 1e-6
            moved = np.where(same & (weights[..., i] > 0.0), weights[..., j], 0.0)
            weights[..., i] += moved
            weights[..., j] -= moved
    return torch.as_tensor(centres).float(), torch.as_tensor(weights).float()


def as_tensors(states: np.ndarray, actions: Any) -> tuple[Tensor, Tensor]:
    """States and actions as models take them."""
    a = torch.as_tensor(np.asarray(actions))
    return torch.as_tensor(states).float(), a.float() if a.is_floating_point() else a


def _parts(law: Law) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(law, DiscreteLaw):
        return law.support, law.probabilities
    if isinstance(law, MixtureLaw):
        return law.means, law.weights
    assert isinstance(law, MixedLaw), type(law).__name__
    if not isinstance(law.rest, MixtureLaw):
        return law.atoms, law.probabilities
    left = 1.0 - law.probabilities.sum(axis=-1, keepdims=True)
    return (
        np.concatenate([law.atoms, law.rest.means], axis=-2),
        np.concatenate([law.probabilities, left * law.rest.weights], axis=-1),
    )


def _drawn(law: Law, noise: float, rng: np.random.Generator, count: int = DRAWS) -> Tensor:
    found = law.sample(count, rng)
    return torch.as_tensor(found + noise * rng.standard_normal(found.shape)).float()
