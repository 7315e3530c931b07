"""Acrobot in raw angles: their jump from π to −π makes it hard to learn.

State (θ₁, θ₂, ω₁, ω₂), angles wrapped to [−π, π]; Gymnasium's "book" equations, one Runge–Kutta
step of .2 s; |ω₁| ≤ 4π, |ω₂| ≤ 9π; torque −1, 0 or 1; start U(−.1, .1)⁴.

    r = 2 − cos θ₁' − cos(θ₁' + θ₂') ∈ [0, 4]

The true law is deterministic. Only a learned model is bimodal at the wrap, since it cannot know on
which side the next angle falls. So planning is scored, not the NLL.
Source: Kegl, Hurtado & Thomas 2021, ramp-kits/rl_simulator.
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DT = 0.2
MAX_SPEED = (4.0 * math.pi, 9.0 * math.pi)
_G = 9.8  # masses, lengths and inertias are 1, centres of mass lie at .5


class RawAcrobotEnv(KnownLawEnv):
    """Swing two links up and keep them there; never terminates.

    Observation: (θ₁, θ₂, ω₁, ω₂), θ = 0 hanging. Action: 0, 1, 2 for torque −1, 0, 1 on the second
    joint. Score: reward per step over 200 steps; random shooting with the true dynamics (100
    sequences, horizon 10) gets 2.127, random actions .124.

    >>> env = RawAcrobotEnv()
    >>> steps = env.step_batch([3.1, 0.0, 2.0, 0.0], [0, 1, 2], np.random.default_rng(0))
    >>> steps.next_states[:, 0].round(2).tolist(), steps.rewards.round(2).tolist()
    ([-2.76, -2.77, -2.79], [3.87, 3.87, 3.87])
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        high = np.array([math.pi, math.pi, *MAX_SPEED], dtype=np.float32)
        super().__init__(Box(-high, high), Discrete(3), render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        return rng.uniform(-0.1, 0.1, (count, 4))

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw angles, |ω₁| ≤ 4, |ω₂| ≤ 8 and the action uniformly."""
        high = np.array([math.pi, math.pi, 4.0, 8.0])
        return rng.uniform(-high, high, (count, 4)), rng.integers(3, size=count)

    def _law(self, states: Array, actions: NDArray) -> DiscreteLaw:
        support = advance(states, actions - 1.0)[..., None, :]
        return DiscreteLaw(support, np.ones(support.shape[:-1]))

    def _next_states(self, states: Array, actions: NDArray, rng: np.random.Generator) -> Array:
        return advance(states, actions - 1.0)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return the height of the tip above its lowest point, 0 to 4."""
        cos = namespace(next_states).cos
        first, second = next_states[..., 0], next_states[..., 1]
        return 2.0 - cos(first) - cos(first + second)

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return hanging at rest, and both sides of the wrap."""
        return {
            "hanging, torque 1": (np.zeros(4), 2),
            "before the wrap": (np.array([3.0, 0.2, 0.6, 0.0]), 1),
            "at the wrap": (np.array([3.1, 0.0, 0.3, 0.1]), 1),
        }

    def _place(self) -> tuple[float, float]:
        return self._drawn()[-1]

    def _drawn(self) -> list[tuple[float, float]]:
        """Show the two links."""
        first = float(self._state[0])
        both = first + float(self._state[1])
        x, y = math.sin(first), -math.cos(first)
        return [(0.0, 0.0), (x, y), (x + math.sin(both), y - math.cos(both))]

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-2.3, 2.3), (-2.3, 2.3))
        turn = np.linspace(0.0, 2.0 * np.pi, 100)
        ax.plot(2 * np.cos(turn), 2 * np.sin(turn), color=drawing.FAINT, linewidth=1)
        ax.plot([0.0], [2.0], marker="+", color=drawing.INK, markersize=9)


def advance(states: Array, torques: Array) -> Array:
    """Move states (*batch, 4) by .2 s under torques (*batch,): one Runge–Kutta step."""
    half = 0.5 * DT
    one = _slopes(states, torques)
    two = _slopes(states + half * one, torques)
    three = _slopes(states + half * two, torques)
    four = _slopes(states + DT * three, torques)
    after = states + DT / 6.0 * (one + 2.0 * two + 2.0 * three + four)
    after[..., :2] -= 2.0 * math.pi * np.rint(after[..., :2] / (2.0 * math.pi))
    after[..., 2:] = np.clip(after[..., 2:], -np.array(MAX_SPEED), MAX_SPEED)
    return after


def _slopes(states: Array, torques: Array) -> Array:
    """Return d(θ₁, θ₂, ω₁, ω₂)/dt (*batch, 4) (Sutton & Barto's equations)."""
    first, second, omega_1, omega_2 = (states[..., i] for i in range(4))
    cos, sin = np.cos(second), np.sin(second)
    d1 = 3.5 + cos  # m₁l²/4 + m₂(l² + l²/4 + l² cos θ₂) + 2I
    d2 = 1.25 + 0.5 * cos  # m₂(l²/4 + l²/2 cos θ₂) + I
    phi_2 = 0.5 * _G * np.sin(first + second)
    phi_1 = -0.5 * omega_2 * sin * (omega_2 + 2.0 * omega_1) + 1.5 * _G * np.sin(first) + phi_2
    push = torques + d2 / d1 * phi_1 - 0.5 * omega_1**2 * sin - phi_2
    bend = push / (1.25 - d2**2 / d1)
    return np.stack([omega_1, omega_2, -(d2 * bend + phi_1) / d1, bend], -1)
