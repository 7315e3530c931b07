"""SQL's MultiGoal: a point in the plane, four goals, quadratic costs.

    s' = clip(s + a, ±7),   r = −30‖a‖² − min_g ‖s' − g‖² + 10·[done],   done iff min_g ‖s' − g‖ < ρ

Source: Haarnoja et al. 2017 (Soft Q-learning) and its code; variants `s2ac-4` and `s2ac-3` from
Messaoud et al. 2024 (S2AC), where ρ = 0.5 and episodes start exactly at the origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array, Observation, Outcome, PlanarEnv
from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT = 7.0  # half side of the square world
ACTION_COST = 30.0
GOAL_REWARD = 10.0


class Variant(NamedTuple):
    """Goals, done threshold ρ, standard deviation of the start, states to look at."""

    goals: tuple[tuple[float, float], ...]
    done_threshold: float
    start_std: float
    probes: tuple[tuple[float, float], ...]


_FOUR = ((5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0))
_THREE = ((5.0, 0.0), (-4.0, 3.0), (-4.0, -3.0))
_PROBES_FOUR = ((0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (2.5, 2.5), (4.0, 0.0), (2.5, -2.5))
_PROBES_THREE = ((-3.5, -2.5), (-2.5, 0.5), (-1.0, 0.0), (0.0, 0.0), (1.0, 0.0), (4.0, 0.0))

VARIANTS = {
    "sql": Variant(_FOUR, 1.0, 0.1, _PROBES_FOUR),
    "s2ac-4": Variant(_FOUR, 0.5, 0.0, _PROBES_FOUR),
    "s2ac-3": Variant(_THREE, 0.5, 0.0, _PROBES_THREE),
}


class MultiGoalEnv(PlanarEnv):
    """A point that walks to one of several goals.

    Observation: position (x, y) ∈ [−7, 7]². Action: the step, in [−1, 1]².
    The best straight path from the origin returns −110.03 in 9 steps (−113.8 in 13 with ρ = 0.5);
    a policy with one mode reaches it, so look at the goals' shares as well.

    Args:
        variant: "sql" (4 goals, ρ = 1, start N(0, 0.1² I)), "s2ac-4" or "s2ac-3" (4 or 3 goals,
            ρ = 0.5, start exactly at the origin).
        done_threshold: ρ > 0, in place of the variant's.
        start_std: standard deviation ≥ 0 of the start, in place of the variant's.

    >>> env = MultiGoalEnv("s2ac-4")
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0]))
    >>> observation.tolist(), reward
    ([1.0, 0.0], -46.0)
    """

    evaluation_episodes = (100, 1000)

    def __init__(
        self,
        variant: str = "sql",
        *,
        done_threshold: float | None = None,
        start_std: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            Box(-LIMIT, LIMIT, (2,), np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )
        chosen = VARIANTS[check_name("variant", variant, VARIANTS)]
        self.done_threshold = chosen.done_threshold if done_threshold is None else done_threshold
        self.start_std = chosen.start_std if start_std is None else start_std
        if not 0.0 < self.done_threshold < np.inf:
            raise ValueError(f"done_threshold: got {done_threshold!r}, expected above 0")
        if not 0.0 <= self.start_std < np.inf:
            raise ValueError(f"start_std: got {start_std!r}, expected 0 or more")
        self.goal_positions: Array = np.array(chosen.goals)
        self.num_modes = len(chosen.goals)
        self._probes = chosen.probes

    def _start(self) -> Array:
        if self.start_std == 0.0:
            return np.zeros(2)
        return np.clip(self.start_std * self.np_random.normal(size=2), -LIMIT, LIMIT)

    def _advance(self, action: Array) -> Outcome:
        self._state = np.clip(self._state + action, -LIMIT, LIMIT)
        squared = np.square(self._state - self.goal_positions).sum(axis=1)
        nearest = int(squared.argmin())
        done = bool(np.sqrt(squared[nearest]) < self.done_threshold)
        reward = -ACTION_COST * float(action @ action) - float(squared[nearest])
        if not done:
            return Outcome(reward)
        return Outcome(reward + GOAL_REWARD, goal=nearest, success=True, terminated=True)

    def probe_observations(self) -> dict[str, Observation]:
        """Return the states at which S2AC's authors measured the policy's entropy."""
        return {f"({x:g}, {y:g})": np.array((x, y), dtype=np.float32) for x, y in self._probes}

    def map_artist(self, ax: Axes) -> None:
        """Draw the goals over level lines of the squared distance to the nearest one."""
        from vaerl.envs import drawing

        drawing.prepare(ax, (-LIMIT, LIMIT), (-LIMIT, LIMIT))
        line = np.linspace(-LIMIT, LIMIT, 141)
        grid = np.stack(np.meshgrid(line, line), axis=-1)
        squared = np.square(grid[:, :, None] - self.goal_positions).sum(axis=-1).min(axis=-1)
        ax.contour(line, line, np.sqrt(squared), levels=8, colors=drawing.FAINT, linewidths=0.8)
        drawing.draw_goals(ax, self.goal_positions, self.done_threshold)
        drawing.draw_start(ax, 0.0, 0.0)
