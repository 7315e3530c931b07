"""The interface of a model for planners: next states, and rewards and ends if it has them."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Step(NamedTuple):
    """The result of one step of B particles."""

    next_states: Tensor
    """``(B, S)``."""
    rewards: Tensor | None = None
    """``(B,)``, or None where the model has none."""
    dones: Tensor | None = None
    """Whether the episode ended in the next state ``(B,)``, or None for never."""


@runtime_checkable
class Model(Protocol):
    """Anything that moves particles: a learned model, or the true simulator.

    A model whose particles keep something through a roll-out (a member of an ensemble, a hidden
    parameter) has a second method, ``begin(rows, generator)``, which returns the model to step
    instead.
    """

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step | tuple[Tensor | None, ...] | Tensor:
        """Move particles ``(B, S)`` under actions ``(B, A)``, or ``(B,)`` if discrete.

        Gives next states ``(B, S)``, alone or followed by rewards and dones ``(B,)``.
        """
        ...


def per_row(argument: str, values: Tensor, rows: int) -> Tensor:
    """Return the values of a function of B rows if they are one number per row, else raise one
    line.

    >>> per_row("reward", torch.zeros(3, 1), 3)
    Traceback (most recent call last):
    ...
    ValueError: reward: got shape (3, 1) for 3 rows, expected (3,)
    """
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{argument}: got {type(values).__name__}, expected a torch.Tensor of shape ({rows},)"
        )
    if values.shape != (rows,):
        raise ValueError(
            f"{argument}: got shape {tuple(values.shape)} for {rows} rows, expected ({rows},)"
        )
    return values


def begin(model: Model, rows: int, generator: torch.Generator | None = None) -> Model:
    """The model that a roll-out of `rows` particles steps."""
    start = getattr(model, "begin", None)
    moved = model if start is None else start(rows, generator)
    if not callable(getattr(moved, "step", None)):
        raise TypeError(
            f"model: got {type(model).__name__}, expected one with a method "
            "step(states, actions, generator)"
        )
    return moved


def as_step(result: Step | tuple[Tensor | None, ...] | Tensor) -> Step:
    """The result of a model's `step` with a name for every part.

    >>> as_step(torch.zeros(2, 1)).rewards is None
    True
    """
    if isinstance(result, Step):
        return result
    if isinstance(result, Tensor):
        return Step(result)
    if isinstance(result, tuple) and 1 <= len(result) <= 3 and isinstance(result[0], Tensor):
        return Step(*result)  # type: ignore[arg-type]
    shown = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
    raise TypeError(
        f"model.step: got {shown}, expected next states, or (next_states, rewards, dones)"
    )
