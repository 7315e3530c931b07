"""What every environment of the package promises, whatever its physics."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_with_gymnasium
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from stable_baselines3.common.env_checker import check_env as check_with_sb3

import vaerl.envs
from vaerl.envs.base import PlanarEnv, kept_goals

IDS = sorted(vaerl.envs.ENVIRONMENTS)
PLANAR = [i for i in IDS if isinstance(gymnasium.make(i).unwrapped, PlanarEnv)]
OPTIONS = [(env_id, {}) for env_id in IDS] + [
    ("vaerl/MultiGoal-v0", {"variant": "s2ac-3"}),
    ("vaerl/InverseKinematics-v0", {"joints": 8, "obstacles": [(0.7, 0.3, 0.2)]}),
    ("vaerl/PointMass-v0", {"metric": "euclidean", "obstacles": True, "reward": "sparse"}),
    ("vaerl/PointMazeHard-v0", {"obstacles": True, "reward": "dense", "removed_goals": (0, 7)}),
]


def random_action(env, rng):
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(rng.integers(space.n))
    return rng.uniform(space.low, space.high).astype(np.float32)


def play(env, seed, steps=40):
    """Random actions from one seed; gives everything the episode said."""
    rng = np.random.default_rng(seed)
    space = env.observation_space
    observation, _ = env.reset(seed=seed)
    said = [gymnasium.spaces.flatten(space, observation)]
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(random_action(env, rng))
        said += [gymnasium.spaces.flatten(space, observation), [reward, terminated, truncated]]
        said += [info[key] for key in sorted(info) if key != "asked"]
        if terminated or truncated:
            break
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in said])


@pytest.mark.parametrize(("env_id", "kwargs"), OPTIONS)
def test_both_checkers_accept_the_environment(env_id, kwargs):
    """Neither checker may warn, but for the action boxes that the tasks' definitions demand."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make(env_id, render_mode="rgb_array", **kwargs)
        check_with_gymnasium(env.unwrapped)
        check_with_sb3(env.unwrapped)
    told = [str(warning.message) for warning in caught]
    if any(
        name in env_id for name in ("Avoiding", "RandomPush", "HiddenFriction", "UnshapedPendulum")
    ):
        told = [line for line in told if "symmetric and normalized" not in line]
    assert told == []


@pytest.mark.parametrize("env_id", IDS)
def test_the_same_seed_and_actions_give_the_same_episode(env_id):
    one, two = gymnasium.make(env_id), gymnasium.make(env_id)
    first = play(one, seed=3)
    np.testing.assert_array_equal(first, play(two, seed=3))
    np.testing.assert_array_equal(first, play(one, seed=3))


@pytest.mark.parametrize("env_id", PLANAR)
def test_types_spaces_and_info_hold_at_every_step(env_id):
    env = gymnasium.make(env_id).unwrapped
    rng = np.random.default_rng(0)
    for _ in range(3):
        observation, info = env.reset()
        push = rng.uniform(-1.0, 1.0, 2)
        for _ in range(60):
            assert observation.dtype == np.float32
            assert env.observation_space.contains(observation), observation
            assert info["position"].shape == (2,)
            if env.spec.name != "Bandit40":
                np.testing.assert_allclose(env.position(observation), info["position"], atol=1e-5)
            action = np.clip(push + rng.normal(size=2), -1, 1) * env.action_space.high
            observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
            assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
            assert type(info["goal"]) is int and -1 <= info["goal"] < env.num_modes
            assert info["is_success"] is (info["goal"] >= 0)
            if terminated or truncated:
                break


@pytest.mark.parametrize("env_id", PLANAR)
@pytest.mark.parametrize(
    "action",
    [np.zeros(3), np.zeros((1, 2)), 0.5, None, "left", [np.nan, 0.0], [np.inf, 0.0], [0.0]],
    ids=repr,
)
def test_a_bad_action_raises_one_line_that_names_it(env_id, action):
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action[^\n]*$"):
        env.step(action)


@pytest.mark.parametrize("env_id", PLANAR)
def test_actions_beyond_the_box_are_clipped_to_it(env_id):
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=0)
    beyond = env.step(np.array([9.0, -7.0]) * env.action_space.high)[:2]
    env.reset(seed=0)
    edge = env.step(np.array([1.0, -1.0]) * env.action_space.high)[:2]
    np.testing.assert_array_equal(beyond[0], edge[0])
    assert beyond[1] == edge[1]


@pytest.mark.parametrize("env_id", PLANAR)
def test_probe_observations_are_legal_start_states(env_id):
    env = gymnasium.make(env_id).unwrapped
    probes = env.probe_observations()
    assert probes
    for observation in probes.values():
        assert env.observation_space.contains(observation)
        started, _ = env.reset(options={"state": observation})
        np.testing.assert_array_equal(started, observation)


@pytest.mark.parametrize("env_id", PLANAR)
@pytest.mark.parametrize("bad", ["shape", "nan", "outside", "words"])
def test_a_bad_start_state_raises_one_line_and_changes_nothing(env_id, bad):
    env = gymnasium.make(env_id).unwrapped
    size = env.observation_space.shape[0]
    state = {
        "shape": np.zeros(size + 1),
        "nan": np.full(size, np.nan),
        "outside": np.full(size, 1e3),
        "words": "here",
    }[bad]
    env.reset(seed=0)
    before = env._state.copy()
    with pytest.raises(ValueError, match=r"^options\['state'\][^\n]*$"):
        env.reset(options={"state": state})
    np.testing.assert_array_equal(env._state, before)
    with pytest.raises(ValueError, match="options: got 'stat', did you mean 'state'"):
        env.reset(options={"stat": state})


@pytest.mark.parametrize(("env_id", "kwargs"), OPTIONS)
def test_frames_show_the_trace_and_the_map_is_drawn_once(env_id, kwargs, monkeypatch):
    """A frame changes as the point moves; the map behind it is not drawn again for each."""
    drawn = []
    draw = FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: drawn.append(draw(canvas)))
    env = gymnasium.make(env_id, render_mode="rgb_array", **kwargs)
    env.reset(seed=0)
    start = env.render()
    assert start.shape == (480, 480, 3) and start.dtype == np.uint8
    for _ in range(5):
        far = not isinstance(env.action_space, gymnasium.spaces.Discrete)
        done = any(env.step(0.9 * env.action_space.high if far else 0)[2:4])
        if done:
            break
    moved = env.render()
    assert (moved != start).any()
    assert np.ptp(moved) > 200, "the frame is blank"
    assert len(drawn) == 1
    env.close()


@pytest.mark.parametrize("env_id", PLANAR)
def test_the_map_draws_on_any_axes(env_id):
    figure = Figure()
    ax = figure.add_subplot()
    env = gymnasium.make(env_id).unwrapped
    env.map_artist(ax)
    FigureCanvasAgg(figure).draw()
    assert ax.get_aspect() == 1.0
    if env.goal_positions is not None:
        assert env.goal_positions.shape == (env.num_modes, 2)
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        inside = (env.goal_positions >= (left, low)) & (env.goal_positions <= (right, high))
        assert inside.all()


def test_an_environment_asks_for_reset_and_a_legal_render_mode():
    env = gymnasium.make("vaerl/PointMass-v0").unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2))
    with pytest.raises(ValueError, match="render_mode: got 'ansi', expected None"):
        vaerl.envs.point_mass.PointMassEnv(render_mode="ansi")


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("vaerl/MultiGoal-v0", {"variant": "s2ac4"}, "did you mean 's2ac-4'"),
        (
            "vaerl/MultiGoal-v0",
            {"done_threshold": 0.0},
            "done_threshold: got 0.0, expected above 0",
        ),
        ("vaerl/MultiGoal-v0", {"start_std": -1.0}, "start_std: got -1.0, expected 0 or more"),
        ("vaerl/PointMass-v0", {"metric": "euclid"}, "did you mean 'euclidean'"),
        ("vaerl/PointMazeHard-v0", {"maze": "hrad"}, "did you mean 'hard'"),
        (
            "vaerl/PointMazeHard-v0",
            {"removed_goals": (8,)},
            "removed_goals: got 8, expected 0 to 7",
        ),
        ("vaerl/PointMass-v0", {"removed_goals": range(4)}, "removed_goals: got all 4 goals"),
        ("vaerl/Avoiding-v0", {"tracking": 0.0}, "tracking: got 0.0, expected above 0"),
    ],
)
def test_a_bad_option_raises_one_line_with_what_is_legal(env_id, kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(env_id, **kwargs)


def test_no_goal_is_removed_unless_asked_for():
    assert kept_goals((), 2).tolist() == [0, 1]


def test_registering_twice_changes_nothing_and_import_stays_light():
    """Import must load neither torch nor matplotlib, and a second call must not warn."""
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import vaerl.envs as e;"
        "e.register_envs(); import gymnasium;"
        "assert set(e.ENVIRONMENTS) <= set(gymnasium.registry);"
        "gymnasium.make('vaerl/PointMazeHard-v0').reset(seed=0);"
        "print([m for m in ('torch', 'matplotlib', 'stable_baselines3') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
