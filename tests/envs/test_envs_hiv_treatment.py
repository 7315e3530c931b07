"""HIVTreatment against its equations, written anew and solved by SciPy."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from vaerl.envs.hiv_treatment import SICK, HIVTreatmentEnv, advance, draw_doses
from vaerl.planning import SimulatorModel


def slopes(s, eps1, eps2):
    """Ernst et al. 2006, with the constants of the published code, one state at a time."""
    t1, t2, t1s, t2s, v, e = s
    f, k1, k2, delta, m1, m2, c, nt = 0.34, 8e-7, 1e-4, 0.7, 1e-5, 1e-5, 13.0, 100.0
    hit1, hit2 = (1 - eps1) * k1 * v * t1, (1 - f * eps1) * k2 * v * t2
    sick = t1s + t2s
    return [
        1e4 - 0.01 * t1 - hit1,
        31.98 - 0.01 * t2 - hit2,
        hit1 - delta * t1s - m1 * e * t1s,
        hit2 - delta * t2s - m2 * e * t2s,
        (1 - eps2) * nt * delta * sick - c * v - hit1 - hit2,
        1 + 0.3 * sick / (sick + 100) * e - 0.25 * sick / (sick + 500) * e - 0.1 * e,
    ]


def solve(state, doses):
    solution = solve_ivp(
        lambda t, s: slopes(s, *doses), (0.0, 20.0), 10.0**state, "LSODA", rtol=1e-8, atol=1e-8
    )
    return np.log10(solution.y[:, -1])


def test_cells_and_viruses_follow_the_equations():
    """Through rebounds of the virus, from the start on and from a strong response."""
    rng = np.random.default_rng(0)
    starts = np.stack(
        [np.log10(SICK), [5.8, 3.1, 2.0, 1.0, 2.5, 5.0], [5.9, 3.4, -1.0, -1.0, 0, 3]]
    )
    for start in starts:
        state = start
        for _ in range(4):
            doses = rng.uniform(0.0, [0.91, 0.39])
            after, expected = advance(state, doses), solve(state, doses)
            np.testing.assert_allclose(after, expected, rtol=0, atol=0.01)
            state = expected


def test_an_untreated_patient_stays_sick():
    """The start is a steady state; its reward is that of the source."""
    env = gymnasium.make("vaerl/HIVTreatment-v0")
    first, _ = env.reset(seed=0)
    np.testing.assert_allclose(first, np.log10(SICK), atol=1e-6)
    total, steps, over = 0.0, 0, False
    while not over:
        after, reward, terminated, over, _ = env.step([-1.0, -1.0])
        assert not terminated
        total, steps = total + reward, steps + 1
    np.testing.assert_allclose(after, first, atol=0.01)
    assert steps == 50
    expected = 50 * ((1e3 * SICK[5] - 0.1 * SICK[4]) / 1e6 - 1.0)
    assert total == pytest.approx(expected, abs=0.05)


def test_doses_vary_by_fifteen_percent_and_are_clipped():
    """Both drugs are scaled by .7; the second is clipped at .39 from a = .11 on."""
    rng = np.random.default_rng(0)
    first, second = draw_doses(np.tile([0.0, -0.5], (20_000, 1)), rng).T
    assert first.mean() == pytest.approx(0.35, abs=0.002)
    assert first.std() == pytest.approx(0.0525, abs=0.001)
    assert second.mean() == pytest.approx(0.175, abs=0.001)
    highest = draw_doses(np.ones((20_000, 2)), rng)
    assert highest.max(axis=0).tolist() == [0.91, 0.39]
    assert (highest[:, 1] == 0.39).mean() > 0.99
    assert (draw_doses(np.full((9, 2), -1.0), rng) == 0.0).all()


def test_a_batch_is_its_rows_and_a_step_one_of_them():
    env, rng = HIVTreatmentEnv(), np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (3, 2, 2))
    steps = env.step_batch(np.log10(SICK), actions, np.random.default_rng(7))
    doses = draw_doses(actions, np.random.default_rng(7))
    assert steps.next_states.shape == (3, 2, 6) and not steps.terminated.any()
    np.testing.assert_allclose(
        steps.next_states[2, 1], advance(np.log10(SICK), doses[2, 1]), rtol=0, atol=1e-9
    )
    viruses, response = (10.0 ** steps.next_states[..., i] for i in (4, 5))
    expected = -0.1 * viruses - 2e4 * doses[..., 0] ** 2 - 2e3 * doses[..., 1] ** 2
    expected = (expected + 1e3 * response) / 1e6 - 1.0
    np.testing.assert_allclose(steps.rewards, expected, rtol=1e-12)
    env.reset(seed=3)
    seed = env.np_random.bit_generator.state
    after, reward, *_ = env.step(actions[0, 0])
    env.np_random.bit_generator.state = seed
    again = env.step_batch(np.log10(SICK), actions[0, 0], env.np_random)
    np.testing.assert_allclose(after, again.next_states, rtol=1e-6)
    assert reward == pytest.approx(float(again.rewards))


def test_one_pair_of_doses_is_drawn_anew_for_every_state():
    states = np.tile(np.log10(SICK), (50, 1))
    steps = HIVTreatmentEnv().step_batch(states, [0.0, 0.0], np.random.default_rng(0))
    assert len(np.unique(steps.rewards)) == 50


@pytest.mark.parametrize(
    ("states", "actions", "message"),
    [
        (np.zeros((3, 1)), np.zeros((3, 1)), r"states: got shape \(3, 1\), expected \(…, 6\)"),
        (np.zeros((3, 6)), np.zeros((3, 1)), r"actions: got shape \(3, 1\), expected \(…, 2\)"),
        (np.zeros((3, 6)), np.zeros((2, 2)), r"actions: got shape \(2, 2\), expected the batch of"),
        (np.full(6, np.nan), np.zeros(2), "states: got NaN or infinity, expected finite numbers"),
        (np.zeros(6), np.full(2, np.inf), "actions: got NaN or infinity, expected finite numbers"),
        (np.full(6, 50.0), np.zeros(2), r"states: got \[50.0, .*, expected numbers from -5 to 8"),
        ("sick", np.zeros(2), "states: got str, expected an array"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(states, actions, message):
    with pytest.raises(ValueError, match=rf"^{message}[^\n]*$"):
        HIVTreatmentEnv().step_batch(states, actions, np.random.default_rng(0))


def test_the_known_reward_is_that_of_the_doses_meant():
    """Arrays and tensors alike, within .01 of what the doses that turned out give."""
    env, rng = HIVTreatmentEnv(), np.random.default_rng(0)
    states = np.tile(np.log10(SICK), (200, 1))
    actions = rng.uniform(-1.0, 1.0, (200, 2))
    steps = env.step_batch(states, actions, rng)
    known = env.reward(states, actions, steps.next_states)
    assert 0.0 < np.abs(known - steps.rewards).max() < 0.01
    tensors = (torch.from_numpy(x) for x in (states, actions, steps.next_states))
    np.testing.assert_allclose(env.reward(*tensors).numpy(), known, rtol=1e-12)
    assert not env.terminated(states, actions, steps.next_states).any()


def test_planners_can_step_it():
    step = SimulatorModel(HIVTreatmentEnv()).step(
        torch.as_tensor(np.log10([SICK] * 2)).float(), torch.zeros(2, 2)
    )
    assert step.next_states.shape == (2, 6) and step.rewards.shape == (2,)
    assert not step.dones.any()
