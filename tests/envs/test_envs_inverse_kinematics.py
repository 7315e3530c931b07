"""The arm: its geometry, the reward as a log-density, and the posterior against its samples."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from scipy import stats

from vaerl.envs.inverse_kinematics import Arm, InverseKinematicsEnv, Posterior

DISC = (0.8, 0.4, 0.3)


@pytest.fixture(scope="module")
def task():
    return Posterior(Arm(4), (1.7, 0.0), 0.1)


def postures(joints=4, count=50, seed=0):
    return Arm(joints).draw(count, np.random.default_rng(seed))


def test_the_tip_is_that_of_the_published_arm():
    """Kruse et al. 2021, equations (7) and (8), with the arm along the first axis."""
    x = postures()
    first, second, third = np.cumsum(x[:, 1:], axis=1).T
    along = 0.5 * np.cos(first) + 0.5 * np.cos(second) + np.cos(third)
    across = x[:, 0] + 0.5 * np.sin(first) + 0.5 * np.sin(second) + np.sin(third)
    np.testing.assert_allclose(Arm(4).tip(x), np.stack([along, across], 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("joints", [4, 8, 16])
def test_every_arm_reaches_two_and_its_links_keep_their_lengths(joints):
    arm = Arm(joints)
    np.testing.assert_allclose(arm.tip(np.zeros(joints)), [2.0, 0.0], atol=1e-12)
    links = np.linalg.norm(np.diff(arm.points(postures(joints)), axis=1), axis=-1)
    np.testing.assert_allclose(links, np.broadcast_to(arm.lengths, links.shape), rtol=1e-12)


@pytest.mark.parametrize("joints", [4, 8, 16])
def test_the_reward_is_the_log_density_of_posture_and_target(joints):
    env = InverseKinematicsEnv(joints=joints, sigma=0.3)
    action = np.random.default_rng(1).uniform(-0.4, 0.4, joints)
    y, _ = env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(action)
    x = env.postures(action)
    expected = stats.norm(0.0, env.arm.stds).logpdf(x).sum()
    expected += stats.multivariate_normal(env.arm.tip(x), 0.09).logpdf(y)
    assert reward == pytest.approx(expected, rel=1e-5)  # y is float32
    assert (terminated, truncated) == (True, False)
    np.testing.assert_array_equal(info["posture"], x)
    np.testing.assert_allclose(info["position"], env.arm.tip(x), rtol=1e-12)


@pytest.mark.parametrize("joints", [4, 8, 16])
def test_mirrored_postures_are_equally_good_for_a_target_on_the_axis(joints):
    task = Posterior(Arm(joints), (1.7, 0.0), 0.1, [(1.0, 0.0, 0.3)])
    x = postures(joints)
    np.testing.assert_allclose(task.log_joint(-x), task.log_joint(x), rtol=1e-10)
    assert (task.arm.bend(-x) != task.arm.bend(x)).all()


def test_the_density_integrates_to_one_by_importance(task):
    """E over a wider Gaussian of p(x | y) / q(x) is 1; bounds are 5 standard errors."""
    rng = np.random.default_rng(2)
    x = 1.2 * task.arm.draw(1_000_000, rng)
    inside = (np.abs(x) <= 4.0 * task.arm.stds).all(axis=1)
    proposal = stats.norm(0.0, 1.2 * task.arm.stds).logpdf(x).sum(axis=1)
    ratio = np.where(inside, np.exp(task.log_prob(x) - proposal), 0.0)
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / math.sqrt(len(ratio)) + 0.02


def test_samples_by_rejection_agree_with_the_density_by_importance(task):
    """Means of several functions under both; the tolerance is 5 standard errors of both."""
    rng = np.random.default_rng(3)
    drawn, prior = task.sample(4000, rng), task.arm.draw(400_000, rng)
    weights = np.exp(task.log_joint(prior) - task.arm.log_prior(prior))
    weights *= (np.abs(prior) <= 4.0 * task.arm.stds).all(axis=1)
    weights /= weights.sum()
    for values in (np.square, np.abs, np.sin):
        at_prior, at_drawn = values(prior), values(drawn)
        mean = weights @ at_prior
        error = np.sqrt(np.square(weights) @ np.square(at_prior - mean))
        error += at_drawn.std(axis=0) / math.sqrt(len(drawn))
        assert (np.abs(at_drawn.mean(axis=0) - mean) < 5 * error).all()


def test_scores_of_the_posterior_are_the_ceiling_and_one_bend_is_seen(task):
    x = task.sample(2000, np.random.default_rng(4))
    exact = task.scores(x)
    assert exact["error"] == pytest.approx(exact["error_ceiling"], abs=0.01)
    assert exact["mismatch"] < 2.0 * exact["mismatch_floor"]
    assert exact["above"] == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))
    half = task.scores(np.where((task.arm.bend(x) == 0)[:, None], x, -x))
    assert half["error"] == pytest.approx(exact["error"], rel=1e-9), "as close to the target"
    assert half["above"] == 1.0 and half["mismatch"] > 10.0 * exact["mismatch_floor"]


def test_obstacles_forbid_postures(task):
    blocked = Posterior(task.arm, task.target, 0.1, [DISC])
    free, kept = (t.sample(1000, np.random.default_rng(5)) for t in (task, blocked))
    price = task.log_joint(free) - blocked.log_joint(free)
    assert (price >= 0.0).all() and (price > 2.0).mean() > 0.1
    assert ((task.log_joint(kept) - blocked.log_joint(kept)) > 2.0).mean() < 0.02
    assert blocked.log_evidence < task.log_evidence
    straight = np.zeros(4)
    inside = Posterior(task.arm, task.target, 0.1, [(0.3, 0.15, 0.2)])  # the arm enters by .05
    paid = task.log_joint(straight) - inside.log_joint(straight)
    assert paid == pytest.approx(0.5 * (0.05 / 0.1) ** 2, rel=1e-9)


def test_an_episode_says_how_the_arm_bends_and_whether_it_hits():
    env = InverseKinematicsEnv(target=(1.7, 0.0))
    x = env.posterior((1.7, 0.0)).sample(50, np.random.default_rng(6))
    for posture in x:
        env.reset()
        info = env.step(posture / (4.0 * env.arm.stds))[4]
        hit = np.linalg.norm(env.arm.tip(posture) - env.target) <= 0.3
        assert info["is_success"] == hit
        assert info["goal"] == (int(env.arm.bend(posture)) if hit else -1)
    env.reset()
    assert env.step(np.ones(4))[4]["goal"] == -1


def test_targets_are_drawn_by_seed_given_by_option_or_fixed():
    env = InverseKinematicsEnv()
    first = env.reset(seed=1)[0]
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    assert (env.reset()[0] != first).any()
    assert env.reset(options={"state": (1.0, 0.5)})[0].tolist() == [1.0, 0.5]
    fixed = InverseKinematicsEnv(target=(1.0, 0.5))
    assert [fixed.reset()[0].tolist() for _ in range(2)] == [[1.0, 0.5]] * 2
    assert len(env.probe_observations()) == 4 and len(fixed.probe_observations()) == 1


def test_a_frame_shows_the_arms_so_far():
    env = InverseKinematicsEnv(target=(1.7, 0.0), obstacles=[DISC], render_mode="rgb_array")
    env.reset()
    straight = env.render()
    env.step(np.array([0.0, 0.5, -0.3, 0.0]))
    one = env.render()
    env.reset()
    env.step(-np.array([0.0, 0.5, -0.3, 0.0]))
    two = env.render()
    drawn = [(frame != straight).any(axis=-1).sum() for frame in (one, two)]
    assert 0 < drawn[0] < drawn[1], "the first arm stays"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"joints": 5}, r"joints: got 5, expected one of \(4, 8, 16\)"),
        ({"joints": 4.0}, r"joints: got 4.0, expected one of \(4, 8, 16\)"),
        ({"sigma": 0.0}, "sigma: got 0.0, expected a positive finite number"),
        ({"sigma": "a"}, "sigma: got 'a', expected a positive finite number"),
        ({"sigma": True}, "sigma: got True, expected a positive finite number"),
        ({"softness": "x"}, "softness: got 'x', expected a positive finite number"),
        ({"obstacles": 5}, r"obstacles: got 5, expected discs \(x, y, radius\)"),
        ({"target": (9.0, 0.0)}, r"target: got \(9.0, 0.0\), expected within 4"),
        ({"target": (1.0,)}, r"target: got shape \(1,\), expected \(2,\)"),
        ({"obstacles": [(0.0, 0.0)]}, r"obstacles: got shape \(2,\), expected \(3,\)"),
        ({"obstacles": [(0.0, 0.0, -1.0)]}, r"obstacles: got .*, expected radii above 0"),
    ],
)
def test_a_bad_option_raises_one_line_with_what_is_legal(options, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("vaerl/InverseKinematics-v0", **options)


def test_a_target_out_of_reach_has_no_posterior():
    with pytest.raises(ValueError, match=r"target: got .*, expected one within reach"):
        _ = Posterior(Arm(4), (-3.0, 3.0), 0.02).log_evidence
