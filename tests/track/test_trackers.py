"""Trackers and the callback: everything recorded arrives, and nothing about training changes."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, Image, KVWriter, Logger, Video

from tests.runs.faulty import FaultyOs
from tests.runs.tiny import digest, make
from vaerl.checkpoint import find_checkpoint
from vaerl.checkpoint.read import list_checkpoints
from vaerl.disk import files
from vaerl.runs import RunDirectory
from vaerl.runs.callback import TrackerCallback
from vaerl.track import JsonlTracker, TensorBoardTracker, Trackers, media


class Notebook:
    """A tracker that remembers every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, arguments))

    def logged(self, key: str) -> list[tuple[int, Any]]:
        """(step, value) of every row that holds `key`."""
        return [(a[1], a[0][key]) for n, a in self.calls if n == "log" and key in a[0]]


class Recorder(KVWriter):
    """A user's own writer."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
        self.rows.append((step, dict(key_values)))

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.mark.parametrize("name", ["sb3-sac", "sb3-ppo", "sb3-a2c"])
def test_all_that_the_algorithm_records_arrives(name: str, notebook: Notebook) -> None:
    """Every key of the algorithm's own log arrives under that key and step; its writers stay."""
    agent = make(name, seed=0)
    theirs = Recorder()
    agent.set_logger(Logger(None, [theirs]))
    agent.learn(80, callback=TrackerCallback([notebook], config={"a": 1}), log_interval=1)
    assert agent.logger.output_formats == [theirs] and theirs.rows
    for step, row in theirs.rows:
        for key, value in row.items():
            assert (step, value) in notebook.logged(key), key
    assert notebook.calls[0] == ("start", ({"a": 1},)) and notebook.calls[-1] == ("finish", ())
    assert len(notebook.logged("train/n_updates")) > 0


def test_episodes_arrive_as_they_end(notebook: Notebook) -> None:
    """Returns come at the step where the episode ended, not at the algorithm's next dump."""
    agent = make("sb3-sac", seed=0)
    agent.learn(65, callback=TrackerCallback([notebook], log_every=1), log_interval=1000)
    rows = notebook.logged("rollout/ep_rew")
    assert [step for step, _ in rows] == [20, 40, 60]
    np.testing.assert_allclose([r for _, r in rows], [e["r"] for e in agent.ep_info_buffer])
    assert [value for _, value in notebook.logged("rollout/ep_len")] == [20, 20, 20]
    assert all(value > 0 for _, value in notebook.logged("time/sps"))
    notebook.calls.clear()
    agent.learn(80, callback=TrackerCallback([notebook], log_every=40))
    assert [step for step, _ in notebook.logged("rollout/ep_rew")] == [40, 80]
    assert [value for _, value in notebook.logged("rollout/episodes")] == [2, 2]


def test_looking_at_the_agent_does_not_change_training(tmp_path: Path, notebook: Notebook) -> None:
    """Checkpoints, hooks that draw from every generator, trackers: the same agent bit for bit."""

    def greedy(agent: Any, step: int) -> dict[str, float]:
        torch.rand(5), random.random(), np.random.rand(3)  # noqa: NPY002
        agent.action_space.sample()
        agent.predict(np.zeros((3, 2), np.float32))
        return {"eval/x": float(step)}

    plain = make("sb3-sac", seed=0).learn(60)
    callback = TrackerCallback(
        [notebook, JsonlTracker(tmp_path / "metrics.jsonl")],
        checkpoints=tmp_path / "checkpoints",
        checkpoint_every=20,
        include_replay=True,
        periodic=[(15, greedy)],
    )
    watched = make("sb3-sac", seed=0).learn(60, callback=callback)
    assert digest(watched) == digest(plain)
    assert [step for step, _ in notebook.logged("eval/x")] == [15, 30, 45, 60]
    saved = [int(p.name.split("-")[0]) for p in list_checkpoints(tmp_path / "checkpoints")]
    assert saved == [60, 40, 20]
    assert callback.last_checkpoint == find_checkpoint(tmp_path / "checkpoints").path


def test_checkpoints_lie_on_rollout_boundaries(tmp_path: Path) -> None:
    """An on-policy agent is saved where a rollout starts, and once more at the end."""
    callback = TrackerCallback(checkpoints=tmp_path, checkpoint_every=20, keep_last=None)
    make("sb3-ppo", seed=0).learn(80, callback=callback)
    saved = sorted(int(p.name.split("-")[0]) for p in list_checkpoints(tmp_path))
    assert saved == [32, 48, 64, 80]  # the first boundary after 20, 40, 60, and the end


def test_hooks_may_return_pictures_and_may_fail(notebook: Notebook, tmp_path: Path) -> None:
    """Files and pixels go where they belong; a hook that raises is said once."""
    said: list[str] = []

    def pictures(agent: Any, step: int) -> dict[str, Any]:
        return {
            "number": 1,
            "a": tmp_path / "a.png",
            "b": "b.mp4",
            "c": np.zeros((2, 2, 3), np.uint8),
            "d": np.zeros((4, 2, 2, 3), np.uint8),
        }

    def broken(agent: Any, step: int) -> dict[str, Any]:
        raise RuntimeError("no\nmap")

    hooks = [(20, pictures), (10, broken)]
    make("sb3-sac").learn(40, callback=TrackerCallback([notebook], periodic=hooks, say=said.append))
    kinds = [(n, a[0]) for n, a in notebook.calls if n in ("image", "video")]
    assert kinds == 2 * [("image", "a"), ("video", "b"), ("image", "c"), ("video", "d")]
    assert said == ["broken: RuntimeError: no map; training goes on"]


def test_pictures_in_the_algorithms_log_arrive(notebook: Notebook) -> None:
    """stable-baselines3's Image, Figure and Video become pixels."""
    from matplotlib.figure import Figure as Drawing

    class Draw(BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("i", Image(torch.zeros(3, 4, 5), "CHW"), exclude="stdout")
            self.logger.record("f", Figure(Drawing(figsize=(1, 1)), close=True), exclude="stdout")
            self.logger.record("v", Video(torch.zeros(1, 6, 3, 4, 5), fps=5), exclude="stdout")
            return True

    make("sb3-ppo").learn(16, callback=[TrackerCallback([notebook]), Draw()])
    shapes = {a[0]: a[1].shape for n, a in notebook.calls if n in ("image", "video")}
    assert shapes == {"i": (4, 5, 3), "f": (100, 100, 3), "v": (6, 4, 5, 3)}


class Interrupt(BaseCallback):
    """Sends this process a signal at one step."""

    def __init__(self, at: int, number: int = signal.SIGINT, times: int = 1) -> None:
        super().__init__()
        self.at, self.number, self.times = at, number, times

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)
                time.sleep(0.01)  # two at once may count as one: let the handler run in between
        return True


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """The process's handlers, compared afterwards; SIGINT, which a shell may ignore, as usual."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in numbers]
    yield before
    assert [signal.getsignal(number) for number in numbers] == before
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "short", "ended", "saved"),
    [("sb3-sac", 1, 42, 41), ("sb3-ppo", 16, 49, 48), ("sb3-ppo", 15, 41, 32)],
)
def test_a_signal_ends_training_with_a_consistent_checkpoint(
    tmp_path: Path,
    handlers: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    name: str,
    short: int,
    ended: int,
    saved: int,
) -> None:
    """It is the agent at the end of a short roll-out, or at the start of a long one."""
    monkeypatch.setattr("vaerl.runs.callback.SHORT", short)
    said: list[str] = []
    callback = TrackerCallback(checkpoints=tmp_path, say=said.append)
    agent = make(name, seed=0)
    agent.learn(80, callback=[Interrupt(41, number), callback])
    assert callback.stopped_by == signal.Signals(number).name and len(said) == 1
    assert agent.num_timesteps == ended
    found = find_checkpoint(tmp_path)
    assert found.num_timesteps == saved
    whole = make(name, seed=0).learn(saved)
    for key, tensor in whole.policy.state_dict().items():
        assert torch.equal(found.tensors[f"modules/policy/{key}"], tensor), key
    agent.learn(20, reset_num_timesteps=False)  # the environment starts anew


def test_a_second_signal_is_obeyed_at_once(tmp_path: Path, handlers: list[Any]) -> None:
    """Ctrl-C twice is a KeyboardInterrupt, and the handlers are given back."""
    callback = TrackerCallback(checkpoints=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make("sb3-sac").learn(80, callback=[Interrupt(33, times=2), callback])
    callback.close()


def test_a_full_disk_costs_checkpoints_not_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a cause; the last good checkpoint stays; when there is room again, it goes on."""

    class Disk(FaultyOs):
        full = False

        def _before(self, call: str) -> None:
            if self.full and call == "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk = Disk()
    monkeypatch.setattr(files, "os", disk)

    def fill(agent: Any, step: int) -> None:
        disk.full = 20 < step < 60

    said: list[str] = []
    callback = TrackerCallback(
        [JsonlTracker(tmp_path / "metrics.jsonl")],
        checkpoints=tmp_path / "checkpoints",
        checkpoint_every=10,
        periodic=[(10, fill)],
        keep_last=None,
        log_every=1,
        say=said.append,
    )
    agent = make("sb3-sac").learn(80, callback=callback)
    assert agent.num_timesteps == 80 and not callback.last_save_failed
    saved = sorted(int(p.name.split("-")[0]) for p in list_checkpoints(tmp_path / "checkpoints"))
    assert saved == [10, 20, 60, 70, 80]
    assert len(said) == 2 and all(line.endswith("training goes on") for line in said)
    assert "last good one is 000000020-" in next(line for line in said if "checkpoint" in line)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["global_step"] for r in rows if "rollout/ep_rew" in r] == [20, 80]


def test_what_cannot_be_saved_is_said_before_training(tmp_path: Path) -> None:
    """An agent that no checkpoint can hold stops before its first step."""
    agent = make("sb3-ppo", learning_rate=lambda progress: 1e-3)
    with pytest.raises(ValueError, match=r"learning_rate: .* is not pure data"):
        agent.learn(80, callback=TrackerCallback(checkpoints=tmp_path))
    assert agent.num_timesteps == 0


def test_trackers_that_fail_are_said_once(tmp_path: Path) -> None:
    """Every method of every tracker may raise at every call."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fail(*arguments: Any) -> None:
                raise OSError("no network")

            return fail

    said: list[str] = []
    callback = TrackerCallback([Broken(), JsonlTracker(tmp_path / "m.jsonl")], say=said.append)
    make("sb3-sac").learn(60, callback=callback, log_interval=1)
    assert sorted(said) == sorted(
        f"Broken.{call}: no network; training goes on" for call in ("start", "log", "finish")
    )
    assert callback.trackers.failures.total() > 3 and (tmp_path / "m.jsonl").stat().st_size > 0


def test_metrics_on_disk_are_rows_against_steps(tmp_path: Path) -> None:
    """Numbers of every kind arrive as numbers; time goes on after a resume."""
    run = RunDirectory(tmp_path / "run").create({})
    tracker = JsonlTracker(run.metrics_path)
    tracker.start({})
    values = {
        "a": np.float32(1.5),
        "b": torch.tensor(2.0),
        "c": np.array([3]),
        "d": float("inf"),
        "e": True,
        "text": "on",
        "histogram": np.arange(4),
        "object": object(),
    }
    tracker.log(values, 5)
    tracker.log({"histogram": np.arange(4)}, 6)
    tracker.finish()
    (row,) = run.metrics()
    assert row.pop("time") >= 0
    assert row == {
        "global_step": 5, "a": 1.5, "b": 2.0, "c": 3, "d": np.inf, "e": True, "text": "on"
    }  # fmt: skip
    files.write_text(run.metrics_path, '{"global_step": 5, "time": 100.0}\n')
    tracker.start({})
    tracker.log({"a": 1}, 6)
    tracker.finish()
    assert run.metrics()[1]["time"] >= 100.0


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """Scalars, texts, histograms, pictures and videos are in the event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    frames = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    files.write_bytes(tmp_path / "film.gif", media.gif_bytes(frames))
    tracker = TensorBoardTracker(tmp_path / "tensorboard")
    with pytest.raises(RuntimeError, match="not started"):
        tracker.log({"a": 1}, 1)
    tracker.start({})
    tracker.log({"a": 1.5, "note": "x", "h": np.arange(9.0), "object": object()}, 3)
    tracker.image("picture", frames[0], 4)
    tracker.video("film", frames, 5)
    tracker.video("again", tmp_path / "film.gif", 6)
    with pytest.raises(ValueError, match=r"picture: got .* of float64, expected \(H, W, 3\)"):
        tracker.image("picture", np.zeros((8, 8)), 4)
    tracker.finish()
    tracker.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["a"] and tags["histograms"] == ["h"]
    assert set(tags["images"]) == {"picture", "film", "again"}
    (scalar,) = events.Scalars("a")
    assert (scalar.step, scalar.value) == (3, 1.5)
    assert events.Images("film")[0].encoded_image_string[:3] == b"GIF"


def test_trackers_together_speak_to_each(notebook: Notebook) -> None:
    """An empty row is no row."""
    other = Notebook()
    both = Trackers([notebook, other])
    both.log({}, 1)
    both.log({"a": 1}, 2)
    both.image("i", "x.png", 3)
    assert notebook.calls == other.calls == [("log", ({"a": 1}, 2)), ("image", ("i", "x.png", 3))]
