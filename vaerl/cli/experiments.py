"""The options of an experiment, read from the signature of its function.

An experiment is a function `run(out, preset="full", …) -> Path`; every argument of it is an option
of `vaerl experiment NAME`, with the type of its annotation.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaerl.names import check_name


def read_options(function: Callable[..., Path], words: Sequence[str]) -> dict[str, Any]:
    """Turn `--seed 1 --targets a,b` into arguments of `function`.

    Lists take commas or the option several times; a switch takes `--name` or `--no-name`.

    Raises ValueError for an unknown option (with the nearest), a missing or an illegal value.

    >>> def run(out: Path, seed: int = 0, names: list[str] | None = None) -> Path: ...
    >>> read_options(run, ["--seed", "1", "--names=a,b"])
    {'seed': 1, 'names': ['a', 'b']}
    """
    kinds = _kinds(function)
    switches = [name for name, (kind, _) in kinds.items() if kind is bool]
    flags = {_flag(name): name for name in kinds}
    flags |= {f"--no-{name.replace('_', '-')}": name for name in switches}
    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, text = word.partition("=")
        if not flag.startswith("--"):
            raise ValueError(f"{word!r} is not an option; options are {', '.join(sorted(flags))}")
        name = flags[check_name("option", flag, flags)]
        kind, many = kinds[name]
        if kind is bool:
            values[name] = not flag.startswith("--no-")
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"option {flag} needs a value of type {kind.__name__}")
            text = rest.pop(0)
        if many:
            parts = [_convert(flag, kind, part) for part in text.split(",") if part]
            values[name] = [*values.get(name, []), *parts]
        else:
            values[name] = _convert(flag, kind, text)
    return values


def help_text(name: str, function: Callable[..., Path]) -> str:
    """Say what an experiment asks and which options it takes, with their defaults."""
    kinds = _kinds(function)
    lines = [f"Usage: vaerl experiment {name} [OPTIONS]", "", inspect.getdoc(function) or ""]
    lines += ["", "Options:"]
    for parameter in inspect.signature(function).parameters.values():
        kind, many = kinds[parameter.name]
        default = parameter.default
        shown = "" if default in (inspect.Parameter.empty, None) else f" [{default}]"
        lines.append(f"  {_flag(parameter.name)} {kind.__name__}{',…' if many else ''}{shown}")
    return "\n".join(lines)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kinds(function: Callable[..., Path]) -> dict[str, tuple[type, bool]]:
    """Type of each argument, and whether it takes several values."""
    hints = typing.get_type_hints(function)
    return {name: _kind(hints.get(name, str)) for name in inspect.signature(function).parameters}


def _kind(hint: Any) -> tuple[type, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint)
    if origin is not None:  # list[str], tuple[int, ...], Sequence[str]
        return typing.get_args(hint)[0], True
    return hint, False


def _convert(flag: str, kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"option {flag} {text!r} must be of type {kind.__name__}") from error
