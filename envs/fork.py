"""Fork: a sure small reward against a gamble that only looks good on average.

    action 0, safe:   y = 2,                                     r = .20
    action 1, risky:  y ~ ½ N(1, .05²) + ½ N(−1, .05²),          r = exp(−(y / .25)² / 2)

The risky action pays only near y = 0, where no outcome falls, so its value is .00045. A Gaussian
with the right moments expects .242 and a mean model 1, so both choose it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from vaerl.envs.base import Array
from vaerl.envs.known_law import KnownLawEnv, namespace
from vaerl.envs.laws import MixedLaw, MixtureLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAFE, RISKY = 0, 1
SAFE_PLACE, SAFE_REWARD = 2.0, 0.2
STD = 0.05
WIDTH = 0.25  # of the region around 0 that pays


class ForkEnv(KnownLawEnv):
    """One state, one step, two actions: an analytic unit test of planning.

    Observation: 0 at the start, then y. Action: 0 safe, 1 risky. Terminates after the step.

    >>> env = ForkEnv()
    >>> steps = env.step_batch([0.0], [0, 1, 1], np.random.default_rng(0))
    >>> steps.next_states[:, 0].round(2).tolist(), steps.rewards.round(3).tolist()
    ([2.0, -0.95, -1.04], [0.2, 0.001, 0.0])
    """

    _one_step = True
    _legal_states = "0"

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(Box(-3.0, 3.0, (1,), np.float32), Discrete(2), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return np.zeros((count, 1))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw the one state and either action."""
        return self.start_states(count, rng), rng.integers(2, size=count)

    def legal(self, states: Array) -> NDArray[np.bool_]:
        return states[..., 0] == 0.0

    def _law(self, states: Array, actions: NDArray) -> MixedLaw:
        batch = actions.shape
        means = np.broadcast_to([[1.0], [-1.0]], (*batch, 2, 1))
        risky = MixtureLaw(np.full((*batch, 2), 0.5), means, STD)
        safe = (actions == SAFE).astype(np.float64)[..., None]
        return MixedLaw(np.full((*batch, 1, 1), SAFE_PLACE), safe, risky)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return .20 for the safe action, exp(−(y/.25)²/2) for the risky one."""
        gamble = namespace(next_states).exp(-0.5 * (next_states[..., 0] / WIDTH) ** 2)
        safe = 1.0 * (actions == SAFE)
        return safe * SAFE_REWARD + (1.0 - safe) * gamble

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return both actions."""
        return {"safe": (np.zeros(1), SAFE), "risky": (np.zeros(1), RISKY)}

    def _place(self) -> tuple[float, float]:
        """Return (y, reward); before the step the point lies below the picture."""
        if not self._trace:
            return 0.0, -9.0
        y = float(self._state[0])
        pays = SAFE_REWARD if y == SAFE_PLACE else math.exp(-0.5 * (y / WIDTH) ** 2)
        return y, pays

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-2.6, 2.6), (-0.4, 1.2))
        ax.set_aspect("auto")
        y = np.linspace(-2.6, 2.6, 261)
        ax.plot(y, np.exp(-0.5 * (y / WIDTH) ** 2), color=drawing.FAINT, linewidth=3)
        ax.text(0.0, 1.05, "what the gamble pays", color=drawing.INK, ha="center", fontsize=9)
        ax.text(SAFE_PLACE, SAFE_REWARD + 0.05, "safe", color=drawing.INK, ha="center", fontsize=9)
