"""JSON as the standard defines it: no NaN, no duplicate keys, and a limit on the size."""

from __future__ import annotations

import json
from typing import Any

from vaerl.disk.errors import VaerlLoadError, one_line

MAX_BYTES = 16 * 2**20


def dumps(data: Any, indent: int | None = None, where: str = "") -> str:
    """Return `data` as JSON text; a ValueError names the first place that JSON cannot hold.

    >>> dumps({"seed": 0, "net_arch": [64, 64]})
    '{"seed": 0, "net_arch": [64, 64]}'
    >>> dumps({"gamma": float("nan")})
    Traceback (most recent call last):
    ValueError: gamma: nan is not pure data; legal: None, bool, int, finite float, str, list, dict
    """
    try:
        return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=indent)
    except (TypeError, ValueError):
        place, value = _culprit(data, where)
    raise ValueError(
        f"{place}: {one_line(repr(value), 80)} is not pure data; "
        "legal: None, bool, int, finite float, str, list, dict"
    )


def _culprit(data: Any, place: str) -> tuple[str, Any]:
    """Return the innermost value that JSON cannot hold, and where it stands."""
    parts: Any = data.items() if isinstance(data, dict) else ()
    parts = enumerate(data) if isinstance(data, list | tuple) else parts
    for key, item in parts:
        try:
            json.dumps(item, allow_nan=False)
        except (TypeError, ValueError):
            return _culprit(item, f"{place}:{key}" if place else str(key))
    return place, data


def loads(data: bytes, name: str, max_bytes: int = MAX_BYTES) -> Any:
    """Parse JSON; every fault is a one-line VaerlLoadError that starts with `name`.

    >>> loads(b'{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
    vaerl.disk.errors.VaerlLoadError: config.json: not JSON: the key 'a' appears twice
    """
    if len(data) > max_bytes:
        raise VaerlLoadError(f"{name}: got {len(data)} bytes, expected at most {max_bytes}")
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise VaerlLoadError(f"{name}: not JSON: {error}") from None


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(items)
    if len(result) != len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} appears twice")
    return result


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
