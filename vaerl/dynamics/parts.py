"""The functions that a model may be given, and checks of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Known reward or termination: (states, actions, next_states) of B rows → ``(B,)``."""
Features = Callable[[Tensor], Tensor]
"""States ``(*batch, S)`` → the networks' inputs ``(*batch, F)``."""
Completion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(states, actions, predicted coordinates ``(B, P)``) → next states ``(B, S)``."""


def check_part(argument: str, value: Any, kinds: Sequence[str] = ("learned",)) -> Any:
    """Return one of these kinds of learning, a function or None, else raise one line."""
    if value is None or value in kinds or callable(value):
        return value
    raise ValueError(
        f"{argument}: got {value!r}, expected {', '.join(map(repr, kinds))}, None or a function of "
        "(states, actions, next_states)"
    )


def count_features(features: Features | None, state_dim: int) -> int:
    """Size of the networks' inputs from states, else raise one line."""
    if features is None:
        return state_dim
    if not callable(features):
        raise ValueError(f"features: got {features!r}, expected a function of the states or None")
    seen = features(torch.zeros(1, state_dim))
    if not isinstance(seen, Tensor) or seen.ndim != 2 or len(seen) != 1:
        raise ValueError(
            f"features: got {_shape(seen)} for states (1, {state_dim}), expected a tensor (1, F)"
        )
    if seen.dtype == torch.float64:
        raise ValueError("features: got torch.float64 for states in float32, expected float32")
    return int(seen.shape[1])


def check_predicted(
    predicted: Sequence[int] | None, complete: Completion | None, state_dim: int
) -> list[int]:
    if (predicted is None) != (complete is None):
        missing = "predicted" if predicted is None else "complete"
        raise ValueError(f"{missing}: got None, expected predicted and complete together")
    if predicted is None:
        return list(range(state_dim))
    if not callable(complete):
        raise ValueError(f"complete: got {complete!r}, expected a function")
    if not isinstance(predicted, Iterable):
        raise ValueError(f"predicted: got {predicted!r}, expected a list of coordinates")
    places = list(predicted)
    whole = all(isinstance(place, Integral) and not isinstance(place, bool) for place in places)
    if not places or not whole or sorted(set(places) & set(range(state_dim))) != sorted(places):
        raise ValueError(
            f"predicted: got {places!r}, expected different coordinates from 0 to {state_dim - 1}"
        )
    return places


def check_completed(after: Any, states: Tensor) -> Tensor:
    """What `complete` gave, if it is a next state for each state; else raise one line."""
    if not isinstance(after, Tensor) or after.shape != states.shape:
        raise ValueError(
            f"complete: got {_shape(after)} for states {tuple(states.shape)}, expected a "
            "tensor of that shape"
        )
    return after


def _shape(value: Any) -> Any:
    """How an error names a value of the wrong shape or kind."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
