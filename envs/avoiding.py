"""Avoiding, rebuilt in the plane: a rod pulled past three rows of posts, in one of 24 ways.

    d ← d + a (a clipped to ±0.01 per axis),   p ← p + k(d − p)

d is the desired point, p the rod, k = 0.5 stands for the arm's controller. Posts, start, success
and mode code are those of D3IL (Jia et al. 2024); dynamics and reward differ, so scores published
for D3IL do not carry over. Metres; x lateral, y forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array, Observation, Outcome, PlanarEnv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# x, y, radius of the posts, row by row
POSTS: Array = np.array(
    [
        (0.5, -0.1, 0.03),
        (0.425, 0.08, 0.025),
        (0.575, 0.08, 0.025),
        (0.35, 0.26, 0.025),
        (0.5, 0.26, 0.025),
        (0.65, 0.26, 0.025),
    ]
)
ROD_RADIUS = 0.01
START = (0.525, -0.28)
SUCCESS_Y = 0.35
MAX_ACTION = 0.01
TIME_LIMIT = 250
# of each row of posts: the band of y in which its gap is noted first, and the x between its gaps
_ROWS = (
    (-0.13, -0.07, (0.5,)),
    (0.05, 0.11, (0.425, 0.575)),
    (0.26, math.inf, (0.35, 0.5, 0.65)),
)
GAPS = (2, 3, 4)  # a row
NUM_MODES = 24

FULL_SPEED = 1.0 / 120.0  # metres a step at full stick
SLOWEST = 0.7  # share of FULL_SPEED, under `vary_speed`
DEAD_ZONE = 0.005
_ROUTE_Y = (-0.14, -0.07, 0.045, 0.115, 0.22, 0.30, 0.37)
_ROUTE_X = ((0.44, 0.56), (0.36, 0.50, 0.64), (0.285, 0.425, 0.575, 0.715))
_ROUTE_ROW = (0, 0, 1, 1, 2, 2, 2)
_JITTER = 0.006
_NOISE = 0.0007
_SWITCH = 0.012


def mode_code(gaps: Sequence[int]) -> int:
    """Return the code 0..23 of the gaps taken in the three rows, −1 while one is missing.

    >>> mode_code((0, 0, 0)), mode_code((1, 2, 3)), mode_code((1, -1, -1))
    (0, 23, -1)
    """
    first, second, third = gaps
    return -1 if min(gaps) < 0 else (first * GAPS[1] + second) * GAPS[2] + third


def mode_gaps(mode: int) -> tuple[int, int, int]:
    """Return the gaps of a mode code, from left to right 0, 1, … in each row.

    >>> mode_gaps(23)
    (1, 2, 3)
    """
    if not 0 <= mode < NUM_MODES:
        raise ValueError(f"mode: got {mode!r}, expected 0 to {NUM_MODES - 1}")
    return mode // (GAPS[1] * GAPS[2]), mode // GAPS[2] % GAPS[1], mode % GAPS[2]


class AvoidingEnv(PlanarEnv):
    """A rod that must pass three rows of posts without touching one.

    Observation: [desired x, desired y, rod x, rod y]. Action: increment of the desired point.
    An episode ends with success (reward 1) at y > 0.35, or without (reward 0) at a contact, when
    the rod's centre is within radius + 0.01 of a post's centre. An episode's goal is its mode code
    0..23 after success, else −1; `info["gaps"]` holds the gap of each row passed so far, else −1.

    Args:
        tracking: k ∈ (0, 1], share of the distance to the desired point that a step covers.

    >>> env = AvoidingEnv()
    >>> observation, info = env.reset()
    >>> observation, reward, terminated, truncated, info = env.step(np.array([0.0, 0.01]))
    >>> [round(float(entry), 3) for entry in observation]
    [0.525, -0.27, 0.525, -0.275]
    """

    num_modes = NUM_MODES
    goal_positions = None  # modes are ways, not places

    def __init__(self, *, tracking: float = 0.5, render_mode: str | None = None) -> None:
        reach = MAX_ACTION * (TIME_LIMIT + 1)
        middle = np.array(START * 2)
        super().__init__(
            Box((middle - reach).astype(np.float32), (middle + reach).astype(np.float32)),
            Box(-MAX_ACTION, MAX_ACTION, (2,), np.float32),
            render_mode,
        )
        if not 0.0 < tracking <= 1.0:
            raise ValueError(f"tracking: got {tracking!r}, expected above 0 and at most 1")
        self.tracking = tracking
        self._gaps = [-1, -1, -1]

    def _begin(self) -> None:
        self._gaps = [-1, -1, -1]

    def _start(self) -> Array:
        return np.array(START * 2)

    def _check_state(self, state: Array) -> None:
        if _touches(state[2:]):
            raise ValueError(
                f"options['state']: got {state.tolist()}, expected a rod that touches no post"
            )

    def _advance(self, action: Array) -> Outcome:
        desired = self._state[:2] + action
        rod = self._state[2:] + self.tracking * (desired - self._state[2:])
        self._state = np.concatenate([desired, rod])
        x, y = rod.tolist()
        for row, (low, high, edges) in enumerate(_ROWS):
            if low <= y <= high and self._gaps[row] < 0:
                self._gaps[row] = sum(x >= edge for edge in edges)
        if _touches(rod):
            return Outcome(0.0, terminated=True)
        if y > SUCCESS_Y:
            return Outcome(1.0, goal=mode_code(self._gaps), success=True, terminated=True)
        return Outcome(0.0)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {**super()._info(outcome), "gaps": tuple(self._gaps)}

    def position(self, observation: np.ndarray) -> Array:
        """Return the rod's position (2,)."""
        return np.asarray(observation, dtype=np.float64)[2:].copy()

    def expert(self, rng: np.random.Generator, episode: int) -> Callable[[Observation], Array]:
        """Give a policy for one episode; the ways take turns, at a speed drawn from U(0.7, 1)."""
        speed = FULL_SPEED * rng.uniform(SLOWEST, 1.0)
        return scripted_expert(episode % NUM_MODES, rng, speed=speed, dead_zone=True)

    def probe_observations(self) -> dict[str, Observation]:
        """Return places before each row where several gaps are open, desired point on the rod."""
        places = {
            "start": START,
            "before row 1": (0.5, -0.2),
            "before row 2, left": (0.44, -0.05),
            "before row 2, right": (0.56, -0.05),
            "before row 3, left": (0.425, 0.17),
            "before row 3, middle": (0.5, 0.17),
        }
        return {name: np.array(place * 2, dtype=np.float32) for name, place in places.items()}

    def map_artist(self, ax: Axes) -> None:
        """Draw the posts, the distance the rod's centre must keep, and the line of success."""
        from matplotlib.patches import Circle

        from vaerl.envs import drawing

        drawing.prepare(ax, (0.14, 0.86), (-0.32, 0.40))
        for x, y, radius in POSTS:
            ax.add_patch(Circle((x, y), radius, color=drawing.WALL, zorder=3))
            ax.add_patch(
                Circle((x, y), radius + ROD_RADIUS, fill=False, ls=":", ec=drawing.WALL, zorder=3)
            )
        ax.axhspan(SUCCESS_Y, 0.40, color=drawing.goal_color(2), alpha=0.2, linewidth=0)
        ax.axhline(SUCCESS_Y, color=drawing.goal_color(2), linewidth=1.5)
        drawing.draw_start(ax, *START)


def scripted_expert(
    mode: int,
    rng: np.random.Generator,
    *,
    speed: float = FULL_SPEED,
    dead_zone: bool = False,
) -> Callable[[Observation], Array]:
    """Return a policy for one episode: observation (4,) → action (2,), aiming at gap after gap.

    D3IL's demonstrations were steered by a gamepad whose axes are zeroed near the middle, so each
    component of an action is 0 or at least 0.005: the action law has an atom at 0. `dead_zone`
    imitates that; without it a scripted set flatters latent-variable models.

    It steers the desired point to the next of seven way-points (x jittered by N(0, 0.006²), drawn
    here) by min(speed, distance), goes on to the one after it within 0.012, and adds N(0, 0.0007²).

    >>> policy = scripted_expert(0, np.random.default_rng(0))
    >>> action = policy(np.array([0.525, -0.28, 0.525, -0.28], dtype=np.float32))
    >>> bool(action[0] < 0 < action[1])
    True
    """
    if not 0.0 < speed <= MAX_ACTION:
        raise ValueError(f"speed: got {speed!r}, expected above 0 and at most {MAX_ACTION}")
    gaps = mode_gaps(mode)
    route = np.array(
        [
            (_ROUTE_X[row][gaps[row]] + _JITTER * rng.normal(), y)
            for row, y in zip(_ROUTE_ROW, _ROUTE_Y, strict=True)
        ]
    )
    reached = 0
    owed = np.zeros(2)  # movement wanted so far that the dead zone has kept back

    def act(observation: Observation) -> Array:
        nonlocal reached, owed
        desired = np.asarray(observation, dtype=np.float64)[:2]
        while reached < len(route) - 1 and math.dist(desired, route[reached]) < _SWITCH:
            reached += 1
        way = route[reached] - desired
        distance = float(np.hypot(*way))
        step = way * (min(speed, distance) / max(distance, 1e-12)) + _NOISE * rng.normal(size=2)
        if dead_zone:
            owed = owed + step
            step = np.where(np.abs(owed) < DEAD_ZONE, 0.0, np.clip(owed, -FULL_SPEED, FULL_SPEED))
            owed = owed - step
        return np.clip(step, -MAX_ACTION, MAX_ACTION)

    return act


def _touches(rod: Array) -> bool:
    distance = np.sqrt(np.square(rod - POSTS[:, :2]).sum(axis=1))
    return bool((distance < POSTS[:, 2] + ROD_RADIUS).any())
