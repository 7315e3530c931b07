"""Options of a command, read from the fields of a dataclass or from the arguments of a function."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Annotated, Any

import typer

from vaerl.disk import jsonio

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One option of a command."""

    name: str
    """Name of the field or argument."""
    hint: Any
    """Its type: X, X | None, a sequence of X (comma-separated), or a mapping (NAME=VALUE)."""
    default: Any
    """Its default, or `REQUIRED`."""
    help: str
    """What it means."""
    panel: str | None = None
    """Heading in the help."""

    @property
    def flag(self) -> str:
        """The option on the command line; of a mapping, each gives one pair.

        >>> Option("density_options", Mapping[str, int], {}, "").flag
        '--density-option'
        """
        name = self.name.removesuffix("_")  # of a field whose name would be a keyword
        name = name.removesuffix("s") if self._form[1] is Mapping else name
        return f"--{name.replace('_', '-')}"

    @property
    def _form(self) -> tuple[Any, type | None]:
        """Type of one value, and `Mapping` or `Sequence` if the option takes several."""
        hint = self.hint
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        origin = typing.get_origin(hint)
        if origin is None:
            return hint, None
        if issubclass(origin, Mapping):
            return str, Mapping
        return typing.get_args(hint)[0], Sequence

    def parameter(self, positional: bool = False) -> inspect.Parameter:
        """The parameter from which typer makes the option."""
        kind, several = self._form
        texts: dict[str, Any] = {"help": self.help, "rich_help_panel": self.panel}
        default, annotation, names = self.default, self.hint, [self.flag]
        if several is not None:
            texts["metavar"] = "NAME=VALUE" if several is Mapping else f"{kind.__name__.upper()},…"
            default, annotation = None, list[str] | None
        elif kind is bool and self.default is not False:
            names = [f"{self.flag}/--no-{self.flag[2:]}"]
        info = (
            typer.Argument(help=self.help, metavar=self.name.upper())
            if positional
            else typer.Option(*names, **texts)
        )
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=REQUIRED if positional and default else default,
            annotation=Annotated[annotation, info],
        )

    def words(self, value: Any) -> list[str]:
        """The words of a command line from which `read` gets a value.

        >>> Option("density_options", Mapping[str, int], {}, "").words({"k": 8, "mean": "deep"})
        ['--density-option', 'k=8', '--density-option', 'mean=deep']
        """
        kind, several = self._form
        if several is Mapping:
            pairs = [f"{k}={v if _plain_text(v) else jsonio.dumps(v)}" for k, v in value.items()]
            return [word for pair in pairs for word in (self.flag, pair)]
        if several is not None:
            return [self.flag, ",".join(map(str, value))] if value else []
        if kind is bool:
            return [self.flag if value else f"--no-{self.flag[2:]}"]
        return [] if value is None else [self.flag, str(value)]

    def read(self, given: Any) -> Any:
        """The value of the field or argument; ValueError for a text of the wrong form."""
        kind, several = self._form
        if several is Mapping:
            return parse_pairs(self.flag, given)
        if several is None:
            return given
        parts = [part for text in given for part in text.split(",") if part]
        try:
            return [kind(part) for part in parts]
        except ValueError as error:
            name = kind.__name__
            raise ValueError(f"{self.flag}: got {','.join(parts)!r}, expected {name},…") from error


def command_line(command: str, values: Sequence[tuple[Option, Any]], positional: str = "") -> str:
    """A command with these values of its options, for a shell."""
    first = [str(value) for option, value in values if option.name == positional]
    rest = [option.words(value) for option, value in values if option.name != positional]
    return shlex.join([*command.split(), *first, *(word for words in rest for word in words)])


def with_options(
    options: Sequence[Option], positional: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `options`, besides its own; it takes the values given as its first argument.

    Args:
        options: of the command.
        positional: name of the one that is an argument.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def call(**given: Any) -> None:
            taken = {option: given.pop(option.name) for option in options}
            values = {o.name: o.read(v) for o, v in taken.items() if v not in (None, [])}
            command(values, **given)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        theirs = [option.parameter(option.name == positional) for option in options]
        call.__signature__ = inspect.Signature([*theirs, *own])  # type: ignore[attr-defined]
        call.__annotations__ = {}
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        return call

    return decorate


def of_dataclass(cls: type, panels: Mapping[str, str]) -> list[Option]:
    """An option for each field, with the docstring below it; `panels`: first field → heading."""
    hints = typing.get_type_hints(cls)
    tree: Any = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    docs: dict[str, str] = {}
    pairs: Any = pairwise(tree.body)  # a field and what follows it
    for above, below in pairs:
        if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr):
            docs[ast.unparse(above.target)] = " ".join(ast.literal_eval(below.value).split())
    options, panel = [], None
    for item in fields(cls):
        panel = panels.get(item.name, panel)
        default = REQUIRED if item.default is MISSING else item.default
        options.append(Option(item.name, hints[item.name], default, docs[item.name], panel))
    return options


def of_function(function: Callable[..., Any], **defaults: Any) -> list[Option]:
    """An option for each argument, with its line in the docstring's "Args:"."""
    hints = typing.get_type_hints(function)
    _, _, args = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    docs = {
        name: _sentence(re.sub(r"\s+", " ", text))
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n     .*)*)", args, re.M)
        for name in names.split(", ")
    }
    return [
        Option(name, hints.get(name, str), defaults.get(name, p.default), docs.get(name, ""))
        for name, p in inspect.signature(function).parameters.items()
    ]


def _sentence(text: str) -> str:
    """The text with a capital, but for a list of names as they are typed.

    >>> _sentence("of the policy"), _sentence("mpc, mbpo; both by default")
    ('Of the policy', 'mpc, mbpo; both by default')
    """
    listed = re.match(r"[\w-]+(, [\w-]+)+( and [\w-]+)?(;| by default)", text)
    return text if listed else text[:1].upper() + text[1:]


def parse_pairs(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Turn `("k=16", "objective=iwae-k")` into a dict.

    >>> parse_pairs("--density-option", ["k=16", "objective=iwae-k", "latent_dims=[8]"])
    {'k': 16, 'objective': 'iwae-k', 'latent_dims': [8]}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option}: got {pair!r}, expected NAME=VALUE, such as k=16")
        if name in values:
            raise ValueError(f"{option}: got {name!r} twice: {values[name]!r} and {text!r}")
        try:
            values[name] = parse_value(text)
        except ValueError as error:
            raise ValueError(f"{option} {name}: {error}") from None
    return values


BROKEN = re.compile(
    r"""[-+]?[\d.][\d._]*(e[-+]?\d*)?|[-+]?(nan|inf|infinity)|[\[({"'].*""", re.I | re.S
)
"""Texts that look like a number, a list, an object or a quoted text."""


def _plain_text(value: Any) -> bool:
    """Whether a text is read as itself."""
    try:
        return isinstance(value, str) and parse_value(value) == value
    except ValueError:
        return False


def parse_value(text: str) -> Any:
    """Read a value as JSON or as True, False or None; anything else stays text.

    Raises ValueError for what looks like a value and is none, such as 007, nan or (1,2).

    >>> parse_value("1e-3"), parse_value("[8, 8]"), parse_value("True"), parse_value("iwae-k")
    (0.001, [8, 8], True, 'iwae-k')
    """
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        value = jsonio.loads(text.encode(), "value")
        jsonio.dumps(value)  # refuses 1e999
        return value
    except ValueError:
        if re.fullmatch(r"[-+]?([1-9]\d*\.|0?\.\d+)", text):  # 1. and .5
            return float(text)
        if BROKEN.fullmatch(text):
            raise ValueError(
                f'got {text}, expected JSON: a finite number, a list, or a text, such as "{text}" '
                "in quotes"
            ) from None
        return text
