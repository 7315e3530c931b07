"""CartPole-v1 with pushes: the force is ±10 + 20B, B = 0 (.9), ±1 (.05 each).

Equations, limits and start of Gymnasium's CartPole-v1 (Euler steps of .02 s; Barto, Sutton &
Anderson 1983). The next state has three possible values, two far from the usual one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv, namespace
from vaerl.envs.laws import DiscreteLaw
from vaerl.envs.noisy_pendulum import PUSH_CHANCES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORCE, PUSH = 10.0, 20.0
TAU = 0.02
X_LIMIT, THETA_LIMIT = 2.4, 12.0 * math.pi / 180.0
_GRAVITY, _CART, _POLE, _HALF_LENGTH = 9.8, 1.0, 0.1, 0.5


class PushCartPoleEnv(KnownLawEnv):
    """A pole on a cart that gets a hard push in one step of ten.

    Observation: (x, ẋ, θ, θ̇). Action: 0 left, 1 right. Reward 1 a step; terminates where
    |x| > 2.4 or |θ| > 12°. Starts uniformly within ±.05.

    >>> law = PushCartPoleEnv().transition_distribution(np.zeros(4), 1)
    >>> law.support[:, 1].round(3).tolist(), law.probabilities.tolist()
    ([0.195, 0.585, -0.195], [0.9, 0.05, 0.05])
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        high = np.array([2 * X_LIMIT, 100.0, 2 * THETA_LIMIT, 100.0], dtype=np.float32)
        super().__init__(Box(-high, high), Discrete(2), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return rng.uniform(-0.05, 0.05, (count, 4))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw states within (2.4, 2, 12°, 2) and the action uniformly."""
        high = np.array([X_LIMIT, 2.0, THETA_LIMIT, 2.0])
        return rng.uniform(-high, high, (count, 4)), rng.integers(2, size=count)

    def _law(self, states: Array, actions: NDArray) -> DiscreteLaw:
        x, speed, theta, turn = (states[..., i, None] for i in range(4))
        force = FORCE * (2.0 * actions - 1.0)[..., None] + PUSH * np.array([0.0, 1.0, -1.0])
        total = _CART + _POLE
        cos, sin = np.cos(theta), np.sin(theta)
        pull = (force + _POLE * _HALF_LENGTH * turn**2 * sin) / total
        turning = (_GRAVITY * sin - cos * pull) / (
            _HALF_LENGTH * (4.0 / 3.0 - _POLE * cos**2 / total)
        )
        moving = pull - _POLE * _HALF_LENGTH * turning * cos / total
        columns = (x + TAU * speed, speed + TAU * moving, theta + TAU * turn, turn + TAU * turning)
        support = np.stack([np.broadcast_to(c, force.shape) for c in columns], -1)
        return DiscreteLaw(support, np.broadcast_to(PUSH_CHANCES, force.shape))

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return 1 for each step."""
        return namespace(next_states).ones_like(next_states[..., 0])

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return whether the cart left its rail or the pole fell."""
        return (abs(next_states[..., 0]) > X_LIMIT) | (abs(next_states[..., 2]) > THETA_LIMIT)

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return the pole at rest and about to fall."""
        return {
            "at rest, right": (np.zeros(4), 1),
            "falling, left": (np.array([0.5, 0.3, 0.15, 0.8]), 0),
        }

    def _place(self) -> tuple[float, float]:
        return float(self._state[0]), 0.0

    def _drawn(self) -> list[tuple[float, float]]:
        """Show the pole, from the cart up."""
        x, theta = float(self._state[0]), float(self._state[2])
        return [(x, 0.0), (x + math.sin(theta), math.cos(theta))]

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-2.6, 2.6), (-1.6, 2.6))
        ax.plot([-X_LIMIT, X_LIMIT], [0.0, 0.0], color=drawing.WALL, linewidth=2)
