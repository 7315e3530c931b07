"""Roll-outs: a fixed number of episodes per copy, same seed same episodes, no trace left."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from vaerl.agents import SAC
from vaerl.runs.evaluate import EvalResult, evaluate, own_randomness
from vaerl.runs.vec import make_vec, spawn_seeds

POINT_MASS = "vaerl/PointMass-v0"


class ShortOrLong(gymnasium.Env):
    """Episodes of 1 or of 30 steps, by a fair coin."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = 1 if self.np_random.random() < 0.5 else 30
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


gymnasium.register("test/ShortOrLong-v0", ShortOrLong)


class Constant:
    """Always the same action, for any number of observations."""

    def __init__(self, *action: float) -> None:
        self.action = np.array(action, dtype=np.float32)

    def predict(self, observation: np.ndarray, *, deterministic: bool = False) -> Any:
        return np.tile(self.action, (len(observation), 1)), None


def test_short_episodes_are_not_favoured() -> None:
    """The first 100 episodes to end would be nearly all short."""
    result = evaluate(Constant(0.0), "test/ShortOrLong-v0", episodes=100, seed=0, copies=100)
    assert len(result.returns) == 100
    share = float((result.lengths == 1).mean())
    assert 0.35 < share < 0.65  # 3 standard errors of a fair coin
    np.testing.assert_array_equal(result.returns, result.lengths)
    assert result.successes is None and result.num_modes == 0


@pytest.mark.parametrize(("episodes", "copies"), [(7, 3), (1, 50), (4, 4)])
def test_any_number_of_episodes_is_run(episodes: int, copies: int) -> None:
    result = evaluate(
        Constant(0.0), "test/ShortOrLong-v0", episodes=episodes, seed=0, copies=copies
    )
    assert len(result.returns) == episodes


def test_a_straight_walk_reaches_its_goal() -> None:
    result = evaluate(Constant(1.0, 0.0), POINT_MASS, episodes=6, seed=0)
    assert result.goals.tolist() == [0] * 6
    scores = result.scores()
    assert scores["return_mean"] == pytest.approx(19.0, abs=1e-6)
    assert scores["multi_goal_score"] == pytest.approx(0.25)
    assert scores["goals_reached"] == 1.0 and scores["success_rate"] == 1.0
    assert scores["goal_share_0"] == 1.0 and scores["goal_share_3"] == 0.0
    trace = result.traces[0]
    assert trace.shape == (int(result.lengths[0]) + 1, 2)
    np.testing.assert_allclose(trace[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(trace[-1], [9.0, 0.0], atol=1e-6)


def test_the_ceiling_stands_beside_the_score() -> None:
    result = EvalResult(
        env=POINT_MASS,
        deterministic=False,
        seed=0,
        returns=np.zeros(1000),
        lengths=np.ones(1000, dtype=np.int64),
        goals=np.arange(1000) % 4,
        successes=None,
        num_modes=4,
    )
    scores = result.scores()
    assert scores["multi_goal_score"] == 1.0
    assert scores["multi_goal_score_ceiling"] == pytest.approx(0.978, abs=1e-3)


@pytest.fixture(scope="module")
def agent() -> SAC:
    return SAC("cvae", make_vec(POINT_MASS, seed=0), seed=0, buffer_size=100, device="cpu")


def test_the_same_seed_gives_the_same_episodes(agent: SAC) -> None:
    first, again, other = (
        evaluate(agent, POINT_MASS, episodes=3, seed=seed).returns for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_deterministic_differs_from_stochastic(agent: SAC) -> None:
    drawn, best, again = (
        evaluate(agent, POINT_MASS, episodes=2, seed=1, deterministic=flag).returns
        for flag in (False, True, True)
    )
    assert (drawn != best).any()
    assert best[0] == pytest.approx(best[1])  # one start, no noise: one episode
    np.testing.assert_array_equal(best, again)


def test_looking_leaves_every_random_stream_alone(agent: SAC) -> None:
    def draws(look: bool) -> list[float]:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        agent.action_space.seed(3)
        agent.policy.actor.noise.reseed(3)
        if look:
            evaluate(agent, POINT_MASS, episodes=1, seed=9)
        with torch.no_grad():
            action = agent.policy.actor(torch.zeros(1, 2))
        parts = [torch.rand(2), np.random.random(2), action[0], agent.action_space.sample()]  # noqa: NPY002
        return [float(x) for part in parts for x in part]

    assert draws(look=True) == draws(look=False)
    with own_randomness(agent, 5):
        inside = torch.rand(1)
    with own_randomness(agent, 5):
        assert torch.rand(1) == inside


def test_copies_and_runs_share_no_seed() -> None:
    """stable-baselines3 gives copy i the seed s + i: runs 0 and 1 then share environments."""
    seeds = []
    for seed in (0, 1):
        env = make_vec(POINT_MASS, 4, seed=seed)
        seeds += env._seeds
        env.close()
    assert len(set(seeds)) == 8
    assert len(set(spawn_seeds(0, "a", "b").values()) | set(spawn_seeds(1, "a", "b").values())) == 4


@pytest.mark.parametrize(
    ("env_id", "episodes", "message"),
    [
        (POINT_MASS, 0, "episodes: got 0"),
        ("vaerl/PointMess-v0", 1, "did you mean 'vaerl/PointMass-v0'"),
        ("CartPole-v1", 1, "Discrete"),
    ],
)
def test_mistakes_are_named(env_id: str, episodes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        evaluate(Constant(0.0), env_id, episodes=episodes, seed=0)
