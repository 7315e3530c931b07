"""Numbers that are not finite, named where they first appear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from vaerl.disk.errors import NotFinite


def all_finite(array: np.ndarray) -> bool:
    """Whether an array of numbers holds neither NaN nor infinity.

    >>> all_finite(np.array([1e30, -1e30], np.float32)), all_finite(np.array([np.inf]))
    (True, False)
    """
    if array.dtype.kind != "f":
        return True
    # A finite sum of squares means finite entries. It may also overflow: then each is checked.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def first_bad(array: np.ndarray) -> tuple[int, ...]:
    """The place of the first entry that is not finite.

    >>> first_bad(np.array([[0.0, np.inf]]))
    (0, 1)
    """
    return tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])


def find_bad(parts: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray] | None) -> list[str]:
    """Of the first entry that is not finite, its place and value, and that before; [] if none.

    >>> find_bad({"": np.array([1.0, np.nan])}, {"": np.array([1.0, 2.0])})
    ['[1] is NaN', 'the last finite value was 2']
    """
    for key, part in parts.items():
        if not all_finite(part):
            place = first_bad(part)
            named = f"{f' {key!r}' if key else ''}{list(place) if place else ''}"
            found = f"{named} is {number(part[place])}"
            return [found] if last is None else [found, _was(last[key][place])]
    return []


def _was(value: Any) -> str:
    return f"the last finite value was {number(value)}"


def number(value: Any) -> str:
    """A number as errors show it.

    >>> number(float("nan")), number(float("-inf")), number(0.25)
    ('NaN', '-inf', '0.25')
    """
    return "NaN" if math.isnan(value) else f"{float(value):.6g}"


def check_actions(actions: np.ndarray) -> None:
    """Raise `NotFinite` unless the actions ``(n, …)`` of n environments are finite.

    >>> check_actions(np.array([[0.0], [np.nan]]))
    Traceback (most recent call last):
    vaerl.disk.errors.NotFinite: env 1: action[0] is NaN, expected finite numbers
    """
    if not all_finite(actions):
        table = actions.reshape(len(actions), -1)
        env, place = first_bad(table)
        raise NotFinite(f"env {env}: action[{place}] is {number(table[env, place])}")


def check_loss(name: str, loss: Tensor) -> Tensor:
    """Return a loss, 0-d, before its gradient is taken; raise `NotFinite` if it is not finite.

    On a GPU, where reading it would stall the queue, the logged means tell.
    """
    if loss.device.type == "cpu" and not math.isfinite(value := loss.item()):
        raise NotFinite(f"loss {name} is {number(value)}", key=f"train/{name}")
    return loss
