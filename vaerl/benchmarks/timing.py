"""Rivals timed in turns, so that a noisy machine disturbs all alike; what counts is the ratio.

In round r every case does one piece of work, in an order that moves on by one a round. The speed of
a case against the base is the median over rounds of t_base,r / t_case,r: both times of a round were
taken within seconds of each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Group:
    """Rivals at one task.

    Times are shown per unit ("ms per step"), speeds against the first case.
    """

    name: str
    title: str
    unit: str
    cases: Sequence[Case]
    goals: Sequence[Goal] = ()
    missing: Sequence[str] = ()
    """Rivals that could not take part, a line each."""

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
        clock: seconds; wall time unless another is given.
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
