"""The folder that `vaerl export` writes: a run again, a card, a loader that needs no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from vaerl.checkpoint import load_checkpoint
from vaerl.cli import app
from vaerl.export.card import code
from vaerl.export.folder import contents

SMALL = 'policy_kwargs={"net_arch": [8], "density_kwargs": {"components": 2}}'


def vaerl(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    words = ["--env", "Pendulum-v1", "--density", "mixture", "--debug", "--agent-option", SMALL]
    vaerl("train", "ppo", *words, "--out", out, "--no-progress", "--no-video")
    (out / "videos" / "000000128.gif").write_bytes(b"GIF89a")
    vaerl("export", out)
    return out


def test_the_export_is_a_run(run: Path) -> None:
    """The commands read it, and its agent acts as that of the run."""
    folder = run / "export"
    assert "return_mean" in vaerl("eval", folder, "--episodes", 1)
    ours, theirs = (load_checkpoint(path).policy.state_dict() for path in (run, folder))
    assert all((ours[name] == theirs[name]).all() for name in theirs if "extra" not in name)
    assert {"policy.py", "model.safetensors", "replay.gif", "README.md"} <= set(contents(folder))


def test_the_card_tells_what_it_is(run: Path) -> None:
    """A header that YAML reads, the scores, and the command that makes the same run."""
    text = (run / "export" / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["library_name"] == "vaerl" and "Pendulum-v1" in header["tags"]
    (result,) = header["model-index"][0]["results"]
    scores = json.loads((run / "evaluation.json").read_text())["stochastic"]
    assert result["metrics"][0]["value"].startswith(f"{scores['return_mean']:.2f} +/-")
    command = re.search(r"```bash\n(vaerl .*)\n```", text)
    assert command is not None
    assert command[1].startswith("vaerl train ppo --env Pendulum-v1 --density mixture")
    assert "components" in command[1] and "![An episode](replay.gif)" in text
    assert str(run.parent) not in text + (run / "export" / "config.json").read_text()


def test_a_program_without_torch_acts(run: Path) -> None:
    """The loader needs its folder, numpy and onnxruntime; a seed repeats its draws."""
    program = """
import sys
sys.modules["torch"] = sys.modules["vaerl"] = sys.modules["stable_baselines3"] = None
import numpy as np
from policy import load
one, two = load(seed=1), load(seed=1)
observation, batch = np.zeros(3), np.zeros((4, 3))
assert np.array_equal(one.predict(observation)[0], two.predict(observation)[0])
actions, state = one.predict(batch)
assert actions.shape == (4, 1) and actions.dtype == np.float32 and len(set(actions.ravel())) == 4
assert one.predict(observation, deterministic=True)[0].shape == (1,)
print(one.about["check"]["observations"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=run / "export", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10000\n"


def test_what_cannot_be_exported_gets_one_line(run: Path, tmp_path: Path) -> None:
    """A folder of other things, no run, a planner, a name that is none."""
    (tmp_path / "mine.txt").write_text("keep")
    said = vaerl("export", run, "--out", tmp_path, code=2)
    assert "is not empty and is no export" in said
    assert "expected OWNER/NAME" in vaerl("export", run, "--push", "../x", code=2)
    assert "no such run" in vaerl("export", tmp_path / "none", code=2)
    planner = tmp_path / "planner"
    planner.mkdir()
    config = {"env": "Pendulum-v1", "agent": "mpc", "density": "gaussian", "steps": 1}
    (planner / "config.json").write_text(json.dumps(config))
    assert "has no policy to export" in vaerl("export", planner, code=2)


def test_texts_of_a_stranger_stay_texts() -> None:
    """No text of a configuration leaves its code span, its cell or its line."""
    assert code("a`b\n# c|d") == "`a'b # c\\|d`"


def test_a_failed_export_leaves_the_last_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (run / "export" / name).read_bytes() for name in contents(run / "export")}

    def fail(agent: object, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "policy.onnx").write_bytes(b"half")
        raise ValueError("export: got a difference of 1, expected at most 1e-05")

    monkeypatch.setattr("vaerl.export.folder.export_policy", fail)
    assert "got a difference of 1" in vaerl("export", run, code=2)
    assert {n: (run / "export" / n).read_bytes() for n in contents(run / "export")} == before
    assert not list(run.glob(".export-*"))


def test_what_cannot_be_meant_is_refused_before_the_work(run: Path) -> None:
    assert "the run" in vaerl("export", run, "--out", run, code=2)
    assert "--private: got it without --push" in vaerl("export", run, "--private", code=2)
