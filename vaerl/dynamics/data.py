"""Transitions (s, a, s', r, d) as checked tensors: the training data of a dynamics model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor

WHOLE_ENOUGH = 1e-3
"""How far a change may lie from a whole number: states are rounded to float32."""
WIDEST = 10.0
"""Largest standard deviation of whole changes, which are not standardised."""


@dataclass(frozen=True)
class Transitions:
    """N transitions; arrays, lists and tensors are taken, and float32 tensors are kept.

    Args:
        states: ``(N, S)``.
        actions: ``(N, A)`` floats, or N whole numbers from 0 for discrete actions.
        next_states: ``(N, S)``.
        rewards: ``(N,)``, or None where none are to be learned.
        terminations: ``(N,)``, whether the episode ended in s' by itself (not by a time limit), or
            None.
        episodes: ``(N,)`` whole numbers, the episode of each row, or None where unknown; rows of
            one episode stand together and in order.

    Raises:
        ValueError, TypeError: empty, ragged or non-finite data, sizes that do not agree.

    >>> len(Transitions([[0.0], [1.0]], [[0.5], [0.5]], [[1.0], [2.0]], rewards=[0.0, 1.0]))
    2
    """

    states: Tensor
    actions: Tensor
    next_states: Tensor
    rewards: Tensor | None = None
    terminations: Tensor | None = None
    episodes: Tensor | None = None

    def __post_init__(self) -> None:
        states = as_floats("states", self.states, 2)
        count = len(states)
        fields: dict[str, Tensor | None] = {
            "states": states,
            "actions": as_actions("actions", self.actions),
            "next_states": as_floats("next_states", self.next_states, 2),
            "rewards": None,
            "terminations": None,
            "episodes": as_episodes("episodes", self.episodes),
        }
        if fields["next_states"].shape != states.shape:  # type: ignore[union-attr]
            raise ValueError(
                f"next_states: got shape {tuple(fields['next_states'].shape)}, "  # type: ignore[union-attr]
                f"expected that of states, {tuple(states.shape)}"
            )
        for name in ("rewards", "terminations"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = as_floats(name, value, 1)
        for name, value in fields.items():
            if value is not None and len(value) != count:
                raise ValueError(f"{name}: got {len(value)} rows, expected {count} as in states")
            object.__setattr__(self, name, value)
        ends = fields["terminations"]
        if ends is not None and not bool(((ends == 0) | (ends == 1)).all()):
            odd = ends[(ends != 0) & (ends != 1)][0].item()
            raise ValueError(f"terminations: got {odd:g}, expected 0 or 1 in every row")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def discrete(self) -> bool:
        """Whether actions are whole numbers."""
        return not self.actions.is_floating_point()

    def rows(self, index: Tensor | slice) -> Transitions:
        """The transitions at `index`, unchecked."""
        return self._each(lambda value: value[index])

    def to(self, device: torch.device | str) -> Transitions:
        """The same transitions on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Transitions:
        changed = object.__new__(Transitions)
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(changed, field.name, None if value is None else change(value))
        return changed


def replay_transitions(buffer: ReplayBuffer) -> Transitions:
    """Everything in a replay buffer of SB3; a time limit is not a termination.

    Rows are the oldest first, environment by environment, with the number of their episode.
    Actions are as the buffer stores them: SB3 scales those of a Box to [−1, 1].

    Raises ValueError for an empty buffer, and for one that keeps no next observations.
    """
    if not isinstance(buffer, ReplayBuffer):
        raise TypeError(f"buffer: got {type(buffer).__name__}, expected SB3's ReplayBuffer")
    rows = buffer.size()
    if rows == 0:
        raise ValueError("buffer: got an empty one, expected at least one transition")
    if buffer.optimize_memory_usage or isinstance(buffer.observations, dict):
        raise ValueError(
            f"buffer: got {type(buffer).__name__} with optimize_memory_usage or Dict observations, "
            "expected arrays of observations and next observations"
        )

    order = (np.arange(rows) + (buffer.pos if buffer.full else 0)) % rows

    def flat(array: np.ndarray) -> Any:
        return array[order].swapaxes(0, 1).reshape(rows * buffer.n_envs, -1)

    begins = np.ones((rows, buffer.n_envs), dtype=np.int64)
    begins[1:] = buffer.dones[order[:-1]] > 0
    return Transitions(
        flat(buffer.observations),
        flat(buffer.actions),
        flat(buffer.next_observations),
        flat(buffer.rewards)[:, 0],
        flat(buffer.dones * (1.0 - buffer.timeouts))[:, 0],
        begins.T.reshape(-1).cumsum(),  # type: ignore[arg-type]
    )


def check_transitions(argument: str, value: Any) -> Transitions:
    """Return `value` if it is `Transitions`, else raise one line."""
    if not isinstance(value, Transitions):
        raise TypeError(f"{argument}: got {type(value).__name__}, expected Transitions(…)")
    return value


def check_whole(change: Tensor, coordinates: Sequence[int]) -> None:
    """Raise one line unless changes ``(N, P)`` of these coordinates are whole numbers."""
    broken = ((change - change.round()).abs() > WHOLE_ENOUGH).nonzero()
    if len(broken):
        row, place = broken[0].tolist()
        raise ValueError(
            f"next_states: got a change of {change[row, place].item():.9g} in row {row}, "
            "expected whole numbers: the density has whole=True"
        )
    spread = change.std(0, correction=0)
    if bool((spread > WIDEST).any()):
        place = int(spread.argmax())
        raise ValueError(
            f"next_states: got changes with a spread of {spread[place].item():.6g} in "
            f"coordinate {coordinates[place]}, expected at most {WIDEST:g} with whole=True: "
            "larger ones are better taken as real numbers"
        )


def as_floats(argument: str, value: Any, ndim: int) -> Tensor:
    """`value` as a finite, non-empty float32 tensor of `ndim` dimensions, else raise one line."""
    expected = "a table (N, size)" if ndim == 2 else "a list (N,)"
    tensor = _as_tensor(argument, value, expected)
    if tensor.ndim != ndim:
        raise ValueError(f"{argument}: got shape {tuple(tensor.shape)}, expected {expected}")
    if tensor.numel() == 0:
        raise ValueError(
            f"{argument}: got the empty shape {tuple(tensor.shape)}, expected at least one row"
        )
    tensor = tensor.to(torch.float32)
    finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(-1)
    if not bool(finite.all()):
        raise ValueError(
            f"{argument}: {int((~finite).sum())} of {len(tensor)} rows hold NaN or infinity, "
            "expected finite numbers"
        )
    return tensor


def as_actions(argument: str, value: Any) -> Tensor:
    """Float actions ``(N, A)``, or whole numbers ``(N,)`` from 0, else raise one line."""
    tensor = _as_tensor(argument, value, "a table (N, A) of floats or N whole numbers")
    if tensor.is_floating_point():
        return as_floats(argument, tensor, 2)
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor.squeeze(1)
    if tensor.ndim != 1 or tensor.numel() == 0 or tensor.dtype == torch.bool:
        raise ValueError(
            f"{argument}: got {tensor.dtype} of shape {tuple(tensor.shape)}, "
            "expected a table (N, A) of floats or N whole numbers"
        )
    if int(tensor.min()) < 0:
        raise ValueError(f"{argument}: got {int(tensor.min())}, expected whole numbers from 0")
    return tensor.long()


def as_episodes(argument: str, value: Any) -> Tensor | None:
    """Whole numbers ``(N,)``, each in one unbroken run of rows, else raise one line."""
    if value is None:
        return None
    tensor = _as_tensor(argument, value, "N whole numbers")
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(
            f"{argument}: got {tensor.dtype} of shape {tuple(tensor.shape)}, "
            "expected N whole numbers"
        )
    runs = torch.unique_consecutive(tensor)
    if len(runs) != len(torch.unique(runs)):
        raise ValueError(f"{argument}: got an episode in parts, expected its rows together")
    return tensor.long()


def _as_tensor(argument: str, value: Any, expected: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_complex():
            raise TypeError(f"{argument}: got {value.dtype}, expected {expected} of real numbers")
        return value.detach()
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{argument}: got rows of unequal length, expected {expected}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{argument}: got {array.dtype}, expected {expected} of numbers")
    return torch.as_tensor(array)
