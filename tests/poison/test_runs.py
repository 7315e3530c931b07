"""A stranger's run: no command runs code of it, works or waits long, takes much memory, or fails.

Each case spoils a copy of one good run (`cases`), and a command looks at it in a process of its
own. The command either copes or says in one line what is wrong.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.poison.cases import CASES
from tests.poison.forked import forked
from vaerl.cli import app

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TINY = ["learning_starts=20", "buffer_size=200", "batch_size=8", 'policy_kwargs={"net_arch":[8]}']
TRAIN = ["train", "sac", "--env", "vaerl/Bandit40-v0", "--density", "gaussian", "--no-progress"]
TRAIN += ["--final-episodes", "2", "--no-video", "--eval-every", "0", "--picture-every", "0"]
TRAIN += ["--out", "run", *(word for pair in TINY for word in ("--agent-option", pair))]
COMMANDS = {
    "eval": ["eval", "run", "--episodes", "2"],
    "video": ["video", "run", "--out", "film.gif"],
    "report": ["report", "run"],
    "inspect": [
        "inspect",
        "run",
        "--draws",
        "64",
        "--episodes",
        "1",
        "--kept",
        "1",
        "--states",
        "1",
    ],
    "resume": [*TRAIN, "--steps", "70", "--resume"],
}
LOOKS = {
    "config": ("eval",),
    "config raw": ("eval", "video", "inspect", "report", "resume"),
    "status": ("report", "resume"),
    "status raw": ("report", "resume"),
    "metrics": ("report", "resume"),
    "metrics raw": ("report", "resume"),
    "evaluation": ("report",),
    "evaluation raw": ("report",),
    "figures": ("report",),
    "places": ("resume", "video"),
    "checkpoints": ("eval", "resume"),
}
"""The commands that read what the cases of a group spoil."""
PAIRS = [(case, name) for case in CASES for name in LOOKS[case.partition(":")[0]]]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above a good run; every command has been used, so that all is imported."""
    folder = tmp_path_factory.mktemp("good")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for arguments in ([*TRAIN, "--steps", "60"], *list(COMMANDS.values())[:-1]):
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
    finally:
        os.chdir(before)
    return folder


@pytest.mark.parametrize(("case", "command"), PAIRS, ids=lambda text: text[:60])
def test_a_poisoned_run_costs_one_line_at_most(
    good: Path, tmp_path: Path, case: str, command: str
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(good, folder)
    if command == "report" and "config" not in case:  # quick: no policy is drawn
        for checkpoint in (folder / "run" / "checkpoints").iterdir():
            shutil.rmtree(checkpoint)
    CASES[case](folder / "run")
    outcome = forked(COMMANDS[command], folder)
    assert outcome.faults == [] and not (folder / "SENTINEL").exists()
    assert outcome.code in (0, 2), outcome
    if outcome.code:
        lines = outcome.err.splitlines()
        assert lines[-1].startswith("vaerl: ") and len(lines[-1]) < 700


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(PAIRS) >= 230 and {name for _, name in PAIRS} == set(COMMANDS)
