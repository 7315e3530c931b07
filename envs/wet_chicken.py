"""Wet-Chicken: paddle as near to the waterfall as you dare.

    v = 3x/5,   s = 3.5 − v,   τ ~ U(−1, 1),   ŷ = y + (a_y − 1) + v + sτ
    ŷ > 5:  s' = (0, 0)                 (over the fall, back to the start; the episode goes on)
    else:   x' = clip(x + a_x, 0, 5),   y' = max(ŷ, 0),        r = −(5 − y')

Sources: Tresp 1994; Hans & Udluft 2009; Depeweg et al. 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.laws import MixedLaw, UniformLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 5.0  # width of the river and distance of the waterfall from the bank


class WetChickenEnv(KnownLawEnv):
    """A canoe on a river: x across, where it flows faster, y towards the waterfall.

    Observation: (x, y) ∈ [0, 5]². Action: (a_x, a_y) ∈ [−1, 1]². Starts at (0, 0). Score: reward
    per step over 200 steps; the best is −2.32, the best with a Gaussian model −2.51, both by value
    iteration with γ = .99.
    The law has two atoms, the fall (0, 0) and the bank (x', 0), and a segment x' × (low, high): it
    has no density in the plane, so models are scored on noisy observations (see `laws`).

    >>> env = WetChickenEnv()
    >>> law = env.transition_distribution([2.0, 4.0], [0.0, 0.0])
    >>> law.atoms.tolist(), law.probabilities.round(3).tolist()
    ([[0.0, 0.0], [2.0, 0.0]], [0.326, 0.0])
    >>> law.rest.low.round(3).tolist(), law.rest.high.round(3).tolist()
    ([2.0, 1.9], [2.0, 5.0])
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(
            Box(0.0, SIZE, (2,), np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return np.zeros((count, 2))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw states and actions uniformly."""
        return rng.uniform(0.0, SIZE, (count, 2)), rng.uniform(-1.0, 1.0, (count, 2))

    def _law(self, states: Array, actions: Array) -> MixedLaw:
        x, y = states[..., 0], states[..., 1]
        drift = 3.0 * x / 5.0
        spread = 3.5 - drift
        aim = y + actions[..., 1] - 1.0 + drift
        x_next = np.clip(x + actions[..., 0], 0.0, SIZE)
        low, high = np.maximum(aim - spread, 0.0), np.minimum(aim + spread, SIZE)
        fall = np.clip((aim + spread - SIZE) / (2.0 * spread), 0.0, 1.0)
        bank = np.clip((spread - aim) / (2.0 * spread), 0.0, 1.0)
        zero = np.zeros_like(x_next)
        atoms = np.stack([np.stack([zero, zero], -1), np.stack([x_next, zero], -1)], -2)
        segment = UniformLaw(np.stack([x_next, low], -1), np.stack([x_next, high], -1))
        return MixedLaw(atoms, np.stack([fall, bank], -1), segment)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return −(5 − y')."""
        return next_states[..., 1] - SIZE

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return pairs whose next state falls, lands, or stays for certain."""
        stay = np.array([0.0, 0.0])
        return {
            "fall or not, x=1 y=4": (np.array([1.0, 4.0]), stay),
            "fall or bank, x=0 y=3": (np.array([0.0, 3.0]), stay),
            "fast water, x=4.5 y=3": (np.array([4.5, 3.0]), stay),
            "never falls, x=2.5 y=1": (np.array([2.5, 1.0]), stay),
        }

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-0.4, SIZE + 0.4), (-0.4, SIZE + 0.4))
        ax.plot([0.0, 0.0, SIZE, SIZE], [SIZE, 0.0, 0.0, SIZE], color=drawing.FAINT, linewidth=1.5)
        ax.plot([0.0, SIZE], [SIZE, SIZE], color=drawing.WALL, linewidth=4)
        ax.text(SIZE / 2, SIZE + 0.15, "waterfall", color=drawing.INK, ha="center", fontsize=9)
        drawing.draw_start(ax, 0.0, 0.0)
