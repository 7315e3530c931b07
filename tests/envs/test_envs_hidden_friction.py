"""The pendulum with hidden friction: what is hidden, and the filter that finds it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vaerl.envs.noisy_pendulum import HiddenFrictionEnv


def test_hidden_friction_is_held_for_the_episode_and_told_in_info():
    env = HiddenFrictionEnv()
    seen = set()
    for seed in range(12):
        _, info = env.reset(seed=seed)
        held = [env.step([0.0])[4]["friction"] for _ in range(5)]
        assert set(held) == {info["friction"]}
        seen.add(info["friction"])
    assert seen == {0.0, 0.5}


def test_an_episode_has_the_friction_that_its_info_tells():
    env, rng = HiddenFrictionEnv(), np.random.default_rng(0)
    for seed in range(6):
        before, info = env.reset(seed=seed)
        chance = np.array(0.5)
        for _ in range(60):
            torque = rng.uniform(-2, 2, 1)
            after = env.step(torque)[0]
            chance = env.friction_chance(chance, before, torque, after)
            before = after
        assert (chance > 0.9) if info["friction"] > 0 else (chance < 0.1)


def test_the_filter_is_bayes_rule_and_finds_the_friction():
    env, rng = HiddenFrictionEnv(), np.random.default_rng(0)
    state, action, after = np.array([1.0, 0.0, 4.0]), np.array([0.0]), 3.93
    following = env.complete(state, action, np.array([after]))
    ratio = math.exp(((after - 3.9) ** 2 - (after - 4.0) ** 2) / (2 * 0.02**2))
    expected = 0.25 / (0.25 + 0.75 * ratio)
    assert env.friction_chance(0.25, state, action, following) == pytest.approx(expected, rel=1e-6)
    states = env.start_states(300, rng)
    friction, chance = rng.choice([0.0, 0.5], 300), np.full(300, 0.5)
    for _ in range(40):
        torque = rng.uniform(-2, 2, (300, 1))
        after = env.step_batch(states, torque, rng, friction).next_states
        chance = env.friction_chance(chance, states, torque, after)
        states = after
    assert ((chance > 0.5) == (friction > 0)).mean() > 0.97
    with pytest.raises(ValueError, match=r"friction: got 0.3, expected \(0.0, 0.5\)"):
        env.step_batch(states, torque, rng, 0.3)
    with pytest.raises(ValueError, match=r"chance: got 1\.5, expected 0 to 1"):
        env.transition_distribution(states, torque, chance=1.5)
    for name, call in {
        "friction": lambda value: env.step_batch(states, torque, rng, value),
        "chance": lambda value: env.transition_distribution(states, torque, chance=value),
    }.items():
        for wrong in ([0.5, 0.0], "here"):
            with pytest.raises(
                ValueError, match=rf"^{name}: got [^\n]*, or one for each of the ba"
            ):
                call(wrong)
