"""Pendulum-v1 with noise whose law is known: random pushes, or hidden friction.

    RandomPush:      ω' = clip(ω + (15 sin θ + 3(u + 6B))·.05, ±8) + .02ξ,   B = 0 (.9), ±1 (.05)
    HiddenFriction:  ω' = clip(ω + (15 sin θ + 3u − cω)·.05, ±8) + .02ξ,     c ∈ {0, .5} fair

with θ' = θ + .05ω', ξ ~ N(0, 1); c is drawn once per episode. Observation (cos θ, sin θ, ω), torque
u ∈ [−2, 2], reward −(θ² + .1ω² + .001u²) before the step, start θ ~ U(−π, π), ω ~ U(−1, 1): all as
in Gymnasium's Pendulum-v1. What is random is ω', the scored coordinate; the rest follows from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from vaerl.envs.base import Array, Outcome
from vaerl.envs.known_law import KnownLawEnv, Steps, namespace
from vaerl.envs.laws import MixtureLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DT = 0.05
MAX_TORQUE = 2.0
MAX_SPEED = 8.0
NOISE = 0.02  # of ω'; it comes after the clip, so |ω| may exceed 8 a little
PUSH = 6.0  # torque of a push
PUSH_CHANCES = (0.9, 0.05, 0.05)  # B = 0, 1, −1
FRICTIONS = (0.0, 0.5)


class _NoisyPendulumEnv(KnownLawEnv):
    """Shared by both: observation, reward, start, and θ' from ω'."""

    scored = (2,)
    _legal_states = "on the circle cos² + sin² = 1"

    def __init__(self, *, render_mode: str | None = None) -> None:
        high = np.array([1.0, 1.0, MAX_SPEED + 50 * NOISE], dtype=np.float32)
        torque = Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(Box(-high, high), torque, render_mode)

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        theta, omega = rng.uniform([-np.pi, -1.0], [np.pi, 1.0], (count, 2)).T
        return np.stack([np.cos(theta), np.sin(theta), omega], -1)

    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw angle, torque and ω ∈ [−6, 6] uniformly."""
        states = self.start_states(count, rng)
        states[:, 2] = rng.uniform(-6.0, 6.0, count)
        return states, rng.uniform(-MAX_TORQUE, MAX_TORQUE, (count, 1))

    def legal(self, states: Array) -> NDArray[np.bool_]:
        return np.abs(np.square(states[..., :2]).sum(axis=-1) - 1.0) < 1e-3

    def _normal_law(
        self, states: Array, actions: Array, weights: Array, acceleration: Array
    ) -> MixtureLaw:
        """Return the mixture over ω' for weights and extra accelerations (*batch, K)."""
        pull = 15.0 * states[..., 1] + 3.0 * actions[..., 0]
        speed = states[..., 2, None] + (pull[..., None] + acceleration) * DT
        return MixtureLaw(
            np.broadcast_to(weights, speed.shape),
            np.clip(speed, -MAX_SPEED, MAX_SPEED)[..., None],
            NOISE,
            scored=self.scored,
            complete=lambda values: self.complete(states, actions, values),
        )

    def complete(self, states: Any, actions: Any, scored_values: Any) -> Any:
        """Turn ω' (…, 1) into (cos θ', sin θ', ω'), θ' = θ + .05ω'."""
        xp = namespace(scored_values)
        speed = scored_values[..., 0]
        theta = xp.arctan2(states[..., 1], states[..., 0]) + DT * speed
        return xp.stack([xp.cos(theta), xp.sin(theta), speed], -1)

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return −(θ² + .1ω² + .001u²) of the state before the step, θ ∈ [−π, π]."""
        theta = namespace(states).arctan2(states[..., 1], states[..., 0])
        return -(theta**2 + 0.1 * states[..., 2] ** 2 + 0.001 * actions[..., 0] ** 2)

    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return the pole up at rest, hanging and moving, and at the clip of ω."""
        idle = np.zeros(1)
        return {
            "up, at rest": (np.array([1.0, 0.0, 0.0]), idle),
            "level, ω=3": (np.array([0.0, 1.0, 3.0]), idle),
            "hanging, ω=-5": (np.array([-1.0, 0.0, -5.0]), idle),
            "at the clip, ω=7.5": (np.array([0.0, 1.0, 7.5]), idle),
        }

    def _place(self) -> tuple[float, float]:
        """Return the tip of the pole; θ = 0 is up, and θ grows to the left as in Pendulum-v1."""
        return -float(self._state[1]), float(self._state[0])

    def _drawn(self) -> list[tuple[float, float]]:
        """Show the pole."""
        return [(0.0, 0.0), self._place()]

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-1.2, 1.2), (-1.2, 1.2))
        turn = np.linspace(0.0, 2.0 * np.pi, 100)
        ax.plot(np.cos(turn), np.sin(turn), color=drawing.FAINT, linewidth=1)
        ax.plot([0.0], [1.0], marker="+", color=drawing.INK, markersize=9)


class RandomPushEnv(_NoisyPendulumEnv):
    """A pendulum that gets a hard push, left or right, in one step of ten.

    The law of ω' is a mixture of three Gaussians .9 apart (closer at the clip): entropy −2.0987
    away from the clip, .165 for the Gaussian with the same moments.

    >>> law = RandomPushEnv().transition_distribution([1.0, 0.0, 0.0], [0.0])
    >>> law.means[:, 0].round(3).tolist(), law.weights.tolist()
    ([0.0, 0.9, -0.9], [0.9, 0.05, 0.05])
    """

    def _law(self, states: Array, actions: Array) -> MixtureLaw:
        pushes = 3.0 * PUSH * np.array([0.0, 1.0, -1.0])
        return self._normal_law(states, actions, np.array(PUSH_CHANCES), pushes)


class HiddenFrictionEnv(_NoisyPendulumEnv):
    """A pendulum whose friction c ∈ {0, .5} is drawn once per episode and never shown.

    Without the past, ω' follows an equal mixture of two Gaussians; with it, one whose weight is the
    chance of friction given the episode so far, which `friction_chance` updates step by step.
    `info["friction"]` tells c, for scoring only.

    >>> env = HiddenFrictionEnv()
    >>> law = env.transition_distribution([1.0, 0.0, 4.0], [0.0], chance=0.25)
    >>> law.means[:, 0].round(3).tolist(), law.weights.tolist()
    ([4.0, 3.9], [0.75, 0.25])
    """

    _friction = FRICTIONS[0]

    def transition_distribution(
        self, state: Any, action: Any, *, chance: ArrayLike = 0.5
    ) -> MixtureLaw:
        """Return p(s' | s, a) for this chance of friction, (*batch,) or one for all."""
        states, actions = self._check_pairs(state, action)
        likely = _of_batch("chance", chance, states.shape[:-1])
        if not ((likely >= 0.0) & (likely <= 1.0)).all():
            raise ValueError(f"chance: got {chance!r}, expected 0 to 1")
        return self._mixture(states, actions, likely)

    def friction_chance(
        self, chance: ArrayLike, states: Any, actions: Any, next_states: Any
    ) -> Array:
        """Update the chance (*batch,) of c = .5 by one transition (Bayes' rule)."""
        states, actions = self._check_pairs(states, actions)
        without, with_it = (
            self._mixture(states, actions, np.array(c)).log_prob(next_states) for c in (0.0, 1.0)
        )
        prior = _of_batch("chance", chance, states.shape[:-1])
        odds = np.exp(np.clip(without - with_it, -700.0, 700.0))
        return prior / (prior + (1.0 - prior) * odds)

    def step_batch(
        self, states: Any, actions: Any, rng: np.random.Generator, friction: ArrayLike | None = None
    ) -> Steps:
        """Draw one step for every pair; `friction` (*batch,) holds each one's c, else drawn."""
        states, actions = self._check_pairs(states, actions)
        if friction is None:
            friction = rng.choice(FRICTIONS, size=states.shape[:-1])
        held = _of_batch("friction", friction, states.shape[:-1])
        if not np.isin(held, FRICTIONS).all():
            raise ValueError(f"friction: got {friction!r}, expected {FRICTIONS}")
        law = self._mixture(states, actions, held / FRICTIONS[1])
        return self._steps(states, actions, law.sample(1, rng)[0])

    def hidden_batch(self, count: int, rng: np.random.Generator) -> dict[str, Array]:
        """Draw the friction (count,) of as many episodes."""
        return {"friction": rng.choice(FRICTIONS, size=count)}

    def _mixture(self, states: Array, actions: Array, chance: NDArray) -> MixtureLaw:
        drag = -np.array(FRICTIONS) * states[..., 2, None]
        chance = np.broadcast_to(chance, states.shape[:-1])
        return self._normal_law(states, actions, np.stack([1.0 - chance, chance], -1), drag)

    def _law(self, states: Array, actions: Array) -> MixtureLaw:
        return self._mixture(states, actions, np.array(0.5))

    def _next_states(self, states: Array, actions: NDArray, rng: np.random.Generator) -> Array:
        """Draw the next state of this environment's own episode, with its friction."""
        return self.step_batch(states, actions, rng, self._friction).next_states

    def _begin(self) -> None:
        self._friction = float(self.np_random.choice(FRICTIONS))

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {"friction": self._friction}


def _of_batch(name: str, value: ArrayLike, batch: tuple[int, ...]) -> Array:
    """Return a number for each pair of a batch, or raise a ValueError."""
    try:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), batch)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: got {value!r}, expected a number, or one for each of the batch {batch}"
        ) from None
