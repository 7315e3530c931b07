"""One line for every mistake: what `vaerl` prints instead of a traceback.

Exit codes: 0 done, 1 a fault inside the program, 2 a mistake in what was asked for,
130 interrupted. `--debug` adds the traceback of a fault; a mistake stays one line.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from vaerl.names import check_name

MISTAKES = (ValueError, TypeError, NotImplementedError, ImportError, OSError)


def parse_value(text: str) -> Any:
    """Read a value as JSON; what is not JSON stays text, and True, False, None are understood.

    >>> parse_value("1e-3"), parse_value("[8, 8]"), parse_value("true"), parse_value("iwae-k")
    (0.001, [8, 8], True, 'iwae-k')
    """
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return float(text) if re.fullmatch(r"[-+.\deE]+", text) else text
    except ValueError:
        return text


def parse_pairs(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Turn `("k=16", "squash=true")` into `{"k": 16, "squash": True}`.

    >>> parse_pairs("--density-option", ["k=16", "objective=iwae-k"])
    {'k': 16, 'objective': 'iwae-k'}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{option} {pair!r} is not of the form name=value, such as k=16")
        if key in values:
            raise ValueError(f"{option} {key!r} is given twice: {values[key]!r} and {text!r}")
        values[key] = parse_value(text)
    return values


def describe(error: BaseException) -> str:
    """Say an error on one line, its class where it has no words of its own."""
    from vaerl.disk.errors import one_line

    try:
        text = one_line(error)
    except Exception:  # an error whose own str() fails
        text = ""
    return f"missing key {text}" if isinstance(error, KeyError) else text or type(error).__name__


def print_error(error: BaseException, *, debug: bool) -> int:
    """Print `error` to stderr, a fault with its traceback when `debug`; return the exit code."""
    from vaerl.disk.errors import RunsFailed

    if isinstance(error, KeyboardInterrupt):
        print("vaerl: interrupted", file=sys.stderr)
        return 130
    if hasattr(error, "format_message"):  # typer's own errors: usage, missing argument
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context is not None else ""
        print(f"vaerl: {_usage(error)}{where}", file=sys.stderr)
        return 2
    if isinstance(error, MISTAKES):
        print(f"vaerl: {describe(error)}", file=sys.stderr)
        return 2
    if isinstance(error, RunsFailed):  # each has its traceback in its own folder
        print(f"vaerl: {describe(error)}", file=sys.stderr)
        return 1
    if debug:
        traceback.print_exception(error)
    where = "" if debug else " (add --debug to see where)"
    print(
        f"vaerl: internal error: {type(error).__name__}: {describe(error)}{where}",
        file=sys.stderr,
    )
    return 1


def _usage(error: Any) -> str:
    """What typer says; where pydantic refused a value, that value as well, which typer leaves out.

    Pydantic's errors name it under "input", in a message that begins "Input should be".
    """
    refused = getattr(error.__cause__, "errors", None)
    parameter = getattr(error, "param", None)
    if not callable(refused) or parameter is None:
        return " ".join(error.format_message().split()).rstrip(".")
    first = refused()[0]
    legal = first["msg"].removeprefix("Input should be ").partition(",")[0]
    legal = legal if legal.startswith("a") else f"a number {legal}"
    name = max(parameter.opts, key=len)
    return f"{name}: got {first['input']!r}, expected {legal}"


class OneLineGroup(TyperGroup):
    """A command group whose errors are one line each, the nearest name included."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line `args`; leave through `sys.exit` unless `standalone_mode` is off."""
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                arguments, "vaerl", complete_var, False, windows_expand_args, **extra
            )
        except (Exception, KeyboardInterrupt) as error:
            if not standalone_mode:
                raise
            code = print_error(error, debug="--debug" in arguments)
        if standalone_mode:
            sys.exit(code or 0)
        return code

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command `args[0]`; an unknown one is answered with the nearest."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            check_name("command", args[0], self.commands)
        return super().resolve_command(ctx, args)
