"""W&B beside a training run: complete if it works, one line if it does not, never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runs.tiny import digest, make
from tests.track.wandb_child import STEPS
from tests.track.wandb_history import read_history, read_metrics
from vaerl.runs.callback import TrackerCallback
from vaerl.runs.config import TrainConfig
from vaerl.track import Trackers, WandbTracker
from vaerl.track.wandb import stricter_mode

KINDS = ("refuse", "hang", "error", "dies")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the child program saw with each kind of bad server; they run side by side."""
    here = Path(__file__).parents[2]
    children = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        command = [sys.executable, "-m", "tests.track.wandb_child", kind, str(folder)]
        children[kind] = subprocess.Popen(
            command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    results: dict[str, dict[str, Any]] = {}

    def collect(kind: str) -> None:
        out, err = children[kind].communicate(timeout=240)
        assert children[kind].returncode == 0, err[-2000:]
        said = json.loads(out.splitlines()[-1])
        results[kind] = {**said, "stderr": err, "exit": time.time() - said["end"]}

    threads = [threading.Thread(target=collect, args=(kind,)) for kind in KINDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("kind", ["refuse", "hang", "error"])
def test_a_server_that_does_not_answer_costs_one_line(
    outcomes: dict[str, dict[str, Any]], kind: str
) -> None:
    """The run goes on offline, everything is in it, and the line says how to upload it."""
    result = outcomes[kind]
    assert len(result["said"]) == 1, result["said"]
    assert result["said"][0].startswith("W&B: ") and "\n" not in result["said"][0]
    assert f"wandb sync {result['sync_directory']}" in result["said"][0]
    assert result["mode"] == "offline" and "offline-run" in result["sync_directory"]
    rows = read_history(Path(result["sync_directory"]))
    assert rows == [{"env_steps": step, "x": float(step)} for step in range(STEPS)]
    assert result["stderr"] == ""


def test_a_server_that_dies_keeps_nobody_waiting(outcomes: dict[str, dict[str, Any]]) -> None:
    """The run begins online; when the server hangs, `finish` ends in time and says what to do."""
    result = outcomes["dies"]
    assert result["mode"] == "online" and "/graphql" in result["received"]
    assert len(result["said"]) == 2 and result["said"][0].startswith("W&B: http://127.0.0.1")
    assert f"wandb sync {result['sync_directory']}" in result["said"][1]
    assert result["finish"] < 30.0
    assert len(read_history(Path(result["sync_directory"]))) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_training_does_not_wait(outcomes: dict[str, dict[str, Any]], kind: str) -> None:
    """The server can hold up neither a row nor the exit of the program."""
    assert outcomes[kind]["p99"] < 1.0
    assert outcomes[kind]["exit"] < outcomes["refuse"]["exit"] + 15.0


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """W&B's own process may flush its file a moment after `finish`."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def test_a_run_with_wandb_is_the_run_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the same agent; the offline run holds what was recorded, and pictures."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    picture = np.zeros((6, 6, 3), np.uint8)
    (tmp_path / "film.gif").write_bytes(b"GIF89a not looked at")

    def hook(agent: Any, step: int) -> dict[str, Any]:
        return {"eval/score": 1.5, "eval/map": picture, "eval/film": tmp_path / "film.gif"}

    digests = []
    said: list[str] = []
    tracker = WandbTracker(tmp_path, finish_timeout=60.0, say=said.append)
    for trackers in ([], [tracker]):
        callback = TrackerCallback(
            trackers,
            config={"seed": 0, "nested": {"a": [1]}},
            periodic=[(30, hook)],
            say=said.append,
        )
        agent = make("sb3-sac", seed=0).learn(90, callback=callback, log_interval=1)
        digests.append(digest(agent))
    assert digests[0] == digests[1]
    assert len(said) == 1 and f"wandb sync {tracker.sync_directory}" in said[0]
    wait_for(lambda: "*" in read_metrics(tracker.sync_directory), seconds=20.0)
    rows = read_history(tracker.sync_directory)
    assert read_metrics(tracker.sync_directory)["*"] == "env_steps"
    keys = {key for row in rows for key in row}
    assert {"rollout/ep_rew", "rollout/ep_rew_mean", "train/actor_loss", "time/fps"} <= keys
    assert {"eval/score", "eval/map/path", "eval/film/path"} <= keys
    assert [r["env_steps"] for r in rows if "eval/score" in r] == [30, 60, 90]
    assert all("env_steps" in row for row in rows)
    assert list(tracker.sync_directory.glob("files/media/images/**/*.png"))


def fake_wandb(broken: str, error: BaseException) -> types.ModuleType:
    """A module like wandb in which one call raises."""
    module = types.ModuleType("wandb")

    def call(name: str, result: Any = None) -> Any:
        def made(*arguments: Any, **keywords: Any) -> Any:
            if name == broken:
                raise error
            return result

        return made

    run = types.SimpleNamespace(
        settings=types.SimpleNamespace(sync_dir="runs/wandb/offline-run-1"),
        url="",
        log=call("log"),
        define_metric=call("define_metric"),
        finish=call("finish"),
    )
    module.init = call("init", run)  # type: ignore[attr-defined]
    for name in ("setup", "Settings", "Image", "Video", "Histogram"):
        setattr(module, name, call(name))
    return module


@pytest.mark.parametrize(
    "broken",
    ["setup", "Settings", "init", "define_metric", "log", "Image", "Video", "Histogram", "finish"],
)
@pytest.mark.parametrize("error", [RuntimeError("broken\nin two lines"), SystemExit(1)])
def test_whatever_raises_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    """An exception from W&B is printed once for each method; nothing reaches the training."""
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(broken, error))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    said: list[str] = []
    tracker = Trackers([WandbTracker(tmp_path, mode="offline", say=said.append)], said.append)
    tracker.start({})
    for step in range(3):
        tracker.log({"a": step, "h": np.arange(4)}, step)
        tracker.image("i", np.zeros((2, 2, 3), np.uint8), step)
        tracker.video("v", np.zeros((2, 4, 4, 3), np.uint8), step)
    tracker.finish()
    tracker.finish()
    trouble = [line for line in said if "W&B: offline," not in line]
    assert len(trouble) == (3 if broken == "log" else 1) and "\n" not in "".join(trouble)
    assert all(line.startswith("WandbTracker.") for line in trouble)


def test_a_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    """A new tracker of the same folder continues the run; that of another folder begins one."""
    config = TrainConfig("Pendulum-v1").to_dict()
    options = [WandbTracker.for_run(tmp_path / name, config)._options for name in ("a", "a", "b")]
    assert options[0] == options[1] and options[0]["resume"] == "allow"
    assert options[0]["id"] != options[2]["id"]


def test_without_the_module_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb not installed: one line that says so."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    said: list[str] = []
    tracker = Trackers([WandbTracker(tmp_path, mode="offline")], said.append)
    tracker.start({})
    tracker.log({"a": 1}, 1)
    tracker.finish()
    assert len(said) == 1 and said[0].startswith("WandbTracker.start: ")
    assert said[0].endswith("training goes on")


def test_wandb_mode_only_takes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WANDB_MODE may keep a run from the network, not put it there; unknown modes are named."""
    for mode, environment, expected in [
        ("online", "", "online"),
        ("online", "offline", "offline"),
        ("offline", "online", "offline"),
        ("online", "dryrun", "offline"),
        ("offline", "disabled", "disabled"),
    ]:
        assert stricter_mode(mode, environment) == expected
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WandbTracker(tmp_path)
    tracker.start({})
    tracker.log({"a": 1}, 1)
    tracker.finish()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="mode: got 'onlin', did you mean 'online'"):
        WandbTracker(tmp_path, mode="onlin")


def test_files_and_alerts_reach_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as one artifact named after the run, an alert, and a run that ends as failed."""
    calls: list[Any] = []
    module = fake_wandb("", RuntimeError())
    artifact = types.SimpleNamespace(
        add_file=lambda path, name: calls.append((Path(path).read_text(), name))
    )
    module.Artifact = lambda name, kind: calls.append((name, kind)) or artifact  # type: ignore[attr-defined]
    run = module.init()  # type: ignore[attr-defined]
    run.id = "abcd"
    run.log_artifact = lambda made: calls.append(made is artifact)
    run.alert = lambda title, text, level: calls.append((title, text, level))
    run.finish = lambda exit_code: calls.append(exit_code)
    monkeypatch.setitem(sys.modules, "wandb", module)
    (tmp_path / "config.json").write_text("{}")
    tracker = WandbTracker(tmp_path, mode="offline", say=lambda line: None)
    tracker.start({})
    tracker.keep("checkpoint", "model", {"config.json": tmp_path / "config.json"})
    tracker.alert("first failed", "step 7: reward is NaN")
    tracker.finish()
    assert calls == [
        ("checkpoint-abcd", "model"),
        ("{}", "config.json"),
        True,
        ("first failed", "step 7: reward is NaN", "ERROR"),
        1,
    ]
