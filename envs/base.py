"""What all environments of this package share: a point in the plane, goals, checks, pictures.

A subclass says where an episode starts (`_start`), how the point moves (`_advance`) and how its
map looks (`map_artist`); checking actions and start states, the trace and the frames are here.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vaerl.envs.drawing import Painter

Array = NDArray[np.float64]
Observation = NDArray[np.float32]


class Outcome(NamedTuple):
    """What one step did: its reward, the goal reached (or −1), and whether the episode ends."""

    reward: float
    goal: int = -1
    success: bool = False
    terminated: bool = False
    truncated: bool = False


class DrawnEnv(gymnasium.Env[Observation, Any]):
    """An environment whose state leaves a trace on a map, which `render` draws."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    observation_space: Box  # type: ignore[assignment]

    def __init__(
        self, observation_space: Space[Any], action_space: Space[Any], render_mode: str | None
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode={render_mode!r}; legal are None and {modes}")
        self.observation_space = observation_space  # type: ignore[assignment]
        self.action_space = action_space
        self.render_mode = render_mode
        self._state: Array = np.zeros(observation_space.shape or ())  # a Dict has no shape
        self._trace: list[tuple[float, float]] = []
        self._return = 0.0
        self._painter: Painter | None = None

    @abstractmethod
    def _make_painter(self) -> Painter:
        """Make what draws the map and the trace."""

    def _drawn(self) -> list[tuple[float, float]]:
        """Give the places a frame shows: this episode's."""
        return self._trace

    def render(self) -> NDArray[np.uint8] | None:
        """Give the map with this episode's trace as an image (480, 480, 3)."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render() draws nothing: make the env with render_mode='rgb_array'"
            )
            return None
        if not self._trace:
            raise gymnasium.error.ResetNeeded("render() needs a call of reset() before it")
        if self._painter is None:
            self._painter = self._make_painter()
        caption = f"step {len(self._trace) - 1}    return {self._return:.2f}"
        return self._painter.frame(self._drawn(), caption)

    def close(self) -> None:
        """Let go of the picture."""
        self._painter = None


class PlanarEnv(DrawnEnv):
    """Base of the environments: the observation is the state, in float32.

    `reset(options={"state": s})` starts the episode in s. Every `info` holds `goal` (index of the
    goal reached, −1 while none is), `is_success` and `position` (2,); those of an episode's last
    step are the episode's result. Actions outside the box are clipped to it; a wrong shape or a
    NaN raises ValueError.

    Attributes:
        num_modes: how many ways of solving the task there are.
        goal_positions: (num_modes, 2), or None where modes are not places.
    """

    num_modes: int
    goal_positions: Array | None
    action_space: Box

    # What a subclass gives

    @abstractmethod
    def _start(self) -> Array:
        """Draw the start state, with `self.np_random` where it is random."""

    @abstractmethod
    def _advance(self, action: Array) -> Outcome:
        """Move `self._state` by one step under a checked, clipped action."""

    @abstractmethod
    def map_artist(self, ax: Axes) -> None:
        """Draw the static map (walls, goals) on a matplotlib Axes and set its limits."""

    @abstractmethod
    def probe_observations(self) -> dict[str, Observation]:
        """Give a few named observations at which pictures of a policy tell the most."""

    def position(self, observation: np.ndarray) -> Array:
        """Give the place (2,) on the map that an observation stands for."""
        return np.asarray(observation, dtype=np.float64)[:2].copy()

    def _check_state(self, state: Array) -> None:
        """Raise ValueError where a start state inside the observation space is not legal."""

    def _begin(self) -> None:
        """Forget what an episode keeps beside its state."""

    def _place(self) -> tuple[float, float]:
        """Give the place on the map of the present state."""
        x, y = self.position(self._state)
        return float(x), float(y)

    def _make_painter(self) -> Painter:
        from vaerl.envs.drawing import Painter

        return Painter(self.map_artist)

    # Gymnasium's interface

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"state": s}` starts it in s."""
        super().reset(seed=seed)
        given = self._state_option(options)
        self._begin()
        self._state = self._start() if given is None else given
        self._trace = [self._place()]
        self._return = 0.0
        return self._observe(), self._info(Outcome(0.0))

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move by one step; raises ValueError on an action of wrong shape or with NaN."""
        if not self._trace:
            raise gymnasium.error.ResetNeeded("step() needs a call of reset() before it")
        outcome = self._advance(self._check_action(action))
        self._trace.append(self._place())
        self._return += outcome.reward
        return (
            self._observe(),
            outcome.reward,
            outcome.terminated,
            outcome.truncated,
            self._info(outcome),
        )

    # Checks

    def _observe(self) -> Observation:
        return self._state.astype(np.float32)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "goal": outcome.goal,
            "is_success": outcome.success,
            "position": np.array(self._place()),
        }

    def _check_action(self, action: Any) -> Array:
        box = self.action_space
        value = finite_vector("action", action, box.shape)
        return np.clip(value, box.low, box.high)

    def _state_option(self, options: dict[str, Any] | None) -> Array | None:
        if not options:
            return None
        unknown = sorted(set(options) - {"state"})
        if unknown:
            raise ValueError(f"options has the unknown entry {unknown[0]!r}; legal is 'state'")
        box = self.observation_space
        state = finite_vector("options['state']", options["state"], box.shape)
        if not np.all((state >= box.low) & (state <= box.high)):
            low, high = box.low.tolist(), box.high.tolist()
            raise ValueError(f"options['state']={state.tolist()} must lie between {low} and {high}")
        self._check_state(state)
        return state


def finite_vector(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Give `value` as a float64 array of this shape; one clear ValueError where it is not one.

    >>> finite_vector("action", [0, 1], (2,))
    array([0., 1.])
    >>> finite_vector("action", [0, float("nan")], (2,))
    Traceback (most recent call last):
    ValueError: action=[0.0, nan] must be finite
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r} must be an array of {shape} numbers") from None
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; legal is {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}={array.tolist()} must be finite")
    return array


def one_of(name: str, value: str, legal: Iterable[str]) -> str:
    """Give `value` if it is legal, else raise ValueError with the nearest legal one.

    >>> one_of("maze", "hrad", ("simple", "medium", "hard"))
    Traceback (most recent call last):
    ValueError: maze='hrad' is unknown; did you mean 'hard'? Legal: simple, medium, hard
    """
    names = list(legal)
    if value in names:
        return value
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"{name}={value!r} is unknown{hint} Legal: {', '.join(names)}")


def kept_goals(removed_goals: Sequence[int], num_goals: int) -> NDArray[np.int64]:
    """Give the indices of the goals that stay; at least one must.

    Indices keep their meaning when goals go: goal 3 is goal 3 whether goal 0 is there or not.

    >>> kept_goals((0, 2), 4)
    array([1, 3])
    """
    bad = [g for g in removed_goals if not (isinstance(g, int | np.integer) and 0 <= g < num_goals)]
    if bad:
        raise ValueError(f"removed_goals holds {bad[0]!r}; legal are 0 to {num_goals - 1}")
    if len(set(removed_goals)) == num_goals:
        raise ValueError(f"removed_goals={tuple(removed_goals)} leaves none of {num_goals} goals")
    return np.array([g for g in range(num_goals) if g not in set(removed_goals)], dtype=np.int64)
