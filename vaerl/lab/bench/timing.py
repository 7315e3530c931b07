"""Rivals timed in turns, so that a noisy machine disturbs all alike; what counts is the ratio.

In round r every case does one piece of work, in an order that moves on by one each round. The speed
of a case against the first one is the median over rounds of t_first,r / t_case,r: both times of a
round were taken within seconds of each other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One rival: `work()` does a piece of work of so many units."""

    name: str
    work: Callable[[], Any]
    units: float = 1


@dataclass(frozen=True)
class Goal:
    """A speed that `case` is to reach, against `against`; or a time, where `against` is empty.

    Args:
        case: name of the rival.
        value: times as fast as `against`, or milliseconds a unit.
        against: name of another rival.

    >>> result = Result(Group("g", "", "step", []), {"a": [2.0], "b": [1.0]})
    >>> Goal("b", 2.5, "a").verdict(result), Goal("b", 1000.0).verdict(result)
    (('≥ 2.5 × a', 'no, 2.00'), ('≤ 1000 ms', 'yes, 1000 ms'))
    """

    case: str
    value: float
    against: str = ""

    def verdict(self, result: Result) -> tuple[str, str]:
        """The goal, and whether it is reached."""
        if not self.against:
            took = result.milliseconds(self.case)
            reached = "yes" if took <= self.value else "no"
            return f"≤ {self.value:.0f} ms", f"{reached}, {took:.0f} ms"
        speed = result.speed(self.case, self.against)[0]
        reached = "yes" if speed >= self.value else "no"
        return f"≥ {self.value:.2g} × {self.against}", f"{reached}, {speed:.2f}"


@dataclass(frozen=True)
class Group:
    """Rivals at one task; times are shown per unit, speeds against the first case.

    Args:
        missing: rivals that cannot take part here, and why.
    """

    name: str
    title: str
    unit: str
    cases: Sequence[Case]
    goals: Sequence[Goal] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Seconds per unit of every case in every round."""

    group: Group
    seconds: dict[str, list[float]]

    def milliseconds(self, case: str) -> float:
        """Median over rounds, per unit."""
        return float(np.median(self.seconds[case])) * 1e3

    def speed(self, case: str, against: str | None = None) -> tuple[float, float, float]:
        """How many times as fast as `against` (the first case): median and quartiles of rounds.

        >>> group = Group("g", "", "step", [])
        >>> Result(group, {"a": [2.0, 4.0, 6.0], "b": [1.0, 2.0, 2.0]}).speed("b")
        (2.0, 2.0, 2.5)
        """
        base = against or next(iter(self.seconds))
        ratios = np.array(self.seconds[base]) / np.array(self.seconds[case])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float(middle), float(low), float(high)


def measure(
    group: Group,
    rounds: int,
    on_round: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Time all cases of a group for `rounds` rounds, after one that warms up and does not count.

    Args:
        on_round: called with the number of rounds done.
        clock: seconds; wall time unless another is given (`device_clock` where a GPU works).
    """
    seconds: dict[str, list[float]] = {case.name: [] for case in group.cases}
    for r in range(1 + rounds):
        shift = r % len(group.cases)
        for case in [*group.cases[shift:], *group.cases[:shift]]:
            start = clock()
            case.work()
            took = clock() - start
            if r:
                seconds[case.name].append(took / case.units)
        on_round(r + 1)
    return Result(group, seconds)


def check_device(device: str) -> str:
    """`device` if torch can work there, else a ValueError of one line.

    >>> check_device("cpu")
    'cpu'
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if found is None or (device != "cpu" and int(found[1] or 0) >= count):
        legal = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise ValueError(f"device: got {device!r}, expected one that torch sees here: {legal}")
    return device


def device_clock(device: str) -> Callable[[], float]:
    """Seconds of wall time, read when a GPU has finished all its work."""

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return time.perf_counter if device == "cpu" else clock
