"""Strict JSON: what is written is standard, and what is read is checked before it is believed.

Python's own reader takes duplicate keys, NaN, numbers beyond 64 bits and any size or depth. A file
of a run may come from anywhere, so all of these are refused here, in one line with the place.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from vaerl.disk.errors import VaerlLoadError, one_line

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 32
MAX_STRING = 2**20
INT_LIMIT = 2**63

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def dumps(data: Any, indent: int | None = None) -> str:
    """`data` as JSON text; ValueError names the first place that is not pure data.

    >>> dumps({"seed": 0, "net_arch": [64, 64]})
    '{"seed": 0, "net_arch": [64, 64]}'
    >>> dumps({"gamma": float("nan")})
    Traceback (most recent call last):
    ValueError: gamma: nan is not pure data; legal: None, bool, int, finite float, str, list, dict
    """
    check_pure(data)
    return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=indent)


def check_pure(data: Any, where: str = "") -> None:
    """Raise ValueError at the first value that strict JSON cannot hold."""
    if data is None or isinstance(data, bool):
        return
    if isinstance(data, dict):
        for key, value in data.items():
            place = f"{where}:{key}" if where else str(key)
            if not isinstance(key, str):
                raise ValueError(f"{place}: the key {key!r} is no string")
            check_pure(value, place)
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            check_pure(value, f"{where}[{index}]")
    elif isinstance(data, str):
        if any("\ud800" <= c <= "\udfff" for c in data):
            raise ValueError(f"{where}: {one_line(ascii(data), 60)} holds half a surrogate pair")
    elif type(data) is int:
        if abs(data) >= INT_LIMIT:
            raise ValueError(f"{where}: {data} does not fit into 64 bits")
    elif type(data) is not float or not math.isfinite(data):
        raise ValueError(
            f"{where}: {one_line(repr(data), 80)} is not pure data; "
            "legal: None, bool, int, finite float, str, list, dict"
        )


def loads(data: bytes, name: str, max_bytes: int = MAX_BYTES) -> Any:
    """Parse strict JSON; every fault is a one-line VaerlLoadError that starts with `name`.

    >>> loads(b'{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
    vaerl.disk.errors.VaerlLoadError: config.json: the key 'a' appears twice
    """

    def refuse(problem: str) -> NoReturn:
        raise VaerlLoadError(f"{name}: {problem}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                refuse(f"the key {key[:80]!r} appears twice")
            result[key] = value
        return result

    def integer(text: str) -> int:
        if len(text) > 20 or abs(value := int(text)) >= INT_LIMIT:
            refuse(f"the integer {text[:24]} does not fit into 64 bits")
        return value

    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            refuse(f"the number {text[:24]} is not finite")
        return value

    if len(data) > max_bytes:
        refuse(f"{len(data)} bytes; at most {max_bytes} are read")
    try:
        result = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=number,
            parse_constant=lambda text: refuse(f"{text} is not a JSON number"),
        )
    except VaerlLoadError:
        raise
    except UnicodeDecodeError as error:
        raise VaerlLoadError(f"{name}: not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise VaerlLoadError(f"{name}: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise VaerlLoadError(f"{name}: not JSON: {error}") from None
    _check_read(result, name, 0)
    return result


def _check_read(value: Any, name: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise VaerlLoadError(f"{name}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            raise VaerlLoadError(f"{name}: a string of {len(value)} characters")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise VaerlLoadError(f"{name}: half a surrogate pair in a string")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_read(key, name, depth)
            _check_read(item, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_read(item, name, depth + 1)


_MISSING = object()


def take(
    data: Any,
    key: str,
    kind: type,
    where: str,
    low: float | None = None,
    high: float | None = None,
    default: Any = _MISSING,
) -> Any:
    """`data[key]`, checked: an object with that key, of that kind, within [low, high].

    Raises VaerlLoadError `where:key: value; expected …`. A `float` may be written as an integer; a
    bool is never a number. With `default`, a missing key or null gives the default.

    >>> take({"steps": -1}, "steps", int, "status.json", low=0)
    Traceback (most recent call last):
    vaerl.disk.errors.VaerlLoadError: status.json:steps: -1; expected an integer >= 0
    """
    if not isinstance(data, dict):
        raise VaerlLoadError(f"{where}: {_short(data)}; expected an object")
    value = data.get(key)
    if value is None and default is not _MISSING:
        return default
    expected = _KINDS[kind]
    if low is not None:
        expected += f" >= {low}"
    if high is not None:
        expected += f"{' and' if low is not None else ''} <= {high}"
    if key not in data:
        raise VaerlLoadError(f"{where}:{key}: missing; expected {expected}")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not _within(value, low, high):
        raise VaerlLoadError(f"{where}:{key}: {_short(value)}; expected {expected}")
    return value


def _within(value: Any, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _short(value: Any) -> str:
    return one_line(ascii(value), 80)
