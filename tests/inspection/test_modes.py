"""Modes are found where their number is known, over seeds, in one dimension and in 32."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from vaerl.inspection.modes import PROPOSE, find_modes, share_interval

SEEDS = range(5)
DRAWS = 8192


def normal(seed: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(DRAWS, dims))


def blobs(
    seed: int, modes: int, dims: int, distance: float, shares: list[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws from unit normals whose nearest centres are `distance` apart, and their centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(modes, dims))
    centres *= distance / pdist(centres).min()
    chosen = rng.choice(modes, size=DRAWS, p=shares)
    return centres[chosen] + rng.normal(size=(DRAWS, dims)), centres


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dims", [1, 2, 32])
def test_a_gaussian_has_one_mode(seed: int, dims: int) -> None:
    assert find_modes(normal(seed, dims)).count == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dims", [2, 32])
@pytest.mark.parametrize("modes", [4, 40])
def test_four_and_forty_modes_are_found(seed: int, dims: int, modes: int) -> None:
    draws, centres = blobs(seed, modes, dims, 8.0)
    found = find_modes(draws)
    assert found.count == modes
    gaps = np.linalg.norm(found.centres[:, None] - centres, axis=-1).min(1)
    # a mean of at least 100 draws of unit variance in each of the dimensions
    assert gaps.max() < 5.0 * np.sqrt(dims / (DRAWS / modes / 2))
    # within its own mode, a dimension of a draw has variance 1
    np.testing.assert_allclose(found.spreads, 1.0, rtol=0, atol=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_four_modes_on_a_ring_in_chunks_of_32(seed: int) -> None:
    """Four ways that differ in a few of 32 numbers."""
    rng = np.random.default_rng(seed)
    angle = rng.integers(4, size=DRAWS) * np.pi / 2
    draws = 0.3 * rng.normal(size=(DRAWS, 32))
    draws[:, :6] += np.stack([np.cos(angle), np.sin(angle)] * 3, axis=1)
    assert find_modes(draws).count == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_lie_within_their_intervals(seed: int) -> None:
    shares = [0.6, 0.25, 0.1, 0.05]
    found = find_modes(blobs(seed, 4, 32, 8.0, shares)[0])
    assert found.count == 4
    np.testing.assert_allclose(found.shares.sum(), 1.0, rtol=0, atol=1e-12)
    slack = 0.85 * np.ptp(found.intervals, axis=1)  # from 95 % to 99.9 %
    assert (np.abs(found.shares - shares) < slack).all()
    assert (found.intervals[:, 0] < found.shares).all()
    assert (np.bincount(found.labels) == found.shares * DRAWS).all()


@pytest.mark.parametrize("name", ["uniform", "exponential", "student", "ring", "arc", "stretched"])
@pytest.mark.parametrize("seed", SEEDS)
def test_shapes_without_a_valley_have_one_mode(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi, DRAWS)
    draws = {
        "uniform": rng.uniform(size=(DRAWS, 2)),
        "exponential": rng.exponential(size=(DRAWS, 1)),
        "student": rng.standard_t(3, size=(DRAWS, 2)),
        "ring": np.stack([np.cos(turn), np.sin(turn)], 1) + 0.05 * rng.normal(size=(DRAWS, 2)),
        "arc": np.stack([np.cos(turn / 2), np.sin(turn / 2)], 1),  # a curve without width
        "stretched": rng.normal(size=(DRAWS, 32)) * np.geomspace(1, 0.01, 32),
    }[name]
    assert find_modes(draws).count == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dims", "noise"), [(2, 0.0), (32, 0.3)])
def test_a_bridge_between_modes_does_not_join_them(seed: int, dims: int, noise: float) -> None:
    """Decoders are continuous: between two modes a latent density always leaves some draws."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(DRAWS, 1))
    draws = np.tanh(8.0 * z) * np.ones(dims) + noise * rng.normal(size=(DRAWS, dims))
    assert find_modes(draws).count == 2


def test_the_valley_decides_what_counts_as_two() -> None:
    """Unit normals 3 apart: the density between them is 2 φ(1.5) / (φ(0) + φ(3)) = .64 of a top."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(40_000, 1)) + 3.0 * rng.integers(2, size=(40_000, 1))
    assert find_modes(draws, valley=0.4).count == 1
    assert find_modes(draws, valley=0.9).count == 2


def test_modes_nearer_than_the_resolution_are_one() -> None:
    draws, _ = blobs(0, 2, 2, 8.0)
    assert find_modes(draws, resolution=7.0).count == 2
    assert find_modes(draws, resolution=9.0).count == 1


def test_equal_draws_are_one_mode_without_spread() -> None:
    found = find_modes(np.ones((200, 3)))
    assert (found.count, found.shares.tolist(), found.spreads.tolist()) == (1, [1.0], [0.0])


def test_two_values_are_two_modes() -> None:
    draws = np.random.default_rng(0).integers(2, size=(500, 1)).astype(float)
    found = find_modes(draws)
    assert sorted(found.centres.ravel().tolist()) == [0.0, 1.0]


def test_proposing_draws_alone_would_find_modes_in_noise() -> None:
    """Fresh draws decide: where the deciding part is bimodal by itself, that is seen."""
    normal_part = np.random.default_rng(0).normal(size=(PROPOSE, 1))
    split = np.where(normal_part > 0, normal_part + 4, normal_part - 4)
    both = find_modes(np.concatenate([split, normal_part, normal_part]))
    assert both.count == 1
    assert find_modes(np.concatenate([split, split, split])).count == 2


@pytest.mark.parametrize(
    ("draws", "options", "message"),
    [
        (np.zeros((9, 2)), {}, r"draws: got shape \(9, 2\)"),
        (np.full((99, 2), np.nan), {}, "draws: got NaN"),
        (np.zeros((99, 2)), {"valley": 1.0}, "valley: got 1.0"),
        (np.zeros((99, 2)), {"resolution": 0.0}, "resolution: got 0.0"),
    ],
)
def test_illegal_arguments_get_one_line(draws: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_modes(draws, **options)


@pytest.mark.parametrize("count", [0, 5, 50, 100])
def test_intervals_hold_the_share(count: int) -> None:
    low, high = share_interval([count], 100)[0]
    assert low <= count / 100 <= high
