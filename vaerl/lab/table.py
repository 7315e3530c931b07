"""The commands that make the cells of a table again."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

MACHINE = ("out", "jobs", "threads", "data", "device", "table", "onto")
"""Options that say where and how something runs, not what."""


def command_line(name: str, run: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """The command for a call of `run`: its options that differ from their defaults.

    >>> def run(out, preset="full", seeds=None, quick=False): ...
    >>> command_line("toy", run, {"out": "a", "preset": "full", "seeds": [0, 1], "quick": True})
    'vaerl experiment toy --seeds 0,1 --quick'
    """
    words = [f"vaerl experiment {name}"]
    for parameter in inspect.signature(run).parameters.values():
        value = options.get(parameter.name, parameter.default)
        if parameter.name not in MACHINE and value != parameter.default:
            words.append(_option(parameter.name, value))
    return " ".join(words)


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{flag} {shlex.quote(text)}"


def quantity(count: int, noun: str) -> str:
    """A number with its noun.

    >>> [quantity(1, "thread"), quantity(2_000, "update")]
    ['1 thread', '2,000 updates']
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Call(NamedTuple):
    """Tasks that share a choice of names (models, policies) and seeds."""

    tasks: list[str]
    names: tuple[str, ...]
    seeds: tuple[int, ...]


def calls_for(cells: Iterable[tuple[str, str, int]]) -> list[Call]:
    """Group cells (task, name, seed) into few calls, in their order.

    >>> for call in calls_for([("a", "x", 0), ("a", "x", 1), ("b", "x", 0), ("b", "x", 1)]):
    ...     print(call.tasks, call.names, call.seeds)
    ['a', 'b'] ('x',) (0, 1)
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    for task, name, seed in cells:
        seeds.setdefault((task, name), []).append(seed)
    names: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (task, name), own in seeds.items():
        names.setdefault((task, tuple(sorted(own))), []).append(name)
    tasks: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    for (task, chosen), some in names.items():
        tasks.setdefault((tuple(some), chosen), []).append(task)
    return [Call(some, *key) for key, some in tasks.items()]


def command_lines(
    name: str, run: Callable[..., Any], cells: Iterable[tuple[str, str, int]], **options: Any
) -> list[str]:
    """The commands that make cells (task, model or policy, seed) again.

    `options` are the same in all; `run` names its second choice "models" or "policies".
    """
    second = "models" if "models" in inspect.signature(run).parameters else "policies"
    return [
        command_line(
            name,
            run,
            {**options, "tasks": call.tasks, second: call.names, "seeds": call.seeds},
        )
        for call in calls_for(cells)
    ]
