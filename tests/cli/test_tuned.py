"""`vaerl train --tuned`: the settings that ship, those of a debug run, and those that are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vaerl.agents.tuned import tuned
from vaerl.cli import app
from vaerl.runs import RunDirectory

SMALL = ["--no-video", "--no-progress", "--agent-option", "buffer_size=500"]


def trained(out: Path, *words: str) -> tuple[RunDirectory, str]:
    """The run of a command that must succeed, and what it says."""
    command = ["train", *words, "--debug", *SMALL, "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return RunDirectory(out), result.stderr


@pytest.mark.parametrize(
    ("words", "density"),
    [([], "gaussian"), (["--density", "cvae"], "cvae"), (["--density", "gaussian"], "gaussian")],
)
def test_the_command_takes_the_settings_that_python_takes(
    words: list[str], density: str, tmp_path: Path
) -> None:
    """With the first density of the entry unless one is typed; a line says which."""
    run, said = trained(tmp_path / "run", "sac", "--env", "Hopper-v5", "--tuned", *words)
    wanted = tuned("Hopper-v5", density=density if words else "")
    assert run.config["density"] == density
    assert f"tuned: {density}, {wanted.recipe} ({wanted.status}" in said
    assert run.config["agent_options"].get("critic", "sac") == wanted.options.get("critic", "sac")


def test_a_debug_run_updates_whatever_the_recipe(tmp_path: Path) -> None:
    """Its options count more than those of the recipe, and those that are typed count most."""
    run, _ = trained(
        tmp_path / "run", "sac", "--env", "HalfCheetah-v5", "--tuned",
        "--agent-option", "batch_size=8", "--agent-option", 'policy_kwargs={"n_critics": 1}',
    )  # fmt: skip
    options: dict[str, Any] = run.config["agent_options"]
    assert (options["learning_starts"], options["batch_size"]) == (40, 8)
    assert options["policy_kwargs"] == {"net_arch": {"pi": [256, 256], "qf": [128, 128]}} | {
        "n_critics": 1
    }
    assert any("train/critic_loss" in row for row in run.metrics())
