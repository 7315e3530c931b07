"""Options of an experiment follow the signature of its function."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaerl.cli.errors import parse_pairs
from vaerl.cli.experiments import help_text, read_options


def sample(
    out: Path, seeds: list[int] | None = None, rate: float = 0.5, quick: bool = False
) -> Path:
    """Do nothing."""
    return out


def test_every_type_is_read() -> None:
    words = ["--out", "a/b", "--seeds", "1,2", "--seeds=3", "--rate=1e-3", "--quick"]
    expected = {"out": Path("a/b"), "seeds": [1, 2, 3], "rate": 1e-3, "quick": True}
    assert read_options(sample, words) == expected


def test_a_switch_has_two_values() -> None:
    assert read_options(sample, ["--quick"]) != read_options(sample, ["--no-quick"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1"], "did you mean '--seeds'"),
        (["--seeds", "a"], "--seeds 'a' must be of type int"),
        (["--rate"], "--rate needs a value of type float"),
        (["--rate", "--quick"], "--rate needs a value of type float"),
        (["seeds"], "'seeds' is not an option"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_options(sample, words)


def test_help_lists_options_with_defaults() -> None:
    text = help_text("sample", sample)
    assert "--seeds int,…" in text and "--rate float [0.5]" in text and "Do nothing." in text


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
