"""CurrencyExchange: change money into another currency while the rate wanders.

    m' = m (1 − clip(a, 0, 1)),   p' = clip(p + .05 (1.5 − p) + .2 ξ, 0, 5),   r = (m − m') p

with ξ ~ N(0, 1); p₀ ~ N(1, .05²), m₀ = 100. The episode ends after 20 steps, or with m' < .1; what
is left then is lost. The rate is expected to rise, but less and less surely: a plan for the mean
waits, one for the worst outcomes sells.

Source: Rigter, Lacerda & Hawes 2023, marc-rigter/1R2R.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv, namespace
from vaerl.envs.laws import ClippedLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

STEPS = 20
MONEY = 100.0  # at the start
LEAST = 0.1  # money with which the episode goes on
RATE = 1.5  # that the price is drawn to
PULL, NOISE = 0.05, 0.2  # share of the way in a step; standard deviation
START, START_NOISE = 1.0, 0.05
HIGHEST = 5.0


class CurrencyExchangeEnv(KnownLawEnv):
    """Sell money at a rate that wanders.

    Observation: (t, m, p), the step 0 to 20, the money 0 to 100 and the rate 0 to 5. Action:
    the share a ∈ [−1, 1] of the money that is sold; below 0 none is. What is random is p', the
    scored coordinate: a Gaussian with atoms at 0 and 5.

    >>> env = CurrencyExchangeEnv()
    >>> law = env.transition_distribution([3.0, 80.0, 1.0], [0.25])
    >>> law.mean().round(3).tolist(), law.sample(1, np.random.default_rng(0))[0].round(3).tolist()
    ([1.025], [4.0, 60.0, 1.05])
    """

    scored = (2,)
    _legal_states = f"a whole step t, 0 to {STEPS - 1}, and money m from {LEAST}"

    def __init__(self, *, render_mode: str | None = None) -> None:
        high = np.array([STEPS, MONEY, HIGHEST], dtype=np.float32)
        super().__init__(
            Box(np.zeros(3, np.float32), high), Box(-1.0, 1.0, (1,), np.float32), render_mode
        )

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        rates = START + START_NOISE * rng.standard_normal(count)
        return np.stack([np.zeros(count), np.full(count, MONEY), rates], -1)

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw step, money, rate up to 3, and action uniformly."""
        steps = rng.integers(STEPS, size=count)
        others = rng.uniform([LEAST, 0.0], [MONEY, 3.0], (count, 2))
        return np.column_stack([steps, others]), rng.uniform(-1.0, 1.0, (count, 1))

    def legal(self, states: Array) -> NDArray[np.bool_]:
        time = states[..., 0]
        runs = (time == np.rint(time)) & (time >= 0.0) & (time < STEPS)
        return runs & (states[..., 1] >= LEAST)

    def _law(self, states: Array, actions: Array) -> ClippedLaw:
        rate = states[..., 2:]
        return ClippedLaw(
            rate + PULL * (RATE - rate),
            NOISE,
            0.0,
            HIGHEST,
            scored=self.scored,
            complete=lambda values: self.complete(states, actions, values),
        )

    def complete(self, states: Any, actions: Any, scored_values: Any) -> Any:
        """Turn p' (…, 1) into (t + 1, m', p')."""
        xp = namespace(scored_values)
        rate = scored_values[..., 0]
        left = states[..., 1] * (1.0 - xp.clip(actions[..., 0], 0.0, 1.0))
        return xp.stack([states[..., 0] + 1.0 + 0.0 * rate, left + 0.0 * rate, rate], -1)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return (m − m') p, what the money sold brings."""
        return (states[..., 1] - next_states[..., 1]) * states[..., 2]

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return whether all steps are done, or hardly any money is left."""
        return (next_states[..., 0] > STEPS - 0.5) | (next_states[..., 1] < LEAST)

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return the start, and both atoms."""
        wait = np.array([-1.0])
        return {
            "start, sell half": (np.array([0.0, MONEY, START]), np.array([0.5])),
            "rate near 0": (np.array([10.0, MONEY, 0.1]), wait),
            "rate near 5": (np.array([10.0, MONEY, 4.9]), wait),
        }

    def _place(self) -> tuple[float, float]:
        """Return step and rate."""
        return float(self._state[0]), float(self._state[2])

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-1.0, STEPS + 1.0), (-0.1, 3.1))
        ax.set_aspect("auto")
        ax.axhline(RATE, color=drawing.FAINT, linewidth=1.5)
        ax.axhline(0.0, color=drawing.WALL, linewidth=2)
