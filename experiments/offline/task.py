"""The task and its data: OGBench's single cube, moved to one place; noisy play by its oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from vaerl.data import Demonstrations, collect, read_folder
from vaerl.data.folder import is_folder

if TYPE_CHECKING:
    from ogbench.manipspace.envs.cube_env import CubeEnv

Array = np.ndarray
TASK = 2
"""OGBench's default task of the single cube: 15 cm straight away from the robot."""
GOAL = (0.5, 0.0, 0.02)
TIME_LIMIT = 200
BATCH = 25
"""Episodes recorded at a time, until there are enough transitions."""
GOAL_SHARE = 0.2
"""Share of the oracle's targets that are the goal; the others are anywhere on the table."""
RANDOM_SHARE = 0.1
"""Share of the actions that are drawn uniformly from the box."""
NOISE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
"""Noise on the five actions, times a number drawn for each episode from U[0, 0.1]."""


class CubeToGoal(gymnasium.Env[Array, Array]):
    """The cube has to come within 4 cm of the goal: −1 a step until it is there, which ends it.

    Observation (28,) and action (5,) are OGBench's. With ``play=True`` the cube starts anywhere on
    the table, as in the data; otherwise where OGBench's task puts it.
    """

    def __init__(self, *, play: bool = False) -> None:
        self.play = play
        self._cube = _make_cube()
        self._cube.reset(seed=0)
        size = self._cube.compute_observation().shape
        self.observation_space = Box(-np.inf, np.inf, size, np.float32)
        self.action_space = Box(-1.0, 1.0, (5,), np.float32)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        # OGBench draws its first steps from its own action space, which has no seed
        state = np.random.get_state()  # noqa: NPY002
        self._cube.reset(seed=int(self.np_random.integers(2**31)))
        np.random.set_state(state)  # noqa: NPY002
        if self.play:
            self._scatter()
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, _, info = self._cube.step(np.asarray(action, np.float64))
        self._steps += 1
        over = self._steps >= TIME_LIMIT and not terminated
        return (
            self._observe(),
            float(reward),
            bool(terminated),
            over,
            {"is_success": bool(info["success"])},
        )

    def scene(self) -> dict[str, Any]:
        """Positions, yaws and contacts by OGBench's names, for the oracle."""
        return self._cube.compute_ob_info()

    def _observe(self) -> Array:
        return self._cube.compute_observation().astype(np.float32)

    def _scatter(self) -> None:
        """Put the cube anywhere but on the goal."""
        import mujoco

        cube, joint = self._cube, self._cube._data.joint("object_joint_0")
        while True:
            joint.qpos[:2] = self.np_random.uniform(*cube._object_sampling_bounds)
            if np.linalg.norm(joint.qpos[:2] - GOAL[:2]) > 0.05:
                break
        cube.pre_step()
        mujoco.mj_forward(cube._model, cube._data)
        cube.post_step()


def noisy_oracle(rng: np.random.Generator, env: CubeToGoal) -> Callable[[Array], Array]:
    """OGBench's oracle, which puts the cube in one place after another, with noise."""
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

    oracle = CubeMarkovOracle(env=env, min_norm=0.4)
    spread = rng.uniform(0.0, 0.1) * NOISE
    target: dict[str, Any] = {"privileged/target_block": 0}

    def begin() -> None:
        to_goal = rng.uniform() < GOAL_SHARE
        place = GOAL if to_goal else (*rng.uniform((0.3, -0.3), (0.55, 0.3)), 0.02)
        target["privileged/target_block_pos"] = np.array(place)
        target["privileged/target_block_yaw"] = np.array([rng.uniform(0.0, 2.0 * np.pi)])
        oracle._done, oracle._step, oracle._max_step = False, 0, TIME_LIMIT
        oracle._final_pos = rng.uniform((0.25, -0.35, 0.2), (0.6, 0.35, 0.35))
        oracle._final_yaw = rng.uniform(-np.pi, np.pi)

    begin()

    def act(observation: Array) -> Array:
        if oracle.done:
            begin()
        action = oracle.select_action(observation, {**env.scene(), **target})
        action = np.clip(action + spread * rng.normal(size=5), -1.0, 1.0)
        return action if rng.uniform() >= RANDOM_SHARE else rng.uniform(-1.0, 1.0, 5)

    return act


def play_data(out: Path, transitions: int, seed: int = 0) -> Demonstrations:
    """At least that many transitions of noisy play, recorded in `out` or read from there."""
    data = read_folder(out) if is_folder(out) else None
    env = None
    while data is None or data.steps < transitions:
        env = env or CubeToGoal(play=True)
        fewest = transitions // TIME_LIMIT  # each episode is at most that long
        episodes = max(fewest, 1) if data is None else len(data) + BATCH
        data = collect(env, noisy_oracle, episodes, out=out, seed=seed)
    return data


def _make_cube() -> CubeEnv:
    try:
        from ogbench.manipspace.envs.cube_env import CubeEnv
    except ImportError as error:
        raise ValueError(
            f"experiment: offline needs OGBench ({error}): pip install 'vaerl[ogbench]'"
        ) from error
    return CubeEnv("single", mode="task", reward_task_id=TASK)
