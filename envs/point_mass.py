"""DrAC's point mass: four goals at distance 10, a step of at most 1 per axis.

    s' = s + a,   d(s) = min over goals of the Chebyshev distance,   r = d(s) − d(s') + 10·[reached]

Source: Wang, Liu & Pan 2025 (DrAC), envs/customized.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array, Observation, Outcome, PlanarEnv, kept_goals, standing_obstacles
from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DISTANCE = 10.0  # from the start to each goal
LIMIT = 20.0  # an episode is truncated beyond
TOLERANCE = 1.0
GOAL_REWARD = 10.0
WALL = 5.0  # obstacle variant: walls at |x| = 5, |y| < 2
WALL_HALF_HEIGHT = 2.0
_SKIN = 1e-9  # a stopped point rests this far before the wall, so that it stays on its side

_GOALS = ((DISTANCE, 0.0), (-DISTANCE, 0.0), (0.0, DISTANCE), (0.0, -DISTANCE))
_PROBES = ((0.0, 0.0), (3.0, 0.0), (5.0, 5.0), (-5.0, 5.0), (0.0, -6.0), (8.0, 0.0))


class PointMassEnv(PlanarEnv):
    """A point without inertia that starts at the origin, at equal distance from four goals.

    Observation: position (x, y). Action: the step, in [−1, 1]². Goal i is reached when one of the
    ten points s + (j/10)(s' − s), j = 1..10, lies within distance 1 of it (first in list order).
    Terminates when a goal is reached; truncated where max |s| > 20. The best return is 19 to 20.

    Args:
        metric: "chebyshev" or "euclidean" (DrAC's -Euclidean-v0), for reward and goals alike.
        reward: "dense" as above, or "sparse": 10 on reaching a goal, else 0.
        obstacles: walls at |x| = 5, |y| < 2 stop a move where it meets them; or the walls before
            the goals of these indices.
        removed_goals: indices of goals that neither pay nor end an episode.

    >>> env = PointMassEnv()
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(np.array([1.0, 0.5]))
    >>> observation.tolist(), reward
    ([1.0, 0.5], 1.0)
    """

    evaluation_episodes = (100, 1000)

    def __init__(
        self,
        *,
        metric: str = "chebyshev",
        reward: str = "dense",
        obstacles: bool | Sequence[int] = False,
        removed_goals: Sequence[int] = (),
        render_mode: str | None = None,
    ) -> None:
        outer = LIMIT + 1.0  # the step that leaves ±20 may end up to 1 beyond
        super().__init__(
            Box(-outer, outer, (2,), np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )
        self.metric = check_name("metric", metric, ("chebyshev", "euclidean"))
        self.sparse = check_name("reward", reward, ("dense", "sparse")) == "sparse"
        self.obstacles = standing_obstacles(obstacles, (0, 1), len(_GOALS))
        self.goal_positions: Array = np.array(_GOALS)
        self.num_modes = len(_GOALS)
        self.removed_goals = tuple(removed_goals)
        self._kept = kept_goals(removed_goals, self.num_modes)

    def _distances(self, points: Array) -> Array:
        """Distances (…, goals kept) of points (…, 2)."""
        offset = points[..., None, :] - self.goal_positions[self._kept]
        if self.metric == "chebyshev":
            return np.abs(offset).max(axis=-1)
        return np.sqrt(np.square(offset).sum(axis=-1))

    def _start(self) -> Array:
        return np.zeros(2)

    def _advance(self, action: Array) -> Outcome:
        before = self._state
        after = stop_at_walls(before, before + action, self.obstacles)
        self._state = after
        path = before + np.arange(1, 11)[:, None] / 10.0 * (after - before)
        within = (self._distances(path) <= TOLERANCE).any(axis=0)
        reward = 0.0
        if not self.sparse:
            reward = float(self._distances(before).min() - self._distances(after).min())
        if within.any():
            goal = int(self._kept[within.argmax()])
            return Outcome(reward + GOAL_REWARD, goal=goal, success=True, terminated=True)
        return Outcome(reward, truncated=bool(np.abs(after).max() > LIMIT))

    def probe_observations(self) -> dict[str, Observation]:
        """Return the start, places between two goals, and places from which one goal is near."""
        return {f"({x:g}, {y:g})": np.array((x, y), dtype=np.float32) for x, y in _PROBES}

    def map_artist(self, ax: Axes) -> None:
        """Draw the goals' regions and, in the obstacle variant, the two walls."""
        from vaerl.envs import drawing

        drawing.prepare(ax, (-13.0, 13.0), (-13.0, 13.0))
        drawing.draw_goals(
            ax,
            self.goal_positions,
            TOLERANCE,
            square=self.metric == "chebyshev",
            removed=self.removed_goals,
        )
        for wall in self.obstacles:
            across = np.array([-WALL_HALF_HEIGHT, WALL_HALF_HEIGHT])
            along = np.full(2, WALL * np.sign(sum(_GOALS[wall])))
            x, y = (along, across) if wall < 2 else (across, along)
            ax.plot(x, y, color=drawing.WALL, linewidth=4)
        drawing.draw_start(ax, 0.0, 0.0)


def stop_at_walls(before: Array, after: Array, walls: Sequence[int] = (0, 1)) -> Array:
    """End the move (2,) → (2,) where it meets a wall before a goal, from either side.

    The wall before goal 0 is x = 5, |y| < 2; the others are turned as their goals are.

    >>> stop_at_walls(np.array([4.5, 1.0]), np.array([5.5, 2.0])).round(6).tolist()
    [5.0, 1.5]
    """
    for index in walls:
        axis, wall = index // 2, WALL if index % 2 == 0 else -WALL
        side = 1.0 if before[axis] > wall else -1.0
        if before[axis] == wall or (after[axis] - wall) * side > 0.0:
            continue
        share = (wall - before[axis]) / (after[axis] - before[axis])
        crossing = before + share * (after - before)
        if abs(crossing[1 - axis]) < WALL_HALF_HEIGHT:
            crossing[axis] = wall + side * _SKIN
            return crossing
    return after
