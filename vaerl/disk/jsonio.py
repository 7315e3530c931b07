"""JSON as the standard defines it: no NaN, no duplicate keys, and a limit on the size."""

from __future__ import annotations

import json
import math
from typing import Any

from vaerl.disk.errors import VaerlLoadError, one_line

MAX_BYTES = 16 * 2**20
MAX_DIGITS = 40  # the state of a random generator has 128 bits
MAX_DEPTH = 64


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

    Besides what the standard forbids, numbers beyond the range of a float, whole numbers of more
    than `MAX_DIGITS` digits and nesting deeper than `MAX_DEPTH` are refused.

    >>> loads(b'{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
    vaerl.disk.errors.VaerlLoadError: config.json: not JSON: the key 'a' appears twice
    """
    if len(data) > max_bytes:
        raise VaerlLoadError(f"{name}: got {len(data):,} bytes, expected at most {max_bytes:,}")
    try:
        found = decode(data, _DECODER)
        _check_depth(found)
        return found
    except (ValueError, RecursionError) as error:
        raise VaerlLoadError(f"{name}: not JSON: {error}") from None


def decode(data: bytes, decoder: json.JSONDecoder) -> Any:
    """What UTF-8 text holds by a decoder; ValueError also for what could not be written again."""
    text = data.decode("utf-8")
    found = decoder.decode(text)
    if "\\ud" in text.lower():  # half of a pair of code points
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(items)
    if len(result) != len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} appears twice")
    return result


def refuse_constant(text: str) -> None:
    """ValueError: NaN and Infinity are not JSON."""
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number has {len(text)} digits, expected at most {MAX_DIGITS}")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=refuse_constant,
    parse_float=_finite,
    parse_int=_whole,
)


def _check_depth(data: Any) -> None:
    level: list[Any] = [data] if isinstance(data, dict | list) else []
    for _ in range(MAX_DEPTH):
        inner = [
            part
            for item in level
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, dict | list)
        ]
        if not inner:
            return
        level = inner
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
