"""Base of the environments for dynamics and planning: their law p(s' | s, a) is known.

A subclass defines the law once (`_law`); steps, batches of steps and scores all come from it. The
observation is the state. A planner that uses the true simulator as its model needs:

    next_states, rewards, terminated = env.step_batch(states, actions, rng)

and one that uses a learned model takes `env.reward` and `env.terminated`, which accept NumPy
arrays and torch tensors alike. Shapes: states `(*batch, D)`; actions `(*batch, A)`, or integers
`(*batch,)` where they are discrete; rewards and ends `(*batch,)`.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from vaerl.envs.base import Array, Observation, Outcome, StateEnv
from vaerl.envs.laws import Law


class Steps(NamedTuple):
    """A batch of steps: next states (*batch, D), rewards (*batch,), ends (*batch,)."""

    next_states: Array
    rewards: Array
    terminated: NDArray[np.bool_]


class BatchEnv(StateEnv):
    """Base of the environments with `step_batch`, which takes checked pairs."""

    _legal_states = "finite numbers"  # what `legal` asks for, in words

    @abstractmethod
    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        """Draw start states (count, D)."""

    def legal(self, states: Array) -> NDArray[np.bool_]:
        """Return whether a step can start from each of the states (*batch, D)."""
        return np.ones(states.shape[:-1], dtype=np.bool_)

    def _start(self) -> Array:
        return self.start_states(1, self.np_random)[0]

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {}

    def _check_pairs(self, states: Any, actions: Any) -> tuple[Array, NDArray]:
        """Return states (*batch, D) and actions (*batch, …) of one batch, finite and legal."""
        states = _finite_batch("states", states, self.observation_space.shape)
        legal = self.legal(states)
        if not legal.all():
            first = states[~legal].reshape(-1, states.shape[-1])[0].tolist()
            raise ValueError(f"states: got {first}, expected {self._legal_states}")
        space = self.action_space
        actions = _finite_batch("actions", actions, space.shape or ())
        if isinstance(space, Discrete):
            whole = actions.astype(np.int64)
            bad = (whole != actions) | (whole < 0) | (whole >= space.n)
            if bad.any():
                first = actions[bad].ravel()[0].item()
                raise ValueError(f"actions: got {first!r}, expected 0 to {int(space.n) - 1}")
            actions = whole
        else:
            actions = np.clip(actions, space.low, space.high)
        event = actions.ndim - len(space.shape or ())
        try:
            batch = np.broadcast_shapes(states.shape[:-1], actions.shape[:event])
        except ValueError:
            raise ValueError(
                f"actions: got shape {actions.shape}, expected the batch of states {states.shape}"
            ) from None
        return (
            np.broadcast_to(states, (*batch, states.shape[-1])),
            np.broadcast_to(actions, batch + actions.shape[event:]),
        )

    def _check_state(self, state: Array) -> None:
        if not self.legal(state):
            raise ValueError(
                f"options['state']: got {state.tolist()}, expected {self._legal_states}"
            )


class KnownLawEnv(BatchEnv):
    """Base of the environments with a known law.

    Attributes:
        scored: coordinates of s' that the law describes; `complete` computes the others.
    """

    scored: tuple[int, ...]

    def __init__(
        self, observation_space: Box, action_space: Box | Discrete, render_mode: str | None
    ) -> None:
        super().__init__(observation_space, action_space, render_mode)
        if not hasattr(self, "scored"):
            self.scored = tuple(range(observation_space.shape[0]))

    # What a subclass gives

    @abstractmethod
    def random_pairs(self, count: int, rng: np.random.Generator) -> tuple[Array, NDArray]:
        """Draw states (count, D) and actions from the law under which scores are stated."""

    @abstractmethod
    def _law(self, states: Array, actions: NDArray) -> Law:
        """Return the law for checked states and actions of one batch."""

    @abstractmethod
    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return the rewards (*batch,); NumPy arrays or torch tensors, like the arguments."""

    @abstractmethod
    def probe_pairs(self) -> dict[str, tuple[Array, Any]]:
        """Return named pairs (state, action) at which the law is most informative."""

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return whether the episode ends (*batch,)."""
        return namespace(next_states).full_like(next_states[..., 0], self._one_step) > 0.0

    def complete(self, states: Any, actions: Any, scored_values: Any) -> Any:
        """Turn scored coordinates (…, S) of the next state into next states (…, D)."""
        return scored_values

    def hidden_batch(self, count: int, rng: np.random.Generator) -> dict[str, Array]:
        """Draw the hidden quantities of `count` episodes, as arguments of `step_batch`."""
        return {}

    # The law and batches of steps

    def transition_distribution(self, state: Any, action: Any) -> Law:
        """Return p(s' | s, a) for one pair or a batch; raise ValueError if they do not fit."""
        return self._law(*self._check_pairs(state, action))

    def step_batch(self, states: Any, actions: Any, rng: np.random.Generator) -> Steps:
        """Draw one step of the true dynamics for every pair of a batch.

        A state (D,) with many actions, or the reverse, is repeated. Time limits are not counted.
        """
        states, actions = self._check_pairs(states, actions)
        return self._steps(states, actions, self._next_states(states, actions, rng))

    def _next_states(self, states: Array, actions: NDArray, rng: np.random.Generator) -> Array:
        return self._law(states, actions).sample(1, rng)[0]

    def _steps(self, states: Array, actions: NDArray, next_states: Array) -> Steps:
        reward = np.asarray(self.reward(states, actions, next_states), dtype=np.float64)
        ends = np.asarray(self.terminated(states, actions, next_states), dtype=np.bool_)
        return Steps(next_states, reward, ends)

    def probe_observations(self) -> dict[str, Observation]:
        """Return the different states of `probe_pairs` as observations."""
        kept: dict[bytes, tuple[str, Observation]] = {}
        for name, (state, _) in self.probe_pairs().items():
            observation = state.astype(np.float32)
            kept.setdefault(observation.tobytes(), (name, observation))
        return dict(kept.values())

    # One step of the environment

    def _advance(self, action: NDArray) -> Outcome:
        after = self._next_states(self._state, action, self.np_random)
        steps = self._steps(self._state, action, after)
        self._state = after
        return Outcome(float(steps.rewards), terminated=bool(steps.terminated))


def namespace(array: Any) -> ModuleType:
    """Return the module whose functions fit the array: torch for a tensor, else NumPy.

    >>> namespace(np.zeros(2)).__name__
    'numpy'
    """
    is_tensor = type(array).__module__.split(".")[0] == "torch"
    return sys.modules["torch"] if is_tensor else np


def _finite_batch(name: str, value: Any, event: tuple[int, ...]) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {type(value).__name__}, expected an array") from None
    if array.ndim < len(event) or array.shape[array.ndim - len(event) :] != event:
        shown = ", ".join(["…", *map(str, event)])
        raise ValueError(f"{name}: got shape {array.shape}, expected ({shown})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got NaN or infinity, expected finite numbers")
    return array
