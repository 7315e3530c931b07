"""`vaerl bench --check`: the speeds of now against those of a record, or a line why that cannot be.

A check that compared nothing would pass for ever, so whatever a record names has to be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vaerl.disk import jsonio
from vaerl.lab.bench.groups import group_names
from vaerl.lab.bench.timing import Group, Result, device_name
from vaerl.names import check_name

MARGIN = 0.5
"""Share of a recorded speed that a later run has to reach: machines differ, and are noisy."""

Speeds = dict[str, dict[str, float]]
"""Group → rival → times as fast as the group's first rival."""


def read_speeds(path: Path, groups: Sequence[str] = (), device: str = "cpu") -> Speeds:
    """The speeds of an earlier record, of the named groups or of all that it holds.

    Raises ValueError, in one line, if the file is no record of `vaerl bench`, was measured on
    another kind of device, names a group that is unknown or lacks one that is asked for.
    """
    try:
        found = jsonio.loads(path.read_bytes(), path.name)
        speeds = found.get("speeds") if isinstance(found, dict) else None
        if not isinstance(speeds, dict) or not speeds:
            raise ValueError("it holds no speeds")
        for group, rivals in speeds.items():
            check_name("group", group, group_names())
            _check_rivals(group, rivals)
        then = str(found.get("device", "cpu"))  # before it was recorded all was measured there
        if (then == "cpu") != (device == "cpu"):
            raise ValueError(f"measured on {then}, this is {device_name(device)}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--check: got {path}, expected a bench.json that `vaerl bench` wrote ({error})"
        ) from None
    for group in groups:
        if group not in speeds:
            raise ValueError(
                f"--groups: got {group!r}, expected groups that {path} holds: {', '.join(speeds)}"
            )
    return {group: dict(speeds[group]) for group in groups or speeds}


def _check_rivals(group: str, rivals: object) -> None:
    if not isinstance(rivals, dict):
        raise ValueError(f"speeds of {group}: got {rivals!r}, expected an object")
    for name, speed in rivals.items():
        if type(speed) not in (int, float) or not speed > 0:
            raise ValueError(f"speed of {group}, {name}: got {speed!r}, expected one above 0")


def rivals_to_check(group: Group, recorded: Mapping[str, float]) -> list[str]:
    """Which rivals of the group have a recorded speed to be compared with: all but the first one.

    Those that cannot take part here (`Group.missing`) are left out. Raises ValueError, in one
    line, if another one is not in the group, or if none is left.

    >>> from vaerl.lab.bench.timing import Case
    >>> group = Group("g", "", "step", [Case(n, lambda: 1.0) for n in "ab"], missing={"c": "no c"})
    >>> rivals_to_check(group, {"a": 1.0, "b": 2.0, "c": 3.0})
    ['b']
    """
    base, *others = [case.name for case in group.cases]
    for name in recorded:
        check_name(f"--check: rival of {group.name}", name, [base, *others, *group.missing])
    if base not in recorded:
        raise ValueError(
            f"--check: got no speed of {base!r} in {group.name}, expected it: "
            "the others are relative to it"
        )
    found = [name for name in others if name in recorded]
    if not found:
        raise ValueError(
            f"--check: got only {', '.join(recorded)} in {group.name}, "
            f"expected one of {', '.join(others)} to compare"
        )
    return found


def compare(
    results: Sequence[Result], recorded: Speeds, margin: float = MARGIN
) -> tuple[int, list[str]]:
    """How many speeds were compared, and a line for each below `margin` times the recorded one."""
    lines = []
    compared = 0
    for result in results:
        speeds = recorded[result.group.name]
        for name in rivals_to_check(result.group, speeds):
            compared += 1
            now, then = result.speed(name)[0], speeds[name]
            if not now >= margin * then:
                lines.append(
                    f"{result.group.name}: {name} is {now:.2f} times as fast as "
                    f"{result.group.cases[0].name}, recorded {then:.2f}, "
                    f"expected at least {margin * then:.2f}"
                )
    return compared, lines
