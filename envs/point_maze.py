"""DrAC's three point mazes, rebuilt in the plane: a pushed sphere, walls, four or eight goals.

The physics is Gymnasium-Robotics' point mass (mass m = 4.189, gear 100, damping 1, Δt = 0.01):

    v ← clip(v, ±5),   v' = (v + Δt·100a/m) / (1 + Δt/m),   p' = p + Δt·v'

then contact: a body of half width 0.1 is stopped at walls, axis by axis (unlike the source).
Source: Wang, Liu & Pan 2025 (DrAC), envs/mgmaze.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array, Observation, Outcome, PlanarEnv, kept_goals, standing_obstacles
from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# wall, Goal, Reset, o: free in training and wall in the obstacle test, blank: outside
MAZES = {
    "simple": (
        "###########",
        "#G.......G#",
        "#.........#",
        "#..o...o..#",
        "#.........#",
        "#....R....#",
        "#.........#",
        "#..o...o..#",
        "#.........#",
        "#G.......G#",
        "###########",
    ),
    "medium": (
        "#############",
        "#G..#...#..G#",
        "#...#...#...#",
        "#...o...o...#",
        "#...........#",
        "#..###R###..#",
        "#...........#",
        "#...o...o...#",
        "#...#...#...#",
        "#G..#...#..G#",
        "#############",
    ),
    "hard": (
        "   #### ####   ",
        "   #.G###G.#   ",
        "  ##..#.#..##  ",
        "###..o#.#o..###",
        "#.............#",
        "#G.o.......o.G#",
        "####..#.#..####",
        " #.....R.....# ",
        "####..#.#..####",
        "#G.o.......o.G#",
        "#.............#",
        "###..o#.#o..###",
        "  ##..#.#..##  ",
        "   #.G###G.#   ",
        "   #### ####   ",
    ),
}
_PROBES = {
    "simple": ((0, 0), (0, 3), (3, 0), (-3, -3)),
    "medium": ((0, 0), (0, 1), (-2, 1), (5, 0)),
    "hard": ((0, 0), (0, 3), (3, 0), (-3, 3), (3, -3), (-5, 3)),
}

TIME_STEP = 0.01
MASS = 1000.0 * 4.0 / 3.0 * math.pi * 0.1**3  # water sphere of radius 0.1: 4.189
GEAR = 100.0
DAMPING = 1.0
MARGIN = 0.1  # the sphere's radius: walls keep its centre this far
SPEED_LIMIT = 5.0  # applied before the push, so that speeds a little above are seen
TOP_SPEED = (SPEED_LIMIT + TIME_STEP * GEAR / MASS) / (1.0 + TIME_STEP * DAMPING / MASS)
GOAL_RADIUS = 0.5  # Chebyshev
GOAL_REWARD = 100.0
DENSE_SCALE = 10.0
_TOUCH = 1e-9  # a body that touches a wall's face is not inside it


class PointMazeEnv(PlanarEnv):
    """A pushed sphere in a maze of 1 × 1 cells; the map's centre is the origin and the start.

    Observation: (x, y, vx, vy). Action: the force, in [−1, 1]². Reward "sparse": 100 on the step
    that ends within Chebyshev distance 0.5 of a goal (then terminated), else 0; "dense": also 100
    there, else 10 times the decrease of the Euclidean distance to the nearest goal.
    It moves at most 0.052 per step: the time limits of 150, 300 and 600 steps are tight.

    Args:
        maze: "simple" (goals (±4, ±4)), "medium" ((±5, ±4)) or "hard" ((±2, ±6), (±6, ±2)).
        reward: "sparse" or "dense".
        obstacles: the cells `o` are walls (DrAC's obstacle test), all of them or those of these
            indices, row by row from the top left.
        removed_goals: indices (row by row from the top left) of goals that neither pay nor end.

    >>> env = PointMazeEnv("hard")
    >>> env.goal_positions.astype(int).tolist()
    [[-2, 6], [2, 6], [-6, 2], [6, 2], [-6, -2], [6, -2], [-2, -6], [2, -6]]
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0]))
    >>> [round(float(entry), 4) for entry in observation]
    [0.0024, 0.0, 0.2382, 0.0]
    """

    metadata: dict[str, Any] = {**PlanarEnv.metadata, "render_fps": 50}  # noqa: RUF012
    evaluation_episodes = (20, 400)

    def __init__(
        self,
        maze: str = "simple",
        *,
        reward: str = "sparse",
        obstacles: bool | Sequence[int] = False,
        removed_goals: Sequence[int] = (),
        render_mode: str | None = None,
    ) -> None:
        self.maze = check_name("maze", maze, MAZES)
        rows = MAZES[self.maze]
        self._half_width, self._half_height = len(rows[0]) / 2, len(rows) / 2
        high = np.array([self._half_width, self._half_height, TOP_SPEED, TOP_SPEED])
        high = np.nextafter(high.astype(np.float32), np.float32(np.inf))
        super().__init__(
            Box(-high, high, dtype=np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )
        self.dense = check_name("reward", reward, ("sparse", "dense")) == "dense"
        doors = [(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell == "o"]
        self.door_positions: Array = np.array([self._center(*door) for door in doors])
        self.obstacles = standing_obstacles(obstacles, range(len(doors)), len(doors))
        closed = {doors[index] for index in self.obstacles}
        self._walls = [
            [cell in "# " or (i, j) in closed for j, cell in enumerate(row)]
            for i, row in enumerate(rows)
        ]
        self.goal_positions: Array = np.array(
            [
                self._center(i, j)
                for i, row in enumerate(rows)
                for j, cell in enumerate(row)
                if cell == "G"
            ]
        )
        self.num_modes = len(self.goal_positions)
        self.removed_goals = tuple(removed_goals)
        self._kept = kept_goals(removed_goals, self.num_modes)

    def _center(self, row: int, column: int) -> tuple[float, float]:
        return column + 0.5 - self._half_width, self._half_height - row - 0.5

    def is_wall(self, x: float, y: float) -> bool:
        """Return whether a point lies in a wall; everything outside the map does.

        >>> PointMazeEnv("simple").is_wall(5.2, 0.0), PointMazeEnv("simple").is_wall(4.2, 0.0)
        (True, False)
        """
        row, column = math.floor(self._half_height - y), math.floor(x + self._half_width)
        if not (0 <= row < len(self._walls) and 0 <= column < len(self._walls[0])):
            return True
        return self._walls[row][column]

    def _check_state(self, state: Array) -> None:
        x, y = float(state[0]), float(state[1])
        reach = MARGIN - _TOUCH
        corners = [(x + dx, y + dy) for dx in (-reach, reach) for dy in (-reach, reach)]
        if any(self.is_wall(*corner) for corner in corners):
            raise ValueError(
                f"options['state']: got a body at ({x:g}, {y:g}), which touches a wall; "
                f"expected {MARGIN} or more from every wall"
            )

    def _start(self) -> Array:
        return np.zeros(4)

    def _advance(self, action: Array) -> Outcome:
        x, y, vx, vy = self._state.tolist()
        fx, fy = action.tolist()
        before = self._nearest_distance(x, y) if self.dense else 0.0
        x, vx = self._move(x, y, _accelerate(vx, fx), horizontal=True)
        y, vy = self._move(y, x, _accelerate(vy, fy), horizontal=False)
        self._state = np.array([x, y, vx, vy])
        offsets = np.abs(self.goal_positions[self._kept] - (x, y)).max(axis=1)
        nearest = int(offsets.argmin())
        if offsets[nearest] <= GOAL_RADIUS:
            goal = int(self._kept[nearest])
            return Outcome(GOAL_REWARD, goal=goal, success=True, terminated=True)
        if not self.dense:
            return Outcome(0.0)
        return Outcome(DENSE_SCALE * (before - self._nearest_distance(x, y)))

    def _nearest_distance(self, x: float, y: float) -> float:
        offset = self.goal_positions[self._kept] - (x, y)
        return float(np.sqrt(np.square(offset).sum(axis=1).min()))

    def _move(
        self, along: float, across: float, speed: float, *, horizontal: bool
    ) -> tuple[float, float]:
        """Move one coordinate by Δt·speed, or up to the wall in its way, which takes the speed."""
        target = along + TIME_STEP * speed
        if speed == 0.0:
            return target, speed
        side = math.copysign(1.0, speed)
        front = target + side * (MARGIN - _TOUCH)
        for edge in (across - MARGIN + _TOUCH, across + MARGIN - _TOUCH):
            if self.is_wall(front, edge) if horizontal else self.is_wall(edge, front):
                half = self._half_width if horizontal else self._half_height
                cell = math.floor(front + half)
                face = (cell if side > 0 else cell + 1) - half
                return face - side * MARGIN, 0.0
        return target, speed

    def probe_observations(self) -> dict[str, Observation]:
        """Return the start and the maze's crossings, at rest."""
        return {
            f"({x}, {y})": np.array((x, y, 0, 0), dtype=np.float32) for x, y in _PROBES[self.maze]
        }

    def map_artist(self, ax: Axes) -> None:
        """Draw walls, goal cells and the obstacles (outlined where they are free)."""
        from matplotlib.patches import Rectangle

        from vaerl.envs import drawing

        drawing.prepare(
            ax, (-self._half_width, self._half_width), (-self._half_height, self._half_height)
        )
        for i, row in enumerate(MAZES[self.maze]):
            for j, cell in enumerate(row):
                x, y = self._center(i, j)
                if self._walls[i][j]:
                    color = drawing.OUTSIDE if cell == " " else drawing.WALL
                    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=color, ec=color))
                elif cell == "o":
                    ax.add_patch(
                        Rectangle((x - 0.5, y - 0.5), 1, 1, fc="none", ec=drawing.FAINT, ls=":")
                    )
        drawing.draw_goals(
            ax, self.goal_positions, GOAL_RADIUS, square=True, removed=self.removed_goals
        )
        drawing.draw_start(ax, 0.0, 0.0)


def _accelerate(speed: float, force: float) -> float:
    clipped = min(max(speed, -SPEED_LIMIT), SPEED_LIMIT)
    return (clipped + TIME_STEP * GEAR * force / MASS) / (1.0 + TIME_STEP * DAMPING / MASS)
