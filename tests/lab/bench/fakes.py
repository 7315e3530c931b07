"""Groups that take no time: a clock that their rivals move."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from vaerl.lab.bench import GROUPS, Case, Goal, Group, Result
from vaerl.lab.bench import run as command


class Clock:
    """A clock that cases move; `slow` times slower at will."""

    def __init__(self) -> None:
        self.now, self.slow, self.order = 0.0, 1.0, ""

    def __call__(self) -> float:
        return self.now

    def case(self, name: str, seconds: float, units: int = 1) -> Case:
        def work() -> float:
            self.order += name
            self.now += seconds * units * self.slow
            return units

        return Case(name, work)


def result_of(seconds: dict[str, float], goals: list[Goal] | None = None) -> Result:
    """One round of a group "g"."""
    group = Group("g", "Title", "step", [Case(n, lambda: 1.0) for n in seconds], goals or [])
    return Result(group, {name: [value] for name, value in seconds.items()})


def put_groups(
    monkeypatch: pytest.MonkeyPatch,
    seconds: Mapping[str, float],
    missing: Mapping[str, str] | None = None,
) -> list[str]:
    """Have every group hold rivals that take so long; gives the list of groups that were built."""
    clock, built = Clock(), list[str]()

    def make(name: str, device: str) -> Group:
        built.append(name)
        cases = [clock.case(rival, took) for rival, took in seconds.items()]
        return Group(name, name.title(), "step", cases, missing=missing or {})

    for name in GROUPS:
        monkeypatch.setitem(GROUPS, name, lambda device, name=name: make(name, device))
    monkeypatch.setattr(command, "device_clock", lambda device: clock)
    return built
