"""CubePads: a robot arm lifts a cube and puts it down on any of four equally good pads.

The arm (UR5e), the gripper, the cube, their contacts and the controller are those of OGBench's
single cube (Park et al. 2025; extra `ogbench`). The task is ours: the cube starts near the middle
of the table with the gripper above it, and an episode succeeds when the cube lies on a pad and the
gripper has let go. Nothing in the observation says which pad.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array, DrawnEnv, Observation, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes


PADS: Array = np.array([(0.34, -0.2), (0.34, 0.2), (0.51, -0.2), (0.51, 0.2)])
"""Centres of the pads on the table, in metres."""
PAD_RADIUS = 0.04
MIDDLE = (0.425, 0.0)
START_SPREAD = (0.03, 0.05)
START_YAW = math.pi / 4
START_HEIGHT = 0.25
TABLE = 0.03
"""Height of the cube's centre, in metres, below which it lies on the table."""
OPEN = 0.1
"""Contact of the gripper below which it has let go."""
TIME_LIMIT = 120
BOUND = 1000.0
"""No observation comes near it: joint velocities, in radians a second, are the largest."""
_SCALE = 10.0  # of positions in OGBench's observations


class CubePadsEnv(DrawnEnv):
    """OGBench's cube with four pads.

    Observation (28,): joint positions and velocities (6 + 6), effector position, cos and sin of its
    yaw, gripper opening and contact, cube position, quaternion, cos and sin of its yaw; positions
    are 10 (x − (0.425, 0, 0)) in metres. Action (5,): relative effector position, yaw and gripper
    opening in [−1, 1]. One step is 0.05 s. Reward 1 and the end at success, else 0.

    `info["goal"]` is the pad 0..3 at success, else −1; `info["grasp"]` is the pair of faces, 0 or
    1, by which the cube was last held, −1 before; `info["position"]` is the cube's place.

    Raises:
        ValueError: OGBench is not installed.
    """

    num_modes = len(PADS)
    goal_positions = PADS
    expert_noise = np.array([0.15, 0.15, 0.15, 0.15, 0.0])

    def __init__(self, *, render_mode: str | None = None) -> None:
        self._arm = _make_arm()
        self._arm.reset(seed=0)
        size = self._arm.compute_observation().shape
        super().__init__(
            Box(-BOUND, BOUND, size, np.float32), Box(-1.0, 1.0, (5,), np.float32), render_mode
        )
        self._grasp = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Put the cube near the middle and the gripper above it."""
        super().reset(seed=seed)
        arm, rng = self._arm, self.np_random
        arm.reset(seed=int(rng.integers(2**31)))
        place = np.array(MIDDLE) + rng.uniform(-1.0, 1.0, 2) * START_SPREAD
        yaw = rng.uniform(-START_YAW, START_YAW)
        above = np.array([*place, START_HEIGHT]) + rng.uniform(-0.01, 0.01, 3)
        _put(arm, above, place, yaw)
        self._grasp = -1
        self._begin_trace()
        return self._observe(), self._info(Outcome(0.0))

    def _advance(self, action: Array) -> Outcome:
        self._arm.step(action)
        info = self._arm.compute_ob_info()
        cube = info["privileged/block_0_pos"]
        if info["proprio/gripper_contact"][0] > 0.5 and cube[2] > TABLE:
            turn = info["proprio/effector_yaw"][0] - info["privileged/block_0_yaw"][0]
            self._grasp = round(turn / (math.pi / 2)) % 2
        goal = -1
        if cube[2] <= TABLE and info["proprio/gripper_contact"][0] <= OPEN:
            distance = np.linalg.norm(PADS - cube[:2], axis=1)
            goal = int(distance.argmin()) if distance.min() <= PAD_RADIUS else -1
        done = goal >= 0
        return Outcome(float(done), goal=goal, success=done, terminated=done)

    def expert(self, rng: np.random.Generator, episode: int) -> Callable[[Observation], Array]:
        """Give a policy for one episode; the pads take turns, and the grasps after each round."""
        return scripted_expert(episode % len(PADS), episode // len(PADS) % 2, self)

    def scene(self) -> dict[str, Any]:
        """Positions, yaws and contacts by OGBench's names, for experts."""
        return self._arm.compute_ob_info()

    def position(self, observation: np.ndarray) -> Array:
        """Give the cube's place (2,) on the table."""
        return np.asarray(observation, dtype=np.float64)[19:21] / _SCALE + MIDDLE

    def probe_observations(self) -> dict[str, Observation]:
        """Give the start and a cube just lifted: there all pads are open."""
        twin = CubePadsEnv()
        start, _ = twin.reset(seed=0)
        act = scripted_expert(0, 0, twin)
        lifted = start
        while twin.scene()["privileged/block_0_pos"][2] < 0.1:
            lifted = twin.step(act(lifted))[0]
        return {"start": start, "lifted": lifted}

    def map_artist(self, ax: Axes) -> None:
        """Draw the pads and where the cube starts, seen from above."""
        from vaerl.envs import drawing

        drawing.prepare(ax, (0.24, 0.61), (-0.29, 0.29))
        drawing.draw_goals(ax, PADS, PAD_RADIUS)
        drawing.draw_start(ax, *MIDDLE)

    def _draw_map(self, ax: Axes) -> None:
        self.map_artist(ax)

    def _observe(self) -> Observation:
        return self._arm.compute_observation().astype(np.float32)

    def _place(self) -> tuple[float, float]:
        x, y, _ = self._arm.compute_ob_info()["privileged/block_0_pos"]
        return float(x), float(y)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "goal": outcome.goal,
            "is_success": outcome.success,
            "grasp": self._grasp,
            "position": np.array(self._place()),
        }


def scripted_expert(pad: int, grasp: int, env: CubePadsEnv) -> Callable[[Observation], Array]:
    """OGBench's oracle for one episode: it grasps by the faces `grasp` and aims at a pad.

    The cube lands within 3 cm of the pad's centre.
    """
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

    class Oracle(CubeMarkovOracle):
        """The oracle with a chosen pair of faces instead of the nearest."""

        def shortest_yaw(self, eff_yaw: float, obj_yaw: float, n: int = 4) -> float:
            return super().shortest_yaw(eff_yaw, obj_yaw + grasp * math.pi / 2, 2)

    if not 0 <= pad < len(PADS) or grasp not in (0, 1):
        raise ValueError(f"pad, grasp: got {pad, grasp}, expected 0 to {len(PADS) - 1} and 0 or 1")
    oracle = Oracle(env=env, min_norm=0.4)
    oracle._done, oracle._step, oracle._max_step = False, 0, 2 * TIME_LIMIT
    oracle._final_pos, oracle._final_yaw = np.array([*MIDDLE, 0.3]), 0.0

    def act(observation: Observation) -> Array:
        info = dict(env.scene())
        info["privileged/target_block"] = 0
        info["privileged/target_block_pos"] = np.array([*PADS[pad], 0.02])
        info["privileged/target_block_yaw"] = np.array([grasp * math.pi / 2])
        return oracle.select_action(observation, info)

    return act


def _make_arm() -> Any:
    try:
        from ogbench.manipspace.envs.cube_env import CubeEnv
    except ImportError as error:
        raise ValueError(
            f"env: vaerl/CubePads-v0 needs OGBench ({error}): pip install 'vaerl[ogbench]'"
        ) from error
    return CubeEnv("single", mode="data_collection", terminate_at_goal=False)


def _put(arm: Any, effector: Array, cube: Array, yaw: float) -> None:
    """Put effector and cube where an episode starts, without speed."""
    import mujoco
    from ogbench.manipspace import lie

    down = lie.SO3.from_z_radians(0.0) @ arm._effector_down_rotation
    pose = lie.SE3.from_rotation_and_translation(down, effector) @ arm._T_pa
    arm._data.qpos[arm._arm_joint_ids] = arm._ik.solve(
        pos=pose.translation(), quat=pose.rotation().wxyz, curr_qpos=arm._home_qpos
    )
    joint = arm._data.joint("object_joint_0")
    joint.qpos[:3] = [*cube, 0.02]
    joint.qpos[3:] = lie.SO3.from_z_radians(yaw).wxyz
    arm._data.qvel[:] = 0.0
    arm.pre_step()
    mujoco.mj_forward(arm._model, arm._data)
    arm.post_step()
