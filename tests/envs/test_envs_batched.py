"""Batched simulators keep the promises of a VecEnv: no copy takes a step that never took place."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from vaerl.envs.batched import from_vector, make_envpool

LENGTHS = (3, 4, 1)


class Counter(gymnasium.Env):
    """Observes its step and its episode; odd lengths end in a terminal state, even ones are cut."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gymnasium.spaces.Dict(
        step=gymnasium.spaces.Box(0, 99, (2,), np.float32),
        action=gymnasium.spaces.Box(-1, 1, (1,), np.float32),
    )

    def __init__(self, length):
        self.length, self.episode = length, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.episode = 0, self.episode + 1
        return self._observe(0), {"began": self.episode}

    def step(self, action):
        self.count += 1
        over = self.count == self.length
        even = self.length % 2 == 0
        info = {"count": self.count}
        return self._observe(action[0]), float(self.count), over and not even, over and even, info

    def _observe(self, action):
        step = np.array([self.count, self.episode], np.float32)
        return {"step": step, "action": np.array([action], np.float32)}


MAKERS = [partial(Counter, length) for length in LENGTHS]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_steps_are_those_of_stable_baselines3(kind, mode):
    ours = from_vector(kind(MAKERS, autoreset_mode=mode))
    theirs = VecMonitor(DummyVecEnv(MAKERS))
    for env in (ours, theirs):
        env.seed(0)
    _check_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    for _ in range(10):
        actions = rng.uniform(-1, 1, (len(LENGTHS), 1)).astype(np.float32)
        (found, *rest, infos), (wanted, *more, told) = ours.step(actions), theirs.step(actions)
        _check_equal(found, wanted)
        np.testing.assert_array_equal(rest, more)
        for mine, other in zip(infos, told, strict=True):
            assert mine["count"] == other["count"]
            assert ("episode" in mine) == ("episode" in other)
            if "terminal_observation" in other:
                _check_equal(mine["terminal_observation"], other["terminal_observation"])
                assert mine["TimeLimit.truncated"] == other["TimeLimit.truncated"]
                assert mine["episode"]["r"] == other["episode"]["r"]
    ours.close()


def test_what_cannot_reset_single_copies_is_refused():
    with pytest.raises(ValueError, match="DISABLED"):
        from_vector(SyncVectorEnv(MAKERS, autoreset_mode=AutoresetMode.DISABLED))
    workers = AsyncVectorEnv(MAKERS, shared_memory=False)
    with pytest.raises(ValueError, match="shared_memory=False"):
        from_vector(workers)
    workers.close()

    class Whole(SyncVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)

    env = from_vector(Whole(MAKERS[:2], autoreset_mode=AutoresetMode.NEXT_STEP))
    env.reset()
    with pytest.raises(ValueError, match="cannot reset single copies"):
        for _ in range(3):
            env.step(np.zeros((2, 1), np.float32))


def test_envpool_begins_an_episode_in_the_step_that_ends_one():
    pytest.importorskip("envpool")
    env = make_envpool("InvertedPendulum-v5", 3)
    env.seed(0)
    first = env.reset()
    assert len(np.unique(first[:, 0])) == 3, first  # each copy has a seed of its own
    env.seed(0)
    np.testing.assert_array_equal(env.reset(), first)
    pushes = np.array([[3.0], [0.0], [-3.0]], np.float32)
    ended = 0
    for _ in range(60):
        found, rewards, dones, infos = env.step(pushes)
        for row in np.flatnonzero(dones):
            ended += 1
            last = infos[row]["terminal_observation"]
            assert abs(last[1]) > 0.2, last  # the pole fell, see its documentation
            assert np.all(np.abs(found[row]) <= 0.01), found[row]  # where episodes begin
            assert not infos[row]["TimeLimit.truncated"]
            assert infos[row]["episode"]["l"] > 1
        for row in np.flatnonzero(~dones):
            assert rewards[row] == 1, "a step that only resets has no reward"
    assert ended >= 4, ended
    env.close()


def test_envpool_names_what_it_lacks():
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match="env: got 'vaerl/Bandit40-v0', which EnvPool"):
        make_envpool("vaerl/Bandit40-v0", 2)
    with pytest.raises(ValueError, match="copies: got 0"):
        make_envpool("Pendulum-v1", 0)
    with pytest.raises(ValueError, match=r"options: got .*foo.* for .Pendulum-v1.: "):
        make_envpool("Pendulum-v1", 2, foo=3)
    with pytest.raises(ValueError, match="venv: got Counter, expected a "):
        from_vector(Counter(3))


def _check_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        np.testing.assert_array_equal(found[key], wanted[key])
