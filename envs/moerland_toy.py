"""Moerland's toy: one number in, one number out, with one, two or three branches.

    x ~ U(−1, 1),   y = f(x) + N(0, 0.1²)
    x < −.3:        f = 2.5
    −.3 ≤ x < .3:   f = 4x + 4 (p = .2),  −4x + 1.5 (.8)
    x ≥ .3:         f = ln(x + 1) + 5 (.3),  −x + .2 (.35),  5x² (.35)

Source: Moerland, Broekens & Jonker 2017, datasets/Dataset2.py of tmoer/multimodal_varinf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv, namespace
from vaerl.envs.laws import MixtureLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BORDER = 0.3  # the branches change at ± this x
STD = 0.1


class MoerlandToyEnv(KnownLawEnv):
    """A task of pure prediction: one step, one action, no reward.

    Observation: x ∈ [−1, 1] at the start, then y. Action: the only one, 0. Terminates after the
    step. The exact law's NLL over x ~ U(−1, 1) is −.354, that of the best Gaussian .868.

    >>> law = MoerlandToyEnv().transition_distribution([0.5], 0)
    >>> law.means.round(3).tolist(), law.weights.tolist()
    ([[5.405], [-0.3], [1.25]], [0.3, 0.35, 0.35])
    """

    _one_step = True
    _legal_states = "between -1 and 1"

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(Box(-10.0, 10.0, (1,), np.float32), Discrete(1), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return rng.uniform(-1.0, 1.0, (count, 1))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw x uniformly in [−1, 1]; the action is 0."""
        return self.start_states(count, rng), np.zeros(count, dtype=np.int64)

    def legal(self, states: Array) -> NDArray[np.bool_]:
        return np.abs(states[..., 0]) <= 1.0

    def _law(self, states: Array, actions: NDArray) -> MixtureLaw:
        x = states[..., 0]
        left, right = (x < -BORDER)[..., None], (x >= BORDER)[..., None]
        one = np.stack([np.full_like(x, 2.5)] * 3, -1)
        two = np.stack([4.0 * x + 4.0, -4.0 * x + 1.5, -4.0 * x + 1.5], -1)
        three = np.stack([np.log1p(np.maximum(x, 0.0)) + 5.0, 0.2 - x, 5.0 * x**2], -1)
        means = np.where(left, one, np.where(right, three, two))
        weights = np.where(
            left, [1.0, 0.0, 0.0], np.where(right, [0.3, 0.35, 0.35], [0.2, 0.8, 0.0])
        )
        return MixtureLaw(weights, means[..., None], STD)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return 0: the task has no reward."""
        return namespace(next_states).zeros_like(next_states[..., 0])

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return one x with one, one with two and one with three branches."""
        return {f"x={x:g}": (np.array([x]), 0) for x in (-0.6, 0.0, 0.6)}

    def _place(self) -> tuple[float, float]:
        """Return (x, y); before the step the point lies below the picture."""
        if not self._trace:
            return float(self._state[0]), -10.0
        return self._trace[0][0], float(self._state[0])

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-1.05, 1.05), (-1.6, 6.4))
        ax.set_aspect("auto")
        for low, high in ((-1.0, -BORDER), (-BORDER, BORDER - 1e-9), (BORDER, 1.0)):
            x = np.linspace(low, high, 60)[:, None]
            law = self._law(x, np.zeros(60, dtype=np.int64))
            for branch in np.flatnonzero(law.weights[30]):
                line = law.means[1:-1, branch, 0]
                ax.plot(x[1:-1, 0], line, color=drawing.FAINT, linewidth=3)
