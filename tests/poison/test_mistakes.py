"""A mistake on the command line: one line that names it, code 2, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.poison.forked import forked
from tests.poison.mistakes import MISTAKES, world
from vaerl.cli import app

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What training imports is there before the processes begin."""
    out = str(tmp_path_factory.mktemp("warm") / "run")
    words = ["train", "sac", "--env", "HalfCheetah-v5", "--debug", "--no-progress", "--out", out]
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_costs_one_line(tmp_path: Path, name: str) -> None:
    arguments, word = MISTAKES[name]
    world(tmp_path)
    outcome = forked(arguments, tmp_path)
    assert outcome.faults == [] and outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert outcome.out == "" and len(lines) == 1 and lines[0].startswith("vaerl: "), outcome
    assert word in lines[0] and len(lines[0]) < 700, lines[0]
    assert sorted(os.listdir(tmp_path)) == ["pipe", "plain"], "something was written"


def test_there_are_as_many_mistakes_as_promised() -> None:
    assert len(MISTAKES) >= 270
