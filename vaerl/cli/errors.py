"""Errors of the command line: one line instead of a traceback.

Exit codes: 0 done, 1 an internal error or a failed run, 2 a mistake of the user, 130 interrupted.
`--debug` adds the traceback of an internal error; a mistake remains one line.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from vaerl.disk.errors import RunFailed, one_line
from vaerl.names import check_name

MISTAKES = ValueError | TypeError | NotImplementedError | ImportError | OSError


def describe(error: BaseException) -> str:
    """Describe an error on one line, by its class if it has no message."""
    try:
        text = one_line(error)
    except Exception:  # an error whose own str() fails
        text = ""
    return f"missing key {text}" if isinstance(error, KeyError) else text or type(error).__name__


def print_error(error: BaseException, *, debug: bool) -> int:
    """Print `error` to stderr, with `debug` and its traceback if internal; return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("vaerl: interrupted", file=sys.stderr)
        return 130
    if hasattr(error, "format_message"):  # typer's own errors: usage, missing argument
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context is not None else ""
        print(f"vaerl: {_usage(error)}{where}", file=sys.stderr)
        return 2
    if isinstance(error, MISTAKES | RunFailed):  # a failed run has its traceback in its folder
        print(f"vaerl: {describe(error)}", file=sys.stderr)
        return 1 if isinstance(error, RunFailed) else 2
    if _is_memory(error):
        print(f"vaerl: out of memory: {describe(error)}", file=sys.stderr)
        return 1
    if debug:
        traceback.print_exception(error)
    where = "" if debug else " (add --debug to see where)"
    print(
        f"vaerl: internal error: {type(error).__name__}: {describe(error)}{where}",
        file=sys.stderr,
    )
    return 1


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch says so in a RuntimeError on the CPU, in its own on a GPU."""
    told = isinstance(error, RuntimeError) and ("allocate memory" in str(error))
    return told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _usage(error: Any) -> str:
    """Typer's message, with the value that pydantic refused, which typer leaves out.

    Pydantic's error holds the value under "input"; its message begins with "Input should be".
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
    """A group of commands whose errors are one line each, with the nearest name."""

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
        """Find the command `args[0]`; the error for an unknown one names the nearest."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            check_name("command", args[0], self.commands)
        return super().resolve_command(ctx, args)
