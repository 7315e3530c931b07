"""ColouredGoals asks for one goal by two words, both needed, and holds combinations out."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vaerl.envs.coloured_goals import (
    COLOURS,
    COMBINATIONS,
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


@pytest.mark.parametrize("combinations", COMBINATIONS)
@pytest.mark.parametrize("word", [*COLOURS, *SIDES])
def test_one_word_is_enough_where_it_is_all_that_is_said(word, combinations):
    """One goal on each side, each colour once: exactly one goal has the word, and is the target."""
    env = ColouredGoalsEnv(combinations)
    env.reset(seed=0)
    targets = set()
    for _ in range(20):
        observation, info = env.reset(options={"ask": (word,)})
        there = {(env.colours[i], SIDES[i // 2]): i for i in range(8) if env.colours[i]}
        assert sorted(colour for colour, _ in there) == sorted(COLOURS)
        assert sorted(side for _, side in there) == sorted(SIDES)
        assert [i for pair, i in there.items() if word in pair] == [env.target]
        pair = (env.colours[env.target], SIDES[env.target // 2])
        assert combinations != "training" or not set(there) & set(HELD_OUT)
        assert combinations != "held-out" or pair in HELD_OUT
        assert info["asked"] == (word,)
        assert env.words.split().count(word) == 1 and len(env.words.split()) in (5, 7)
        said = [VOCABULARY[token] for token in observation["instruction"]]
        assert " ".join(said).strip() == env.words
        targets.add(env.target)
    assert len(targets) > 1


def test_what_is_said_follows_asks_and_is_mixed_by_halves():
    """Of 400 mixed episodes half say both words (± 4 standard deviations), a quarter each one."""
    for asks, kinds in (("both", [2]), ("colour", ["colour"]), ("side", ["side"])):
        env = ColouredGoalsEnv("training", asks)
        env.reset(seed=0)
        assert {_kind(env.reset()[1]["asked"]) for _ in range(20)} == set(kinds)
    env = ColouredGoalsEnv("training", "mixed")
    env.reset(seed=0)
    said = [_kind(env.reset()[1]["asked"]) for _ in range(400)]
    assert abs(said.count(2) - 200) < 40
    assert abs(said.count("colour") - 100) < 35 and abs(said.count("side") - 100) < 35


def _kind(asked):
    return 2 if len(asked) == 2 else "colour" if asked[0] in COLOURS else "side"


def test_an_empty_place_is_no_goal():
    """The way over it does not end the episode; that to the goal asked for does."""
    env = ColouredGoalsEnv()
    env.reset(seed=0, options={"ask": ("red",)})
    empty = env.colours.index("")
    for _ in range(5):
        move = np.clip((PLACES[empty] - env._state) / STEP, -1.0, 1.0)
        _, _, terminated, _, info = env.step(move)
        assert not terminated and info["goal"] == -1
    np.testing.assert_allclose(env.position, PLACES[empty], rtol=0, atol=1e-12)
    env.reset(options={"ask": ("left",), "start": (0.0, 0.0)})
    _, ended, info = walk(env, env.target)
    assert ended and info["is_success"]


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
        ({"ask": "red"}, "expected"),
        ({"asked": 1}, "options: got 'asked'"),
        ({"start": (0.0, 2.0)}, "expected in"),
        ({"ask": ("lfet",)}, "did you mean 'left'"),
        ({"ask": ("red", "left", "top")}, r"expected \(colour, side\), \(colour,\) or"),
        ({"ask": 1}, "expected"),
        ([1], r"^options: got \[1\], expected a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
    with pytest.raises(ValueError, match="did you mean 'training'"):
        ColouredGoalsEnv("trainign")
    with pytest.raises(ValueError, match="did you mean 'colour'"):
        ColouredGoalsEnv(asks="color")
    with pytest.raises(TypeError, match=r"^colours: got 3, .*combinations.*render_mode"):
        gymnasium.make("vaerl/ColouredGoals-v0", colours=3)
    with pytest.raises(ValueError, match="neither colour nor side"):
        instruction()
    with pytest.raises(ValueError, match=r"^action"):
        env.step(np.array([np.nan, 0.0]))
