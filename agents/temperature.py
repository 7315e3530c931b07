"""The temperature α over training, and target entropies for policies of several modes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Annealed:
    """α falls geometrically from `start` to `end` over the first `fraction` of training.

    A hot start keeps modes apart from merging early: at a high α the target is nearly flat, and the
    policy meets every mode before it has to choose.

    >>> Annealed.parse("anneal_10_1")(progress_remaining=0.75)
    3.1622776601683795
    """

    start: float
    end: float
    fraction: float = 0.5

    @classmethod
    def parse(cls, text: str) -> Annealed:
        """From "anneal_START_END" or "anneal_START_END_FRACTION"; a ValueError in one line."""
        parts = text.split("_")[1:]
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        legal = len(numbers) in (2, 3) and all(0.0 < n < math.inf for n in numbers)
        if not legal or not text.startswith("anneal_") or (len(numbers) == 3 and numbers[2] > 1.0):
            raise ValueError(
                f"ent_coef: got {text!r}, expected a positive number, 'auto', 'auto_START' or "
                "'anneal_START_END[_FRACTION]' with positive numbers and a fraction of at most 1"
            )
        return cls(*numbers)

    def __call__(self, progress_remaining: float) -> float:
        """α where that share of training remains, 1 at the start and 0 at the end."""
        done = min(1.0, (1.0 - progress_remaining) / self.fraction)
        return self.start * (self.end / self.start) ** done


def annealing(text: str) -> Annealed | None:
    """What a text for `ent_coef` anneals; None for what SB3 takes: a number, "auto", "auto_START".

    >>> annealing("0.1"), annealing("auto_0.1"), annealing("anneal_10_1")
    (None, None, Annealed(start=10.0, end=1.0, fraction=0.5))
    """
    head, _, start = text.partition("_")
    learned = head == "auto" and (text == "auto" or (_number(start) or 0.0) > 0.0)
    return None if learned or _number(text) is not None else Annealed.parse(text)


def entropy_target(text: str, action_dim: int) -> float:
    """Target entropy in nats for a number as text, or for "modes_M": M modes as wide as SAC's one.

    H̄ = −X + log M. SAC's −X for X action dimensions is one Gaussian of σ = .089 on each axis of
    the box; M of them, well apart, have log M more.

    >>> entropy_target("-3", 2), round(entropy_target("modes_4", 2), 3)
    (-3.0, -0.614)
    """
    number = _number(text)
    if number is not None:
        return number
    match = re.fullmatch(r"modes_([1-9]\d*)", text)
    if match is None:
        raise ValueError(
            f"target_entropy: got {text!r}, expected a number, 'auto' or 'modes_M' for M modes"
        )
    return -float(action_dim) + math.log(int(match[1]))


def _number(text: str) -> float | None:
    """The finite number that a text is, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
