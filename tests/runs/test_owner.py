"""One process writes to a run, and one that has lost the folder stops and touches nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs.faulty import read_all
from tests.runs.test_train import small
from vaerl.disk.errors import RunFailed
from vaerl.runs import RunDirectory
from vaerl.runs.owner import LOCK, OWNER, Owner
from vaerl.runs.train import train


def moved(run: Path) -> None:
    os.rename(run, run.parent / "moved")


def replaced(run: Path) -> None:
    """Another process trains in a new folder of the same name."""
    shutil.rmtree(run)
    RunDirectory(run).create({"other": True})
    Owner(run)


def robbed(run: Path) -> None:
    """Somebody removes the lock, and another process takes it."""
    (run / LOCK).unlink(missing_ok=True)
    Owner(run)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (shutil.rmtree, "was deleted during the training"),
        (moved, "was deleted during the training"),
        (replaced, "has been taken over by another process"),
        (robbed, "has been taken over by another process"),
    ],
)
def test_an_owner_that_lost_the_folder_stops_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: Callable[[Path], None],
    message: str,
) -> None:
    """It ends with one line, long before the last step, and leaves alone what is there now."""
    monkeypatch.setattr("vaerl.runs.callback.GUARD_SECONDS", 0.0)
    monkeypatch.setattr("vaerl.runs.train.PROGRESS_INTERVAL", 0.0)
    left: dict[str, bytes] = {}
    steps: list[int] = []

    def lose(step: int) -> None:
        steps.append(step)
        if step >= 10 and not left:
            loss(tmp_path / "run")
            left.update(read_all(tmp_path), never=b"empty")

    with pytest.raises(RunFailed, match=message):
        train(small(tmp_path / "run", steps=60), on_step=lose)
    assert {**read_all(tmp_path), "never": b"empty"} == left
    assert steps[-1] < 20


def test_the_number_grows_with_every_owner(tmp_path: Path) -> None:
    """Also where the last owner left something else behind."""
    numbers = []
    for _ in range(3):
        with RunDirectory(tmp_path / "run").locked():
            (tmp_path / "run" / "config.json").touch()
            numbers.append(int((tmp_path / "run" / OWNER).read_text().split()[0]))
    assert numbers == [1, 2, 3]
    (tmp_path / "run" / OWNER).write_text("what?")
    assert Owner(tmp_path / "run").number == 1


def test_a_folder_that_was_only_locked_is_gone(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run").locked():
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()


SLEEPER = """
import sys
from vaerl.runs.callback import TrackerCallback
from vaerl.runs.signals import StopSignals
import signal, time
signals = StopSignals()
signals.install()
print("ready", flush=True)
try:
    while True:
        time.sleep(0.01)
        if signals.received:
            print(signals.received, flush=True)
            signals.received = signals.received
            while True:
                time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_second_signal_interrupts_and_the_third_ends(name: str) -> None:
    """So that a run can still say how it ended, and a process that hangs can be ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    number = getattr(signal, name)
    assert process.stdout is not None
    for said in ("ready", name, "interrupted"):
        assert process.stdout.readline() == f"{said}\n"
        process.send_signal(number)
    process.communicate()
    assert process.returncode in (-number, 1)
