"""Rivals timed in turns, so that a noisy machine disturbs all alike; what counts is the ratio.

In round r every case does one piece of work, in an order that moves on by one a round. The speed of
a case against the base is the median over rounds of t_base,r / t_case,r: both times of a round were
taken within seconds of each other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Case:
    """One rival: `work()` does a piece of work and returns how many units it was."""

    name: str
    work: Callable[[], float]


@dataclass(frozen=True)
class Goal:
    """`case` is to be at least `speed` times as fast as `against`."""

    case: str
    against: str
    speed: float

    def words(self, base: str) -> str:
        """The goal in a table whose speeds are against `base`."""
        return f"≥ {self.speed:.2g}" + (f" × {self.against}" if self.against != base else "")

    def verdict(self, result: Result) -> str:
        """Whether it is reached, and the speed.

        >>> result = Result(Group("g", "", "step", []), {"a": [2.0], "b": [1.0]})
        >>> Goal("b", "a", 2.5).verdict(result), Limit("b", 1000.0).verdict(result)
        ('no, 2.00', 'yes, 1000 ms')
        """
        speed = result.speed(self.case, self.against)[0]
        return f"{_yes(speed >= self.speed)}, {speed:.2f}"


@dataclass(frozen=True)
class Limit:
    """`case` is to take at most so many milliseconds a unit, on whatever machine it is."""

    case: str
    milliseconds: float

    def words(self, base: str) -> str:
        """The limit in a table; `base` plays no part in it."""
        return f"≤ {self.milliseconds:.0f} ms"

    def verdict(self, result: Result) -> str:
        """Whether it is kept, and the time."""
        took = result.milliseconds(self.case)
        return f"{_yes(took <= self.milliseconds)}, {took:.0f} ms"


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


@dataclass(frozen=True)
class Group:
    """Rivals at one task.

    Times are shown per unit ("ms per step"), speeds against the first case.
    """

    name: str
    title: str
    unit: str
    cases: Sequence[Case]
    goals: Sequence[Goal | Limit] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Rivals that cannot take part here, and why."""

    def only(self, names: Collection[str]) -> Group:
        """The group with those of its rivals that are named, and the first one.

        >>> cases = [Case(name, lambda: 1.0) for name in "abc"]
        >>> [case.name for case in Group("g", "", "step", cases).only(["c"]).cases]
        ['a', 'c']
        """
        base, *others = self.cases
        return replace(self, cases=[base, *(case for case in others if case.name in names)])


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
    warm_up: int = 1,
    on_round: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Time all cases of a group for `rounds` rounds, after `warm_up` rounds that are not counted.

    Args:
        on_round: called with the number of rounds done, warm-up included.
        clock: seconds; wall time unless another is given (`device_clock` where a GPU works).
    """
    seconds: dict[str, list[float]] = {case.name: [] for case in group.cases}
    for r in range(warm_up + rounds):
        shift = r % len(group.cases)
        for case in [*group.cases[shift:], *group.cases[:shift]]:
            start = clock()
            units = case.work()
            took = clock() - start
            assert units > 0, (group.name, case.name, units)
            if r >= warm_up:
                seconds[case.name].append(took / units)
        on_round(r + 1)
    return Result(group, seconds)


def check_device(device: str) -> str:
    """`device` if torch can work there, else a ValueError of one line.

    >>> check_device("cpu")
    'cpu'
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", device)
    if found is None:
        raise ValueError(f"device: got {device!r}, expected cpu, cuda or cuda:NUMBER")
    if device != "cpu":
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(found[1] or 0) >= count:
            raise ValueError(
                f"device: got {device!r}, expected one that torch sees here: "
                + ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
            )
    return device


def device_name(device: str) -> str:
    """What a record calls it: "cpu", or the name that a GPU gives itself."""
    if device == "cpu":
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def device_clock(device: str) -> Callable[[], float]:
    """Seconds of wall time, read when all that a GPU was asked for is done."""
    if device == "cpu":
        return time.perf_counter
    import torch

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock
