"""Classic control without shaping: each step costs 1 until the goal, whatever the way.

    r = 0 at the goal, −1 elsewhere

The dynamics are Gymnasium's. Pendulum is at its goal within 15° of upright and never terminates;
the mountain car terminates at the top. The value of such a task has a peak for each way (He et al.
2026, Revisiting mixture policies).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from vaerl.envs.base import Array, DrawnEnv, Observation, Outcome
from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UPRIGHT = math.radians(15.0)
TOP = 0.45


class Task(NamedTuple):
    """What is moved, and when it is at the goal."""

    make: Callable[[], Any]
    """Gymnasium's environment, whose state is a place or angle and its speed."""
    reached: Callable[[float], bool]
    """Whether a place or angle is at the goal."""
    ends: bool
    high: tuple[float, float]
    """Of the map, in both directions."""


TASKS = {
    "pendulum": Task(PendulumEnv, lambda angle: math.cos(angle) > math.cos(UPRIGHT), False, (4, 9)),
    "mountain-car": Task(Continuous_MountainCarEnv, lambda x: x >= TOP, True, (1.3, 0.08)),
}


class UnshapedEnv(DrawnEnv):
    """A task of classic control whose reward says only whether the goal is reached.

    Observation and action: Gymnasium's of Pendulum-v1 or MountainCarContinuous-v0. Reward −1, or 0
    at the goal.

    Args:
        task: "pendulum" or "mountain-car".

    >>> env = UnshapedEnv("mountain-car")
    >>> observation, info = env.reset(seed=0)
    >>> env.step(np.array([1.0]))[1:3]
    (-1.0, False)
    """

    def __init__(self, task: str = "pendulum", *, render_mode: str | None = None) -> None:
        self.task = check_name("task", task, TASKS)
        self._moved = TASKS[task].make()
        super().__init__(self._moved.observation_space, self._moved.action_space, render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start as in Gymnasium."""
        gymnasium.Env.reset(self, seed=seed)
        self._seen, _ = self._moved.reset(seed=seed, options=options)
        self._begin_trace()
        return self._observe(), self._info(Outcome(0.0))

    def _advance(self, action: Array) -> Outcome:
        task = TASKS[self.task]
        self._seen, *_ = self._moved.step(action.astype(np.float32))
        reached = task.reached(self._place()[0])
        ends = reached and task.ends
        return Outcome(0.0 if reached else -1.0, success=reached, terminated=ends)

    def _observe(self) -> Observation:
        return np.array(self._seen, dtype=np.float32)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {"is_success": outcome.success}

    def _place(self) -> tuple[float, float]:
        where, speed = self._moved.state
        return float(where), float(speed)

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        right, high = TASKS[self.task].high
        drawing.prepare(ax, (-right, right), (-high, high))
        ax.set_aspect("auto")
        line = np.linspace(-right, right, 401)
        goal = [TASKS[self.task].reached(x) for x in line]
        ax.fill_between(line, -high, high, where=goal, color=drawing.FAINT, linewidth=0)
