"""The point mazes: maps, physics against MuJoCo's, walls that hold, goals within reach."""

from __future__ import annotations

from collections import deque

import gymnasium
import mujoco
import numpy as np
import pytest

from vaerl.envs.point_maze import MARGIN, MASS, MAZES, PointMazeEnv

IDS = {"simple": "Simple", "medium": "Medium", "hard": "Hard"}
LIMITS = {"simple": 150, "medium": 300, "hard": 600}


def cell_paths(maze, obstacles, *, diagonal=False):
    """Breadth-first search from R: for each goal, in reading order, the cells of a shortest path.

    `diagonal` allows moves between cells that touch at a corner whose other two cells are free:
    the axes move independently, so such a move takes no longer than a straight one.
    """
    rows = MAZES[maze]
    free = ".GR" if obstacles else ".GRo"

    def is_free(i, j):
        return rows[i][j] in free

    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    if diagonal:
        moves += [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    start = next((i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c == "R")
    came_from = {start: start}
    queue = deque([start])
    while queue:
        i, j = queue.popleft()
        for a, b in moves:
            cell = (i + a, j + b)
            way_is_free = is_free(*cell) and is_free(i + a, j) and is_free(i, j + b)
            if way_is_free and cell not in came_from:
                came_from[cell] = (i, j)
                queue.append(cell)
    paths = []
    for goal in ((i, j) for i, row in enumerate(rows) for j, c in enumerate(row) if c == "G"):
        path = [goal]
        while path[-1] != start:
            path.append(came_from[path[-1]])
        paths.append(path[::-1])
    return paths


def drive(env, centers):
    """Steer along cell centres, the next one from 0.45 before; gives steps, reward, last info."""
    observation, info = env.reset(seed=0)
    way = 0
    for step in range(1, 601):
        while way < len(centers) - 1 and np.abs(observation[:2] - centers[way]).max() < 0.45:
            way += 1
        wanted = np.clip(8.0 * (centers[way] - observation[:2]), -5.0, 5.0)
        action = np.clip(wanted - observation[2:], -1, 1)
        observation, reward, terminated, truncated, info = env.step(action.astype(np.float32))
        if terminated or truncated:
            return step, reward, info
    return step, reward, info


@pytest.mark.parametrize(
    ("maze", "obstacles", "length"),
    [("simple", False, 8), ("medium", False, 9), ("hard", False, 8), ("hard", True, 10)],
)
def test_shortest_cell_paths_have_the_published_length(maze, obstacles, length):
    assert [len(path) - 1 for path in cell_paths(maze, obstacles)] == [length] * (
        8 if maze == "hard" else 4
    )


@pytest.mark.parametrize("maze", MAZES)
@pytest.mark.parametrize("obstacles", [False, True])
def test_a_simple_controller_reaches_every_goal_within_the_time_limit(maze, obstacles):
    """Goals are in reading order; made through gym.make, so with the registered time limit."""
    env = gymnasium.make(f"vaerl/PointMaze{IDS[maze]}-v0", obstacles=obstacles)
    core = env.unwrapped
    for goal, path in enumerate(cell_paths(maze, obstacles, diagonal=True)):
        centers = np.array([core._center(i, j) for i, j in path])
        np.testing.assert_allclose(centers[0], 0.0, atol=1e-12)
        np.testing.assert_allclose(centers[-1], core.goal_positions[goal], atol=1e-12)
        steps, reward, info = drive(env, centers)
        assert (info["goal"], info["is_success"], reward) == (goal, True, 100.0)
        assert steps < LIMITS[maze], (goal, steps)


@pytest.mark.parametrize("maze", MAZES)
def test_time_limits(maze):
    env = gymnasium.make(f"vaerl/PointMaze{IDS[maze]}-v0")
    assert env.spec.max_episode_steps == LIMITS[maze]


@pytest.mark.parametrize("maze", MAZES)
def test_maps_are_symmetric_and_closed(maze):
    """Both mirror images agree, and no free cell touches the outside."""
    rows = MAZES[maze]
    plain = [row.replace("R", ".") for row in rows]
    assert plain == plain[::-1] == [row[::-1] for row in plain]
    padded = [" " * (len(rows[0]) + 2), *(f" {row} " for row in rows), " " * (len(rows[0]) + 2)]
    for i, row in enumerate(padded):
        for j, cell in enumerate(row):
            if cell in ".GRo":
                around = [padded[i + a][j + b] for a in (-1, 0, 1) for b in (-1, 0, 1)]
                assert " " not in around, (i, j)


def test_free_motion_equals_mujocos_point_mass():
    """One sub-step of Gymnasium-Robotics' point: slide joints, damping 1, gear 100, Euler."""
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><option timestep="0.01" gravity="0 0 0" integrator="Euler"/><worldbody><body>
        <joint name="x" type="slide" axis="1 0 0" damping="1"/>
        <joint name="y" type="slide" axis="0 1 0" damping="1"/>
        <geom type="sphere" size="0.1"/></body></worldbody><actuator>
        <motor joint="x" gear="100" ctrlrange="-1 1" ctrllimited="true"/>
        <motor joint="y" gear="100" ctrlrange="-1 1" ctrllimited="true"/></actuator></mujoco>"""
    )
    data = mujoco.MjData(model)
    assert model.body_mass[1] == pytest.approx(MASS, rel=1e-9)
    env = PointMazeEnv("simple")
    env.reset()
    rng = np.random.default_rng(0)
    fastest = 0.0
    for step in range(60):
        action = rng.uniform(-1, 1, 2) if step < 15 else np.array([1.0, 0.2])
        data.qvel[:] = np.clip(data.qvel, -5.0, 5.0)
        data.ctrl[:] = action
        mujoco.mj_step(model, data)
        env.step(action)
        np.testing.assert_allclose(env._state[:2], data.qpos, rtol=0, atol=1e-9)
        np.testing.assert_allclose(env._state[2:], data.qvel, rtol=0, atol=1e-9)
        fastest = max(fastest, abs(env._state[2]))
    assert 5.2 < fastest < env.observation_space.high[2]


@pytest.mark.parametrize("maze", MAZES)
@pytest.mark.parametrize("obstacles", [False, True])
def test_no_actions_bring_the_body_into_a_wall(maze, obstacles):
    """Law: all four corners of the body stay out of walls under long random pushes."""
    env = PointMazeEnv(maze, obstacles=obstacles, removed_goals=range(1, 4))
    rng = np.random.default_rng(1)
    observation, _ = env.reset()
    touched = 0
    push = np.zeros(2)
    for step in range(4000):
        if step % 25 == 0:
            push = rng.uniform(-1.5, 1.5, 2)
        before = env._state[2:].copy()
        observation, _, terminated, _, _ = env.step(np.clip(push + 0.3 * rng.normal(size=2), -1, 1))
        assert env.observation_space.contains(observation)
        x, y = env._state[:2]
        reach = MARGIN - 1e-6
        for dx in (-reach, 0.0, reach):
            for dy in (-reach, 0.0, reach):
                assert not env.is_wall(x + dx, y + dy), (x, y)
        touched += bool(((env._state[2:] == 0.0) & (np.abs(before) > 1.0)).any())
        if terminated:
            env.reset()
    assert touched > 20, "the walk never met a wall"


def test_a_wall_takes_only_the_speed_towards_it():
    env = PointMazeEnv("simple")
    env.reset(options={"state": [4.39, 0.0, 3.0, 2.0]})
    observation, *_ = env.step(np.zeros(2))
    assert observation[0] == pytest.approx(4.4, abs=1e-6) and observation[2] == 0.0
    assert observation[1] == pytest.approx(0.02, abs=1e-3) and observation[3] > 1.9


def test_obstacle_cells_are_free_in_training_and_walls_in_the_test():
    assert PointMazeEnv("simple").is_wall(2.0, 2.0) is False
    assert PointMazeEnv("simple", obstacles=True).is_wall(2.0, 2.0) is True
    one = PointMazeEnv("simple", obstacles=[1])
    closed = [one.is_wall(x, y) for x, y in one.door_positions]
    assert closed == [False, True, False, False] and one.is_wall(2.0, 2.0)
    with pytest.raises(ValueError, match="obstacles: got 4, expected 0 to 3"):
        PointMazeEnv("simple", obstacles=[4])
    with pytest.raises(ValueError, match="touches a wall"):
        PointMazeEnv("simple", obstacles=True).reset(options={"state": [2.0, 2.0, 0.0, 0.0]})
    with pytest.raises(ValueError, match="touches a wall"):
        PointMazeEnv("simple").reset(options={"state": [4.45, 0.0, 0.0, 0.0]})


def test_a_goal_is_the_chebyshev_ball_of_radius_one_half():
    env = PointMazeEnv("hard")
    for offset, inside in (((0.499, 0.3), True), ((0.501, 0.0), False), ((0.3, 0.501), False)):
        env.reset(options={"state": [-6.0 + offset[0], 2.0 + offset[1], 0.0, 0.0]})
        _, _, terminated, _, info = env.step(np.zeros(2))
        assert (terminated, info["goal"]) == ((True, 2) if inside else (False, -1))


def test_sparse_and_dense_rewards():
    """Both pay 100 on reaching; only dense pays 10 times the progress before."""
    state = {"state": [3.0, 3.0, 1.0, 1.0]}
    goal = np.array([4.0, 4.0])
    rewards = {}
    for kind in ("sparse", "dense"):
        env = PointMazeEnv("simple", reward=kind)
        env.reset(options=state)
        rewards[kind] = env.step(np.array([1.0, 1.0]))[1]
        progress = np.hypot(1, 1) - np.linalg.norm(goal - env.position(env._state))
        env.reset(options={"state": [3.49, 3.49, 3.0, 3.0]})
        assert env.step(np.ones(2))[1:3] == (100.0, True)
    assert rewards["sparse"] == 0.0
    assert rewards["dense"] == pytest.approx(10.0 * progress, rel=1e-9) and progress > 0


def test_removed_goals_neither_pay_nor_end():
    for removed, ends in (((), True), ((1,), False)):
        env = PointMazeEnv("simple", removed_goals=removed)
        env.reset(options={"state": [3.49, 3.49, 3.0, 3.0]})
        _, reward, terminated, _, info = env.step(np.ones(2))
        expected = (True, 100.0, 1) if ends else (False, 0.0, -1)
        assert (terminated, reward, info["goal"]) == expected
