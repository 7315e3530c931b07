"""Demonstrations: episodes of observations and actions, checked when they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import gymnasium
import numpy as np
from gymnasium import spaces

from vaerl.disk.errors import one_line
from vaerl.envs.making import make_env

Array = np.ndarray
Observations = Array | dict[str, Array]
"""One array, or one for each key of a Dict space; rows are steps."""


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Args:
        observations: T + 1 rows, the last one after the last action; or T rows where that one was
            not recorded.
        actions: T rows.
        rewards: ``(T,)``; zeros if None.
        terminated: whether the task ended at the last step.
        truncated: whether the episode was cut there, for example by a time limit.
        infos: numbers of each step by name, T rows each.
    """

    observations: Observations
    actions: Array
    rewards: Array | None = None
    terminated: bool = False
    truncated: bool = False
    infos: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of steps T."""
        return len(self.actions)

    @property
    def complete(self) -> bool:
        """Whether the observation after the last action is there."""
        return len(next(_parts(self.observations))[1]) == len(self) + 1


class Demonstrations(Sequence[Episode]):
    """Episodes of one task with its spaces, in memory.

    Args:
        episodes: at least one; each is checked against the spaces.
        observation_space: a Box, or a Dict of Boxes.
        action_space: a Box.
        env: Gymnasium id of the task, where there is one.
        provenance: where the data comes from, as plain data for JSON.

    Raises:
        ValueError: an episode that is empty, ragged, not finite, of another shape, or with actions
            outside the box; the line names the episode and the step.

    >>> box = spaces.Box(-1.0, 1.0, (2,))
    >>> episode = Episode(np.zeros((4, 2)), np.zeros((3, 2)))
    >>> demonstrations = Demonstrations([episode], box, box)
    >>> len(demonstrations), demonstrations.steps
    (1, 3)
    """

    def __init__(
        self,
        episodes: Iterable[Episode],
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        env: str = "",
        provenance: Mapping[str, Any] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.observation_space = check_observation_space(observation_space)
        self.action_space = check_action_space(action_space)
        self.env, self.provenance = env, dict(provenance or {})
        found = list(episodes)
        if not found:
            raise ValueError("demonstrations: got no episode, expected at least one")
        self._episodes = [
            self._checked(episode, names[i] if names else f"episode {i}")
            for i, episode in enumerate(found)
        ]

    @classmethod
    def from_arrays(
        cls,
        observations: Sequence[Any],
        actions: Sequence[Any],
        *,
        rewards: Sequence[Any] | None = None,
        env: str = "",
        observation_space: spaces.Space | None = None,
        action_space: spaces.Space | None = None,
    ) -> Demonstrations:
        """Demonstrations from one array (or dict of arrays) an episode.

        Spaces that are not given are those of `env`; without an `env`, observations are unbounded
        and the box of actions is the range of the data.
        """
        if len(observations) == 0:
            raise ValueError("demonstrations: got no episode, expected at least one")
        if len(observations) != len(actions):
            raise ValueError(
                f"actions: got {len(actions)} episodes, observations have {len(observations)}"
            )
        episodes = [
            Episode(
                _as_arrays(f"episode {i}: observations", o),
                _as_array(f"episode {i}: actions", a),
                None if r is None else _as_array(f"episode {i}: rewards", r),
            )
            for i, (o, a, r) in enumerate(
                zip(observations, actions, rewards or [None] * len(actions), strict=True)
            )
        ]
        if env and (observation_space is None or action_space is None):
            own = env_spaces(env)
            observation_space = observation_space or own[0]
            action_space = action_space or own[1]
        return cls(
            episodes,
            observation_space or infer_observation_space(episodes),
            action_space or infer_action_space(episodes),
            env=env,
        )

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> Demonstrations: ...
    def __getitem__(self, index: int | slice) -> Episode | Demonstrations:
        """An episode, or the demonstrations of a slice."""
        if isinstance(index, slice):
            return self.pick(range(len(self))[index])
        return self._episodes[index]

    def __iter__(self) -> Iterator[Episode]:
        """The episodes in order."""
        return iter(self._episodes)

    def __repr__(self) -> str:
        """Sizes and task."""
        task = f" of {self.env}" if self.env else ""
        return f"<{len(self)} demonstrations{task}, {self.steps} steps>"

    @property
    def steps(self) -> int:
        """Number of steps of all episodes."""
        return sum(map(len, self._episodes))

    def split(self, share: float, seed: int = 0) -> tuple[Demonstrations, Demonstrations | None]:
        """The rest, and a random `share` of the episodes (None where that is less than one)."""
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share: got {share!r}, expected a number from 0 to below 1")
        count = min(round(share * len(self)), len(self) - 1)
        if not count:
            return self, None
        order = np.random.default_rng(seed).permutation(len(self))
        held_out = set(order[:count].tolist())
        kept = [number for number in range(len(self)) if number not in held_out]
        return self.pick(kept), self.pick(sorted(held_out))

    def pick(
        self, numbers: Iterable[int], provenance: Mapping[str, Any] | None = None
    ) -> Demonstrations:
        """The episodes of those numbers, with the same provenance or a new one."""
        return Demonstrations(
            [self._episodes[number] for number in numbers],
            self.observation_space,
            self.action_space,
            env=self.env,
            provenance=self.provenance if provenance is None else provenance,
        )

    def _checked(self, episode: Episode, name: str) -> Episode:
        """The episode with arrays of the right types, or one line that names it."""
        space, given_actions = self.action_space, _as_array(f"{name}: actions", episode.actions)
        steps = len(given_actions) if given_actions.ndim else 0
        if not steps:
            raise ValueError(f"{name}: got no step, expected at least one")
        actions = _numbers(f"{name}: actions", given_actions, space, (steps,))
        low, high = space.low - _slack(space), space.high + _slack(space)
        outside = ((actions < low) | (actions > high)).reshape(steps, -1).any(axis=1)
        if outside.any():
            step = int(outside.argmax())
            raise ValueError(
                f"{name}, step {step}: got the action {np.round(actions[step], 4).tolist()}, "
                f"expected one within {space.low.tolist()} and {space.high.tolist()}"
            )
        rows = (steps + 1, steps)
        observations: Observations
        if isinstance(self.observation_space, spaces.Dict):
            own: dict[str, Any] = self.observation_space.spaces
            given = episode.observations
            if not isinstance(given, dict) or set(given) != set(own):
                got = sorted(given) if isinstance(given, dict) else "one array"
                raise ValueError(f"{name}: got observations {got}, expected keys {sorted(own)}")
            observations = {
                key: _numbers(f"{name}: observations[{key!r}]", given[key], box, rows)
                for key, box in own.items()
            }
            lengths = {len(array) for array in observations.values()}
            if len(lengths) > 1:
                raise ValueError(f"{name}: got observations of {sorted(lengths)} rows")
        else:
            if isinstance(episode.observations, dict):
                raise ValueError(f"{name}: got a dict of observations, expected one array")
            observations = _numbers(
                f"{name}: observations", episode.observations, self.observation_space, rows
            )
        rewards = np.zeros(steps) if episode.rewards is None else episode.rewards
        infos = {
            key: _as_array(f"{name}: infos[{key!r}]", value) for key, value in episode.infos.items()
        }
        for key, value in infos.items():
            if value.dtype == object or value.shape[:1] != (steps,):
                raise ValueError(
                    f"{name}: infos[{key!r}]: got {value.dtype} values of shape {value.shape}, "
                    f"expected plain values in {steps} rows"
                )
        return Episode(
            observations,
            np.clip(actions, space.low, space.high),
            _numbers(f"{name}: rewards", rewards, spaces.Box(-np.inf, np.inf, ()), (steps,)),
            bool(episode.terminated),
            bool(episode.truncated),
            infos,
        )


def check_observation_space(space: spaces.Space) -> spaces.Box | spaces.Dict:
    """The space if it is a Box or a Dict of Boxes, else one line."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else (space,)
    if not all(isinstance(part, spaces.Box) for part in parts):
        raise ValueError(f"observation_space: got {space}, expected a Box or a Dict of Boxes")
    return space  # type: ignore[return-value]


def check_action_space(space: spaces.Space) -> spaces.Box:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"action_space: got {space}, expected a Box of floats")
    return space


def env_spaces(
    env: str, options: Mapping[str, Any] | None = None
) -> tuple[spaces.Space, spaces.Space]:
    """Observation and action space of a Gymnasium id, made with options.

    Raises ValueError, in one line, if the environment cannot be made.
    """
    try:
        made = make_env(env, **dict(options or {}))
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(f"env {env!r} cannot be made: {one_line(error)}") from error
    try:
        return made.observation_space, made.action_space
    finally:
        made.close()


def infer_observation_space(episodes: Sequence[Episode]) -> spaces.Space:
    """Unbounded boxes of the shapes of the first episode."""
    boxes: dict[str, spaces.Space] = {
        key: spaces.Box(-np.inf, np.inf, np.shape(array)[1:], np.float32)
        for key, array in _parts(episodes[0].observations)
    }
    return spaces.Dict(boxes) if isinstance(episodes[0].observations, dict) else boxes[""]


def infer_action_space(episodes: Sequence[Episode]) -> spaces.Space:
    """The range of the actions that are there; one unit wide where they do not vary.

    Faulty episodes are left out: they are named when they are checked.
    """
    arrays = [np.asarray(episode.actions) for episode in episodes]
    arrays = [a for a in arrays if a.ndim and len(a) and a.dtype.kind in "fiub"]
    alike = [a for a in arrays if a.shape[1:] == arrays[0].shape[1:]]
    rows = np.concatenate(alike or [np.zeros((1, 1))]).astype(np.float32)
    finite = np.where(np.isfinite(rows), rows, 0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    flat = high <= low
    return spaces.Box(np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high))


def _parts(observations: Observations) -> Iterator[tuple[str, Array]]:
    if isinstance(observations, dict):
        yield from observations.items()
    else:
        yield "", observations


def _as_arrays(name: str, observations: Any) -> Observations:
    if isinstance(observations, Mapping):
        return {k: _as_array(f"{name}[{k!r}]", value) for k, value in observations.items()}
    return _as_array(name, observations)


def _as_array(name: str, values: Any) -> Array:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        lengths = list(dict.fromkeys(map(np.size, values)))
        raise ValueError(
            f"{name}: got rows of {lengths[:5]} numbers, expected equally many in each"
        ) from error


def _numbers(name: str, values: Any, box: spaces.Box, rows: tuple[int, ...]) -> Array:
    """Finite numbers ``(rows, *box.shape)`` in the type of the box, else one line."""
    array = _as_array(name, values)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: got {array.dtype} values, expected numbers in equal rows")
    if array.ndim == 0 or len(array) not in rows or array.shape[1:] != box.shape:
        legal = " or ".join(str((count, *box.shape)) for count in rows)
        raise ValueError(f"{name}: got shape {array.shape}, expected {legal}")
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise ValueError(f"{name}: step {int(bad.argmax())} holds NaN or infinity")
    return array.astype(box.dtype, copy=False)


def _slack(box: spaces.Box) -> Array:
    """Rounding of actions stored in half precision."""
    return 1e-3 * (box.high - box.low)
