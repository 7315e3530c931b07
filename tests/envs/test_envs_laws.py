"""Laws as values: samples, densities and moments of one law must tell the same story."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from vaerl.envs.laws import ClippedLaw, DiscreteLaw, MixedLaw, MixtureLaw, UniformLaw


def discrete():
    return DiscreteLaw([[0.0, 1.0], [2.0, -1.0], [9.0, 9.0]], [0.3, 0.7, 0.0])


def mixture():
    return MixtureLaw([0.2, 0.8], [[0.0, 1.0], [2.0, -1.0]], [[0.1, 0.3], [0.5, 0.2]])


def uniform():
    return UniformLaw([3.0, 0.5], [3.0, 2.0])


def mixed():
    """Like Wet-Chicken's: two atoms and a segment."""
    return MixedLaw([[0.0, 0.0], [3.0, 0.0]], [0.25, 0.15], uniform())


def clipped():
    """One coordinate with an atom at either end, one that hardly meets its own."""
    return ClippedLaw([0.2, 1.0], [0.5, 0.1], [0.0, 0.0], [0.6, 2.0])


LAWS = [discrete, mixture, uniform, mixed, clipped]


@pytest.mark.parametrize("make", LAWS)
def test_samples_have_the_moments(make):
    law, n = make(), 200_000
    drawn = law.sample(n, np.random.default_rng(0))
    assert drawn.shape == (n, 2) and law.scored == (0, 1)
    np.testing.assert_allclose(drawn.mean(axis=0), law.mean(), atol=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), law.covariance(), atol=0.015)


@pytest.mark.parametrize("make", LAWS)
def test_noisy_density_is_the_mean_of_gaussians_around_samples(make):
    """p(o) = E N(o; s', σ² I): by simulation, for points where the noise is not negligible."""
    law, sigma = make(), 0.4
    rng = np.random.default_rng(1)
    drawn = law.sample(100_000, rng)
    points = drawn[:6] + sigma * rng.standard_normal((6, 2))
    squared = np.square(points[:, None] - drawn).sum(axis=-1)
    kernel = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    found = np.exp(law.noisy_log_prob(points, sigma))
    error = kernel.std(axis=1) / np.sqrt(len(drawn))
    assert (np.abs(kernel.mean(axis=1) - found) < 4.5 * error + 1e-12).all()


def test_densities_integrate_to_one():
    law = MixtureLaw([0.2, 0.8], [[0.0], [2.0]], 0.3)
    assert quad(lambda x: np.exp(law.log_prob([x])), -3, 5)[0] == pytest.approx(1.0, abs=1e-6)
    segment = UniformLaw([0.0], [2.0])
    noisy = quad(lambda x: np.exp(segment.noisy_log_prob([x], 0.05)), -1, 3, limit=200)[0]
    assert noisy == pytest.approx(1.0, abs=1e-6)


def test_a_clipped_law_with_its_atoms_sums_to_one():
    """Both atoms and the density between them; with noise, the density everywhere."""
    for mean, std in ((0.2, 0.5), (-3.0, 1.0), (0.9, 0.05)):
        law = ClippedLaw([mean], std, 0.0, 1.0)
        inside = quad(lambda x, law=law: np.exp(law.log_prob([x])), 0.0, 1.0, epsabs=1e-12)[0]
        atoms = np.exp(law.log_prob([[0.0], [1.0]]))
        assert atoms.sum() + inside == pytest.approx(1.0, abs=1e-9)
        noisy = quad(
            lambda x, law=law: np.exp(law.noisy_log_prob([x], 0.1)), -1.0, 2.0, epsabs=1e-12
        )[0]
        assert noisy == pytest.approx(1.0, abs=1e-9)
        assert law.log_prob([[-0.1], [1.1]]).tolist() == [-np.inf, -np.inf]


def test_atoms_of_a_clipped_law_are_the_tails():
    """Half of a Gaussian around an end lies at it; far tails keep their digits."""
    assert np.exp(ClippedLaw([2.0], 0.3, 0.0, 2.0).log_prob([2.0])) == pytest.approx(0.5)
    far = ClippedLaw([5.0], 0.1, 0.0, 9.0)
    assert far.log_prob([0.0]) == pytest.approx(-1254.831, abs=0.01)  # log Φ(−50)
    assert far.mean() == pytest.approx(5.0) and far.covariance() == pytest.approx(0.01)


def test_noisy_density_of_a_segment_is_exact_far_in_both_tails():
    """Fifty σ off either end both cdfs are 0 or 1 to every digit, their difference is not."""
    segment = UniformLaw([0.0], [1.0])
    left, right = segment.noisy_log_prob([-5.0], 0.1), segment.noisy_log_prob([6.0], 0.1)
    assert left == pytest.approx(right, rel=1e-9)
    assert left == pytest.approx(-1254.831, abs=0.01)  # log Φ(−50)


def test_atoms_keep_their_probability_and_the_rest_its_density():
    law = mixed()
    points = [[0.0, 0.0], [3.0, 1e-7], [3.0, 1.0], [2.0, 1.0], [3.0, 2.5]]
    expected = [0.25, 0.15, 0.6 / 1.5, 0.0, 0.0]
    np.testing.assert_allclose(np.exp(law.log_prob(points)), expected, rtol=1e-12)
    drawn = law.sample(50_000, np.random.default_rng(0))
    assert np.isfinite(law.log_prob(drawn)).all()
    assert (drawn == [0.0, 0.0]).all(axis=1).mean() == pytest.approx(0.25, abs=0.01)


def test_equal_support_points_add_up():
    law = DiscreteLaw([[1.0], [1.0], [2.0]], [0.2, 0.3, 0.5])
    assert np.exp(law.log_prob([[1.0], [3.0]])).tolist() == pytest.approx([0.5, 0.0])


def test_a_batch_of_laws_is_its_members_side_by_side():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), size=(4, 5))
    means = rng.normal(size=(4, 5, 3, 2))
    law = MixtureLaw(weights, means, 0.1)
    drawn = law.sample(7, rng)
    assert drawn.shape == (7, 4, 5, 2)
    values, covariance = law.log_prob(drawn), law.covariance()
    for i, j in ((0, 0), (3, 4)):
        one = MixtureLaw(weights[i, j], means[i, j], 0.1)
        np.testing.assert_allclose(values[:, i, j], one.log_prob(drawn[:, i, j]), rtol=1e-12)
        np.testing.assert_allclose(covariance[i, j], one.covariance(), rtol=1e-12)


def test_scored_coordinates_are_completed():
    law = MixtureLaw(
        [1.0], [[2.0]], 0.1, scored=(1,), complete=lambda v: np.concatenate([2 * v, v], -1)
    )
    drawn = law.sample(5, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[:, 0], 2 * drawn[:, 1])
    wrong_first = np.add(drawn, [7.0, 0.0])
    np.testing.assert_array_equal(law.log_prob(drawn), law.log_prob(wrong_first))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiscreteLaw([[0.0]], [0.9]), r"probabilities: got \[0.9\], expected"),
        (lambda: MixtureLaw([1.5, -0.5], [[0.0], [1.0]], 1.0), "weights: got"),
        (lambda: MixtureLaw([1.0], [[0.0]], 0.0), "stds: got 0.0, expected above 0"),
        (lambda: ClippedLaw([0.0], 1.0, 2.0, 1.0), r"low: got \[2.0\], expected below \[1.0\]"),
        (lambda: ClippedLaw([0.0], -1.0, 0.0, 1.0), "stds: got -1.0, expected above 0"),
        (lambda: clipped().noisy_log_prob([0.0, 0.0], -1.0), "sigma: got -1.0, expected above"),
        (lambda: uniform().noisy_log_prob([0.0, 0.0], 0.0), "sigma: got 0.0, expected above 0"),
    ],
)
def test_a_law_that_is_none_raises_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
