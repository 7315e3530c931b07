"""Learning rates that fall during training, as text: "lin_START_END" and "cos_START_END"."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.utils import LinearSchedule

from vaerl.agents.checked import MOST

SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")
"""Arguments that may change during training."""
NUMBER = r"(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
PATTERN = re.compile(rf"(lin|cos)(_{NUMBER}){{1,3}}", re.IGNORECASE)
EXPECTED = "lin_START[_END[_FRACTION]] for a line between two numbers, or cos_… for half a cosine"


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from `start` to `end` over the first `end_fraction` of training.

    Called, like SB3's schedules, with the share of training that remains.

    >>> falls = CosineSchedule(1.0, 0.5, 1.0)
    >>> falls(1.0), falls(0.5), falls(0.0)
    (1.0, 0.75, 0.5)
    """

    start: float
    end: float
    end_fraction: float

    def __call__(self, progress_remaining: float) -> float:
        done = min(1.0, (1.0 - progress_remaining) / self.end_fraction)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * done))


def make_schedule(name: str, text: str) -> Callable[[float], float]:
    """The schedule of a text "KIND_START[_END[_FRACTION]]".

    END is 0 and FRACTION, the share of the training after which END is reached, 1 unless given.

    Args:
        name: of the argument, for the error.

    Raises:
        ValueError: another text, a number too large, a share outside (0, 1].

    >>> make_schedule("learning_rate", "lin_1e-3")
    LinearSchedule(start=0.001, end=0.0, end_fraction=1.0)
    """
    if PATTERN.fullmatch(text) is None:
        raise ValueError(f"{name}: got {text!r}, expected a number or {EXPECTED}")
    kind, *words = text.split("_")
    numbers = [*map(float, words), *(0.0, 1.0)[len(words) - 1 :]]
    most = MOST.get(name, sys.float_info.max)
    if max(numbers[:2]) > most or not 0.0 < numbers[2] <= 1.0:
        raise ValueError(
            f"{name}: got {text!r}, expected START and END from 0 to {most:g} and a share of "
            "training above 0, at most 1"
        )
    kinds: dict[str, Any] = {"lin": LinearSchedule, "cos": CosineSchedule}
    return kinds[kind.lower()](*numbers)


def take_schedules(agent: Any) -> None:
    """Turn an agent's texts into schedules before SB3 looks at them.

    Raises:
        ValueError: no learning rate, or another text.
    """
    for name in SCHEDULED:
        value = getattr(agent, name, 0.0)
        if name == "learning_rate" and value is None:
            raise ValueError(f"{name}: got None, expected a number, a function or {EXPECTED}")
        if isinstance(value, str):
            setattr(agent, name, make_schedule(name, value))


def schedule_text(schedule: Any) -> str | None:
    """The text from which `make_schedule` makes this schedule again; None for another function.

    >>> schedule_text(CosineSchedule(1e-3, 0.0, 0.5))
    'cos_0.001_0.0_0.5'
    """
    for kind, cls in (("lin", LinearSchedule), ("cos", CosineSchedule)):
        if type(schedule) is cls:
            return f"{kind}_{schedule.start}_{schedule.end}_{schedule.end_fraction}"
    return None
