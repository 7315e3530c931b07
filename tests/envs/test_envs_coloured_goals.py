"""ColouredGoals asks for one goal by two words, both needed, and holds combinations out."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vaerl.envs.coloured_goals import (
    COLOURS,
    HELD_OUT,
    PLACES,
    SIDES,
    STEP,
    VOCABULARY,
    ColouredGoalsEnv,
    instruction,
)

EVERY = [(colour, side) for colour in COLOURS for side in SIDES]


def sides_of(env, colour):
    return {SIDES[i // 2] for i in range(8) if env.colours[i] == colour}


def walk(env, target, steps=15):
    """Go straight to a goal; gives the rewards, whether it ended, and the last info."""
    rewards = []
    for _ in range(steps):
        move = np.clip((PLACES[target] - env._state) / STEP, -1.0, 1.0)
        _, reward, terminated, _, info = env.step(move)
        rewards.append(reward)
        if terminated:
            return rewards, True, info
    return rewards, False, info


@pytest.mark.parametrize("asked", EVERY)
def test_both_words_are_needed(asked):
    """On the asked side is another colour, on another side the asked colour, and one goal fits."""
    env = ColouredGoalsEnv()
    env.reset(seed=0, options={"ask": asked})
    for _ in range(30):
        env.reset(options={"ask": asked})
        side = 2 * SIDES.index(asked[1])
        assert sorted(c == asked[0] for c in env.colours[side : side + 2]) == [False, True]
        assert len(sides_of(env, asked[0])) > 1
        assert env.colours[env.target] == asked[0] and env.target // 2 == side // 2


def test_training_neither_asks_for_nor_shows_what_is_held_out():
    env = ColouredGoalsEnv("training")
    env.reset(seed=0)
    asked = set()
    for _ in range(300):
        _, info = env.reset()
        asked.add(info["asked"])
        assert all(side not in sides_of(env, colour) for colour, side in HELD_OUT)
    assert asked == set(EVERY) - set(HELD_OUT)
    env = ColouredGoalsEnv("held-out")
    env.reset(seed=0)
    assert {env.reset()[1]["asked"] for _ in range(100)} == set(HELD_OUT)


@pytest.mark.parametrize("seed", range(4))
def test_obeying_pays_and_ends_with_success(seed):
    """The way straight to the goal: progress sums to the distance walked, and 1 on arrival."""
    env = ColouredGoalsEnv()
    env.reset(seed=seed)
    start = np.linalg.norm(env._state - PLACES[env.target])
    rewards, ended, info = walk(env, env.target)
    left = np.linalg.norm(env._state - PLACES[env.target])
    assert ended and info["is_success"] and info["goal"] == env.target
    assert sum(rewards) == pytest.approx(1.0 + start - left)
    env.reset(seed=seed)
    other = (env.target + 4) % 8
    rewards, ended, info = walk(env, other)
    assert ended and not info["is_success"] and info["goal"] == other
    assert sum(rewards) < -0.5


def test_an_observation_says_what_the_state_is():
    env = ColouredGoalsEnv()
    observation, info = env.reset(seed=3, options={"ask": ("blue", "top")})
    assert " ".join(VOCABULARY[t] for t in observation["instruction"]) == env.words
    assert env.words == "go to the blue goal on the top"
    assert [VOCABULARY[t] for t in observation["colours"]] == env.colours
    np.testing.assert_allclose(observation["goals"].reshape(8, 2), PLACES, rtol=1e-6)
    np.testing.assert_allclose(observation["position"], info["position"], atol=1e-6)
    _, info = env.reset(options={"start": (0.3, -0.2)})
    assert info["position"].tolist() == [0.3, -0.2]
    assert (instruction("red", "left") != observation["instruction"]).sum() == 2


def test_episodes_stop_after_15_steps_and_bad_options_raise_one_line():
    env = gymnasium.make("vaerl/ColouredGoals-v0")
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(15)]
    assert flags[-1] == (False, True) and not any(any(flag) for flag in flags[:-1])
    for options, message in (
        ({"ask": ("rde", "left")}, "did you mean 'red'"),
        ({"ask": "red"}, "must be"),
        ({"asked": 1}, "unknown entry 'asked'"),
        ({"start": (0.0, 2.0)}, "must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
    with pytest.raises(ValueError, match="did you mean 'training'"):
        ColouredGoalsEnv("trainign")
    with pytest.raises(ValueError, match=r"^action"):
        env.step(np.array([np.nan, 0.0]))
