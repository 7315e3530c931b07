"""Shared by the environments: a point on a map, checks of actions and states, pictures.

`DrawnEnv` steps and draws; in a `StateEnv` the observation is the state, and `reset` takes one;
`PlanarEnv` has goals. A subclass defines where an episode starts (`_start`), how the point moves
(`_advance`) and how its map looks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from numpy.typing import NDArray

from vaerl.names import check_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vaerl.envs.drawing import Painter

Array = NDArray[np.float64]
Observation = NDArray[np.float32]


class Outcome(NamedTuple):
    """One step: its reward, the goal reached (or −1), and whether the episode ends."""

    reward: float
    goal: int = -1
    success: bool = False
    terminated: bool = False
    truncated: bool = False


class DrawnEnv(gymnasium.Env[Observation, Any]):
    """An environment whose state leaves a trace on a map, which `render` draws.

    Actions outside a box are clipped to it; a wrong shape, NaN, or an unknown discrete action
    raises ValueError.

    An environment with an expert has a method ``expert(rng, episode)``. It is called after the
    reset of an episode, with a generator and the episode's number, and gives a function from
    observation to action.

    Attributes:
        vaerl_interface: declares that the attributes and keys of `info` that vaerl reads mean here
            what they mean there: evaluation_episodes, num_modes, map_artist, probe_observations,
            expert, expert_noise; goal, position. Those of other environments are not read.
        evaluation_episodes: that an evaluation takes, during training and at its end.
        expert_noise: standard deviation of the noise on the actions that are carried out when the
            expert is recorded, as a number or for each dimension (DART, Laskey et al. 2017). The
            data then shows how to come back to the way; the recorded actions are the expert's own.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    vaerl_interface: ClassVar[bool] = True
    evaluation_episodes: ClassVar[tuple[int, int]] = (20, 200)
    expert_noise: ClassVar[float | Array] = 0.0

    observation_space: Box  # type: ignore[assignment]
    action_space: Box | Discrete
    _joined: ClassVar[bool] = True
    """Whether a line joins the points of the trace."""
    _one_step: ClassVar[bool] = False
    """Whether episodes end with their first step; a frame then shows the last 500 outcomes."""

    def __init__(
        self, observation_space: Space[Any], action_space: Space[Any], render_mode: str | None
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode: got {render_mode!r}, expected None or one of {modes}")
        self.observation_space = observation_space  # type: ignore[assignment]
        self.action_space = action_space  # type: ignore[assignment]
        self.render_mode = render_mode
        self._state: Array = np.zeros(observation_space.shape or ())  # a Dict has no shape
        self._trace: list[tuple[float, float]] = []
        self._outcomes: list[tuple[float, float]] = []
        self._return = 0.0
        self._painter: Painter | None = None

    # What a subclass gives

    @abstractmethod
    def _advance(self, action: Any) -> Outcome:
        """Move `self._state` by one step under a checked action."""

    @abstractmethod
    def _observe(self) -> Any:
        """Return the observation of the current state."""

    @abstractmethod
    def _info(self, outcome: Outcome) -> dict[str, Any]:
        """Return the step's `info`."""

    @abstractmethod
    def _draw_map(self, ax: Axes) -> None:
        """Draw the static map on a matplotlib Axes and set its limits."""

    def _place(self) -> tuple[float, float]:
        """Return the point that the current state adds to the trace (empty at the start)."""
        return float(self._state[0]), float(self._state[1])

    def _drawn(self) -> list[tuple[float, float]]:
        """Return the points that a frame shows."""
        return self._outcomes or self._trace

    # Gymnasium's interface

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move by one step; raises ValueError for an illegal action."""
        if not self._trace:
            raise gymnasium.error.ResetNeeded("step() needs a call of reset() before it")
        outcome = self._advance(self._check_action(action))
        self._trace.append(self._place())
        if self._one_step:
            self._outcomes = [*self._outcomes[-499:], self._trace[-1]]
        self._return += outcome.reward
        ends = outcome.terminated, outcome.truncated
        return self._observe(), outcome.reward, *ends, self._info(outcome)

    def _begin_trace(self) -> None:
        """Start the picture of an episode at the current state."""
        self._trace = []
        self._trace = [self._place()]
        self._return = 0.0

    def _check_action(self, action: Any) -> NDArray:
        space = self.action_space
        if isinstance(space, Box):
            return np.clip(finite_vector("action", action, space.shape), space.low, space.high)
        value = finite_vector("action", action, ())
        if float(value) not in range(int(space.n)):
            raise ValueError(f"action: got {action!r}, expected 0 to {int(space.n) - 1}")
        return value.astype(np.int64)

    def render(self) -> NDArray[np.uint8] | None:
        """Return the map with this episode's trace as an image (480, 480, 3)."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render() draws nothing: make the env with render_mode='rgb_array'"
            )
            return None
        if not self._trace:
            raise gymnasium.error.ResetNeeded("render() needs a call of reset() before it")
        if self._painter is None:
            from vaerl.envs.drawing import Painter  # loads matplotlib

            self._painter = Painter(self._draw_map, joined=self._joined and not self._one_step)
        caption = f"step {len(self._trace) - 1}    return {self._return:.2f}"
        return self._painter.frame(self._drawn(), caption)

    def close(self) -> None:
        """Release the picture."""
        self._painter = None


class StateEnv(DrawnEnv):
    """An environment whose observation is the state, in float32.

    `reset(options={"state": s})` starts the episode in s.
    """

    @abstractmethod
    def _start(self) -> Array:
        """Draw the start state, with `self.np_random` where it is random."""

    def _check_state(self, state: Array) -> None:
        """Raise ValueError if a start state inside the observation space is not legal."""

    def _begin(self) -> None:
        """Reset the quantities that an episode keeps besides its state."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"state": s}` starts it in s."""
        super().reset(seed=seed)
        given = self._state_option(options)
        self._begin()
        self._state = self._start() if given is None else given
        self._begin_trace()
        return self._observe(), self._info(Outcome(0.0))

    def _observe(self) -> Observation:
        return self._state.astype(np.float32)

    def _state_option(self, options: dict[str, Any] | None) -> Array | None:
        if not options:
            return None
        for name in options:
            check_name("options", name, ("state",))
        box = self.observation_space
        state = finite_vector("options['state']", options["state"], box.shape)
        if not np.all((state >= box.low) & (state <= box.high)):
            low, high = box.low.tolist(), box.high.tolist()
            raise ValueError(
                f"options['state']: got {state.tolist()}, expected between {low} and {high}"
            )
        self._check_state(state)
        return state


class PlanarEnv(StateEnv):
    """Base of the tasks with several ways to a goal.

    Every `info` holds `goal` (index of the goal reached, else −1), `is_success` and
    `position` (2,); those of an episode's last step are the episode's result.

    Attributes:
        num_modes: how many ways of solving the task there are.
        goal_positions: (num_modes, 2), or None where modes are not places.
    """

    num_modes: int
    goal_positions: Array | None
    action_space: Box

    @abstractmethod
    def map_artist(self, ax: Axes) -> None:
        """Draw the static map (walls, goals) on a matplotlib Axes and set its limits."""

    @abstractmethod
    def probe_observations(self) -> dict[str, Observation]:
        """Return a few named observations at which pictures of a policy are most informative."""

    def position(self, observation: np.ndarray) -> Array:
        """Return the position (2,) on the map of an observation."""
        return np.asarray(observation, dtype=np.float64)[:2].copy()

    def _place(self) -> tuple[float, float]:
        x, y = self.position(self._state)
        return float(x), float(y)

    def _draw_map(self, ax: Axes) -> None:
        self.map_artist(ax)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "goal": outcome.goal,
            "is_success": outcome.success,
            "position": np.array(self._place()),
        }


def finite_vector(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return `value` as a float64 array of this shape, or raise a ValueError.

    >>> finite_vector("action", [0, 1], (2,))
    array([0., 1.])
    >>> finite_vector("action", [0, float("nan")], (2,))
    Traceback (most recent call last):
    ValueError: action: got [0.0, nan], expected finite numbers
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {value!r}, expected numbers of shape {shape}") from None
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got {array.tolist()}, expected finite numbers")
    return array


def positive_number(name: str, value: Any) -> float:
    """Return a positive finite number as a float, or raise a ValueError.

    >>> positive_number("sigma", "a")
    Traceback (most recent call last):
    ValueError: sigma: got 'a', expected a positive finite number
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0.0 < value < np.inf:
        raise ValueError(f"{name}: got {value!r}, expected a positive finite number")
    return float(value)


def kept_goals(removed_goals: Sequence[int], num_goals: int) -> NDArray[np.int64]:
    """Return the indices of the goals that remain; at least one must.

    Indices keep their meaning: goal 3 is goal 3 whether goal 0 is removed or not.

    >>> kept_goals((0, 2), 4)
    array([1, 3])
    """
    bad = [g for g in removed_goals if not (isinstance(g, int | np.integer) and 0 <= g < num_goals)]
    if bad:
        raise ValueError(f"removed_goals: got {bad[0]!r}, expected 0 to {num_goals - 1}")
    if len(set(removed_goals)) == num_goals:
        raise ValueError(f"removed_goals: got all {num_goals} goals, expected one to stay")
    return np.array([g for g in range(num_goals) if g not in set(removed_goals)], dtype=np.int64)


def standing_obstacles(
    obstacles: bool | Sequence[int], standard: Sequence[int], count: int
) -> tuple[int, ...]:
    """Return the indices of the obstacles that stand: those given, or `standard` for True.

    >>> standing_obstacles(True, (0, 1), 4), standing_obstacles([3], (0, 1), 4)
    ((0, 1), (3,))
    """
    if isinstance(obstacles, bool | np.bool_):
        return tuple(standard) if obstacles else ()
    for index in obstacles:
        if index not in range(count):
            raise ValueError(f"obstacles: got {index!r}, expected 0 to {count - 1}")
    return tuple(obstacles)
