"""A search loses no trial and runs none twice, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vaerl.experiments.scale.machines import start_sweep, wait_until
from vaerl.runs import RunDirectory
from vaerl.sweep.search import JOURNAL, Search, Taken, lock, open_study, prepare

optuna = pytest.importorskip("optuna", reason="the extra optuna is not installed")
ROOT = Path(__file__).parents[2]
TRIALS = 4
SPACE = {"agent_options.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}
WORDS = (
    *("ppo", "--env", "gates:Gate-v0", "--density", "gaussian", "--steps", "256"),
    *("--agent-option", "n_steps=64", "--checkpoint-every", "64", "--final-episodes", "1"),
    *("--eval-every", "64", "--picture-every", "0", "--no-video", "--trials", str(TRIALS)),
    *("--search", "tpe", "--space", "agent_options.learning_rate=1e-5..1e-2:log"),
    *("--jobs", "2", "--out", "out"),
)


def test_a_killed_search_loses_no_trial_and_runs_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with two trials half done, they keep what they drew and go on from there."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(Path(__file__).parent))))
    (tmp_path / "hold-0").touch()
    sweep = start_sweep(tmp_path, *WORDS)
    saved = [tmp_path / "out" / f"trial-000{i}-s0" / "checkpoints" for i in range(2)]
    wait_until(lambda: all([*p.glob("000000128-*/manifest.json")] for p in saved), sweep)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    before = [config(path.parent) for path in saved]
    with (tmp_path / "out" / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 6, "trial_')  # as a cut of power may leave it
    (tmp_path / "hold-0").unlink()

    assert start_sweep(tmp_path, *WORDS).wait(600) == 0, (tmp_path / "printed").read_text()[-2000:]
    assert [config(path.parent) for path in saved] == before
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted(trial["number"] for trial in record["trials"]) == [*range(TRIALS)]
    study = open_study(Search(SPACE), tmp_path / "out", 0)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS
    for told in record["trials"]:
        assert study.trials[told["number"]].value == told["value"]
        run = RunDirectory.open(tmp_path / "out" / told["runs"][0]["run"])
        rows = [row["global_step"] for row in run.metrics() if "eval/return_mean" in row]
        assert rows == [64, 128, 192, 256]
    lines = (tmp_path / "out" / JOURNAL).read_text().splitlines()
    ended = [line["trial_id"] for line in map(json.loads, lines) if line.get("state") == 1]
    assert sorted(ended) == [*range(TRIALS)]


def config(run: Path) -> dict[str, Any]:
    """The options of the run's agent."""
    return dict(RunDirectory.open(run).config["agent_options"])


def test_a_trial_taken_up_again_keeps_what_it_drew(tmp_path: Path) -> None:
    """Before and after it has ended; its value is told once."""
    search = Search({**SPACE, "density": ["cvae", "flow"], "agent_options.x": [[1], [2]]})
    prepare(search, tmp_path, 3)
    first = Taken(search, tmp_path, 1)
    assert Taken(search, tmp_path, 1).settings == first.settings
    first.tell(1.0)
    again = Taken(search, tmp_path, 1)
    assert again.settings == first.settings
    again.tell(2.0)
    assert open_study(search, tmp_path, 0).trials[1].value == 1.0
    prepare(search, tmp_path, 5)
    assert len(open_study(search, tmp_path, 0).trials) == 5
    with pytest.raises(ValueError, match=r"made with other settings \(metric: got 'return_mean'"):
        prepare(Search(search.space, metric="success_rate"), tmp_path, 5)


def test_a_process_killed_with_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    """The next one goes on at once."""
    search = Search(SPACE)
    prepare(search, tmp_path, 1)
    code = "import os, sys; from pathlib import Path; from vaerl.sweep.search import lock; "
    code += "lock(Path(sys.argv[1])).acquire(); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    with lock(tmp_path).acquire(timeout=1.0):
        pass
    Taken(search, tmp_path, 0).tell(1.0)
    assert open_study(search, tmp_path, 0).trials[0].value == 1.0


def test_a_bad_trial_is_pruned(tmp_path: Path) -> None:
    """Far below the median of the others; it stays pruned when it is taken up again."""
    search = Search(SPACE, pruner="median")
    prepare(search, tmp_path, 7)
    for number in range(6):
        good = Taken(search, tmp_path, number)
        assert not good.report(1.0 + number, 10)
        good.tell(1.0)
    bad = Taken(search, tmp_path, 6)
    assert bad.report(-5.0, 10)
    bad.tell(None, pruned=True)
    assert Taken(search, tmp_path, 6).pruned


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space: got none"),
        ({"learning_rate": [1]}, "space: got 'learning_rate', expected a field"),
        ({"agent_options.tau": {"low": 1, "high": 0}}, "expected low < high"),
        ({"agent_options.tau": {"low": 0.0, "high": 1.0, "log": True}}, "expected more than 0"),
        ({"agent_options.tau": 3}, "expected a range or a list"),
    ],
)
def test_illegal_spaces_are_refused(space: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Search(space)


def test_a_metric_that_no_evaluation_has_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="metric: got 'returns_mean', did you mean 'return_mean'"):
        Search({"agent_options.gamma": [0.9, 0.99]}, metric="returns_mean")
