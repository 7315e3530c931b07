"""BimodalWind: one strong gust, up or down, waits in the middle of the way.

    y' = y + .1v + .01ξ₁
    v' = .95v + .3a + 2B·[t = 9 and |y| < .5] + .01ξ₂,     ξ ~ N(0, 1),  B = ±1 with equal chances

After 13 moves: r = 1 if |y| < .15 (centre gate), .15 if .6 < |y| < 1.6 (side gates), else 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv, namespace
from vaerl.envs.laws import MixtureLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOVES = 13
GUST_TIME = 9
GUST_HALF_WIDTH = 0.5  # the gust blows where |y| is below
GUST = 2.0
NOISE = 0.01
CENTRE = 0.15  # half height of the centre gate
SIDE = (0.6, 1.6)  # |y| of the side gates
SIDE_REWARD = 0.15


class BimodalWindEnv(KnownLawEnv):
    """A glider that must pass one of three gates after 13 moves.

    Observation: (t, y, v), t the number of moves made. Action: a ∈ [−1, 1]. Starts at (0, 0, 0);
    terminates after 13 moves. Scored coordinates: (y', v').

    >>> law = BimodalWindEnv().transition_distribution([9.0, 0.0, 0.0], [0.5])
    >>> law.scored, law.means.tolist()
    ((1, 2), [[0.0, 2.15], [0.0, -1.85]])
    """

    scored = (1, 2)
    _legal_states = f"at a whole time t, 0 to {MOVES - 1}"

    def __init__(self, *, render_mode: str | None = None) -> None:
        high = np.array([MOVES, 12.0, 10.0], dtype=np.float32)
        low = np.array([0.0, -12.0, -10.0], dtype=np.float32)
        super().__init__(Box(low, high), Box(-1.0, 1.0, (1,), np.float32), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return np.zeros((count, 3))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw t ∈ 0..12, y ∈ [−1.5, 1.5], v ∈ [−2.5, 2.5] and the action uniformly."""
        clock = rng.integers(MOVES, size=count).astype(np.float64)
        rest = rng.uniform([-1.5, -2.5], [1.5, 2.5], (count, 2))
        return np.column_stack([clock, rest]), rng.uniform(-1.0, 1.0, (count, 1))

    def legal(self, states: Array) -> NDArray[np.bool_]:
        clock = states[..., 0]
        whole = np.abs(clock - np.rint(clock)) < 1e-3
        return whole & (clock > -0.5) & (clock < MOVES - 0.5)

    def _law(self, states: Array, actions: Array) -> MixtureLaw:
        clock, y, v = states[..., 0], states[..., 1], states[..., 2]
        blows = (np.rint(clock) == GUST_TIME) & (np.abs(y) < GUST_HALF_WIDTH)
        calm = 0.95 * v + 0.3 * actions[..., 0]
        v_next = calm[..., None] + (GUST * blows)[..., None] * np.array([1.0, -1.0])
        y_next = np.broadcast_to((y + 0.1 * v)[..., None], v_next.shape)
        return MixtureLaw(
            np.full(v_next.shape, 0.5),
            np.stack([y_next, v_next], axis=-1),
            NOISE,
            scored=self.scored,
            complete=lambda values: self.complete(states, actions, values),
        )

    def complete(self, states: Any, actions: Any, scored_values: Any) -> Any:
        """Turn (y', v') into (t + 1, y', v')."""
        xp = namespace(scored_values)
        clock = xp.broadcast_to(states[..., 0] + 1.0, scored_values.shape[:-1])
        return xp.stack([clock, scored_values[..., 0], scored_values[..., 1]], -1)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return the gate's reward after the last move, else 0."""
        height = abs(next_states[..., 1])
        side = (height > SIDE[0]) & (height < SIDE[1])
        gate = 1.0 * (height < CENTRE) + SIDE_REWARD * side
        return gate * self.terminated(states, actions, next_states)

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return whether 13 moves are made."""
        return next_states[..., 0] > MOVES - 0.5

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return the gust, its edge on both sides, and calm."""
        idle = np.zeros(1)
        return {
            "gust": (np.array([9.0, 0.0, 0.0]), idle),
            "gust, y=0.45": (np.array([9.0, 0.45, 0.5]), idle),
            "no gust, y=0.55": (np.array([9.0, 0.55, 0.5]), idle),
            "calm": (np.array([4.0, 0.2, 0.5]), idle),
        }

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-0.5, MOVES + 0.5), (-2.2, 2.2))
        ax.set_aspect("auto")
        inside = (-GUST_HALF_WIDTH, GUST_HALF_WIDTH)
        ax.fill_between([GUST_TIME - 0.15, GUST_TIME + 0.15], *inside, color=drawing.FAINT)
        gates = ((-SIDE[1], -SIDE[0]), (-CENTRE, CENTRE), SIDE)
        for index, (low, high) in enumerate(gates):
            color = drawing.goal_color(index)
            ax.plot([MOVES, MOVES], [low, high], color=color, linewidth=5, alpha=0.6)
        drawing.draw_start(ax, 0.0, 0.0)
