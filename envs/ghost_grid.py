"""The ghost grid: a 7 × 7 maze with two ghosts that move at random.

In a step the agent moves, or stays if blocked. On a ghost's cell it is caught and the ghosts do not
move. Otherwise ghost 1 moves with equal chances up, down, right, left and ghost 2 with
(.1, .1, .4, .4), each redrawn until the move is legal. Caught: r = −1, end. Else the agent at
(6, 6): r = 10, end. Else r = 0.
Source: Moerland, Broekens & Jonker 2017, rlenv/grid.py of tmoer/multimodal_varinf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from vaerl.envs.base import Array, Outcome
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.laws import DiscreteLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 7
WALLS = (*((x, 1) for x in range(1, 6)), *((x, y) for x, y in ((1, 4), (2, 4), (4, 4), (5, 4))))
GOAL = (6, 6)
START = (0, 0, 1, 3, 5, 3)  # agent, ghost 1, ghost 2
MOVES = ((0, 1), (0, -1), (1, 0), (-1, 0))  # up, down, right, left
GHOST_CHANCES = ((0.25, 0.25, 0.25, 0.25), (0.1, 0.1, 0.4, 0.4))


def _tables() -> tuple[NDArray[np.int64], NDArray[np.bool_], Array]:
    """Return cells (40, 2), whether a move is legal (7, 7, 4), ghosts' chances (2, 7, 7, 4)."""
    free = np.ones((SIDE, SIDE), dtype=np.bool_)
    for wall in WALLS:
        free[wall] = False
    cells = np.argwhere(free)
    legal = np.zeros((SIDE, SIDE, 4), dtype=np.bool_)
    for x, y in cells:
        for k, (dx, dy) in enumerate(MOVES):
            inside = 0 <= x + dx < SIDE and 0 <= y + dy < SIDE
            legal[x, y, k] = inside and free[x + dx, y + dy]
    chances = legal * np.array(GHOST_CHANCES)[:, None, None, :]
    total = chances.sum(axis=-1, keepdims=True)
    return cells, legal, chances / np.where(total > 0.0, total, 1.0)


CELLS, LEGAL, CHANCES = _tables()


class GhostGridEnv(KnownLawEnv):
    """Walk to the corner (6, 6) past two ghosts.

    Observation: the cells (x, y) of agent, ghost 1 and ghost 2, six whole numbers 0 to 6. Action:
    0 up, 1 down, 2 right, 3 left. With γ = .99 the best value of the start is 8.7845.

    >>> law = GhostGridEnv().transition_distribution([0, 0, 1, 3, 5, 3], 2)
    >>> law.support.shape, law.mean().round(2).tolist()
    ((16, 6), [1.0, 0.0, 1.0, 2.67, 5.0, 2.89])
    """

    _joined = False
    _legal_states = "free cells of a running episode"

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(Box(0.0, SIDE - 1.0, (6,), np.float32), Discrete(4), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return np.tile(np.array(START, dtype=np.float64), (count, 1))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw three free cells and an action uniformly; repeat if the episode had ended."""
        states = np.empty((0, 6))
        while len(states) < count:
            drawn = CELLS[rng.integers(len(CELLS), size=(2 * count, 3))].reshape(-1, 6)
            ended = caught(drawn) | at_goal(drawn)
            states = np.concatenate([states, drawn[~ended]])
        return states[:count], rng.integers(4, size=count)

    def legal(self, states: Array) -> NDArray[np.bool_]:
        whole = np.rint(states)
        cells = np.clip(whole, 0, SIDE - 1).astype(np.int64).reshape(*states.shape[:-1], 3, 2)
        free = LEGAL[cells[..., 0], cells[..., 1]].any(axis=-1).all(axis=-1)
        inside = ((np.abs(states - whole) < 1e-3) & (whole >= 0) & (whole < SIDE)).all(axis=-1)
        return free & inside & ~(caught(states) | at_goal(states))

    def _law(self, states: Array, actions: NDArray) -> DiscreteLaw:
        cells = np.rint(states).astype(np.int64)
        batch = cells.shape[:-1]
        moves = np.array(MOVES)
        agent = cells[..., :2]
        can = LEGAL[agent[..., 0], agent[..., 1], actions]
        agent = agent + moves[actions] * can[..., None]
        ghosts, chances = [], []
        for which in (0, 1):
            ghost = cells[..., 2 + 2 * which : 4 + 2 * which]
            ghosts.append(ghost[..., None, :] + moves)
            chances.append(CHANCES[which, ghost[..., 0], ghost[..., 1]])
        support = np.empty((*batch, 4, 4, 6))
        support[..., :2] = agent[..., None, None, :]
        support[..., 2:4] = ghosts[0][..., :, None, :]
        support[..., 4:6] = ghosts[1][..., None, :, :]
        joint = chances[0][..., :, None] * chances[1][..., None, :]
        support, joint = support.reshape(*batch, 16, 6), joint.reshape(*batch, 16)
        stopped = np.concatenate([agent, cells[..., 2:]], axis=-1)
        hit = caught(stopped)[..., None]
        support = np.where(hit[..., None], stopped[..., None, :], support)
        return DiscreteLaw(support, np.where(hit, np.eye(16)[0], joint))

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return −1 where caught, 10 at the goal, else 0."""
        hit = caught(next_states)
        return 10.0 * (at_goal(next_states) & ~hit) - 1.0 * hit

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return whether the agent is caught or at the goal."""
        return caught(next_states) | at_goal(next_states)

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return the start, ghosts in a corner and in corridors, and a step into a ghost."""
        return {
            "start, right": (np.array(START, dtype=np.float64), 2),
            "ghosts in corners, up": (np.array([3.0, 3.0, 0.0, 6.0, 6.0, 0.0]), 0),
            "ghosts in corridors, left": (np.array([6.0, 4.0, 3.0, 4.0, 0.0, 1.0]), 3),
            "into ghost 1, up": (np.array([0.0, 2.0, 0.0, 3.0, 4.0, 0.0]), 0),
        }

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        state = self._state
        return {"is_success": bool(at_goal(state) & ~caught(state))}

    def _drawn(self) -> list[tuple[float, float]]:
        """Show the ghosts (small) and the agent (large)."""
        cells = self._state.reshape(3, 2)
        return [(float(x), float(y)) for x, y in cells[[1, 2, 0]]]

    def _draw_map(self, ax: Axes) -> None:
        from matplotlib.patches import Rectangle

        from vaerl.envs import drawing

        drawing.prepare(ax, (-0.6, SIDE - 0.4), (-0.6, SIDE - 0.4))
        for x, y in WALLS:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1.0, 1.0, facecolor=drawing.WALL))
        drawing.draw_goals(ax, np.array([GOAL], dtype=np.float64), 0.45, square=True)
        drawing.draw_start(ax, START[0], START[1])


def caught(states: Any) -> Any:
    """Return whether the agent shares a cell with a ghost (*batch,), states rounded to cells.

    >>> caught(np.array([2.0, 2.0, 2.2, 1.9, 6.0, 0.0])).item()
    True
    """
    agent, one, two = states[..., :2], states[..., 2:4], states[..., 4:6]
    return (abs(agent - one) < 0.5).all(-1) | (abs(agent - two) < 0.5).all(-1)


def at_goal(states: Any) -> Any:
    """Return whether the agent is at (6, 6): (*batch,).

    >>> at_goal(np.array([6.0, 5.8, 0.0, 0.0, 0.0, 0.0])).item()
    True
    """
    return (abs(states[..., 0] - GOAL[0]) < 0.5) & (abs(states[..., 1] - GOAL[1]) < 0.5)
