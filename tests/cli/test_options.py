"""Options follow the fields of a dataclass or the arguments of a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vaerl.cli.errors import OneLineGroup
from vaerl.cli.options import Option, of_dataclass, of_function, parse_pairs, with_options


def sample(
    out: Path, seeds: list[int] | None = None, rate: float = 0.5, quick: bool = False
) -> Path:
    """Do nothing.

    Args:
        out: a folder.
        seeds, rate: some numbers,
            and more of them.
        quick: not slow.
    """
    return out


@dataclass
class Sample:
    """Fields of every kind."""

    name: str
    """What it is called."""
    count: int | None = None
    """How many."""
    pairs: Mapping[str, Any] = field(default_factory=dict)
    """Named values."""
    tags: tuple[str, ...] = ()
    """Words."""


def run(options: list[Option], words: list[str], positional: str = "") -> tuple[dict, str]:
    """The values that a command with `options` reads from `words`, and what it prints."""
    found: dict[str, Any] = {}

    def command(values: dict[str, Any], *, loud: bool = False) -> None:
        found.update(values, loud=loud)

    app = typer.Typer(cls=OneLineGroup, add_completion=False)
    app.callback()(lambda: None)
    app.command()(with_options(options, positional)(command))
    result = CliRunner().invoke(app, ["command", *words])
    return found, result.output


def test_every_type_is_read() -> None:
    words = ["--out", "a/b", "--seeds", "1,2", "--seeds=3", "--rate=1e-3", "--quick"]
    found, _ = run(of_function(sample), words)
    expected = {"out": Path("a/b"), "seeds": [1, 2, 3], "rate": 1e-3, "quick": True}
    assert found == {**expected, "loud": False}


def test_fields_are_options() -> None:
    words = ["--count", "3", "--pair", "a=1", "--pair", "b=x y", "--tags", "u,v", "n", "--loud"]
    found, _ = run(of_dataclass(Sample, {}), words, positional="name")
    values = {"name": "n", "count": 3, "pairs": {"a": 1, "b": "x y"}, "tags": ["u", "v"]}
    assert found == {**values, "loud": True}
    assert run(of_dataclass(Sample, {}), ["n"], "name")[0] == {"name": "n", "loud": False}


def test_a_switch_has_two_values() -> None:
    found = [run(of_function(sample), ["--out=x", w])[0] for w in ("--quick", "--no-quick")]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1"], "--seeds"),
        (["--seeds", "a"], "--seeds: got 'a', expected int"),
        (["--rate", "b"], "--rate: got 'b', expected a valid"),
        (["--rate"], "--rate"),
        (["seeds"], "seeds"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], message: str) -> None:
    found, printed = run(of_function(sample), ["--out=x", *words])
    assert not found and message in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda: of_function(sample), ["A folder.", "Some numbers, and more of them.", "0.5"]),
        (lambda: of_dataclass(Sample, {"tags": "Words"}), ["How many.", "NAME=VALUE", "Words"]),
    ],
)
def test_help_says_what_options_mean(make: Callable[[], list[Option]], texts: list[str]) -> None:
    _, printed = run(make(), ["--help"])
    assert all(text in printed for text in texts), printed


def test_values_keep_their_type() -> None:
    pairs = ["a=1", "b=1e-3", "c=[2, 3]", "d=true", "e=None", "f=iwae-k", 'g={"h": 1}', "i="]
    assert parse_pairs("--x", pairs) == {
        "a": 1,
        "b": 1e-3,
        "c": [2, 3],
        "d": True,
        "e": None,
        "f": "iwae-k",
        "g": {"h": 1},
        "i": "",
    }


@pytest.mark.parametrize(
    "text",
    ["007", "nan", "-Infinity", "1e999", "(1,2)", "[1,2", "{a: 1}", "'x'", '"x', "1e", "1_0"],
)
def test_a_broken_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--x a: got .*, expected JSON: a finite number, a list"):
        parse_pairs("--x", [f"a={text}"])


@pytest.mark.parametrize(
    "text", ["4x4", "auto_0.1", "lin_1e-3", "minari:a/b-v0", "info", "e5", "-x"]
)
def test_other_texts_stay_texts(text: str) -> None:
    assert parse_pairs("--x", [f"a={text}", 'b="007"', "c=.5"]) == {"a": text, "b": "007", "c": 0.5}
