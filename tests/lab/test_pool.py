"""Work runs side by side; failures stay with their item, and workers end with their parent."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.lab.processes import is_alive, start_parent, wait_for
from vaerl.lab.pool import Tick, make_executor


def invert(value: float, tick: Tick) -> float:
    """1 / value, which fails at 0; half of the progress is reported."""
    tick(0.5)
    return 1.0 / value


def sleep(seconds: float, tick: Tick) -> None:
    """Work that takes its time."""
    Path(f"began-{os.getpid()}").touch()
    time.sleep(seconds)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_item_does_not_stop_the_others(jobs: int) -> None:
    shown = {}
    ends = make_executor(jobs).run(invert, [2.0, 0.0, 4.0], shown.__setitem__)
    found = {end.place: end for end in ends}
    assert (found[0].value, found[2].value) == (0.5, 0.25)
    assert isinstance(found[1].error, ZeroDivisionError)
    assert shown == {0: 0.5, 1: 0.5, 2: 0.5}


def test_fewer_than_one_job_is_refused() -> None:
    with pytest.raises(ValueError, match="jobs: got 0"):
        make_executor(0)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Those that work and those that wait."""
    parent, workers = start_parent(tmp_path, sleep, [600.0, 0.01])
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(is_alive, workers)))


def test_an_interrupt_stops_all_work(tmp_path: Path) -> None:
    """Items that wait do not begin."""
    parent, workers = start_parent(tmp_path, sleep, [600.0] * 4)
    wait_for(lambda: len(list(tmp_path.glob("began-*"))) == 2)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(60) != 0
    assert not any(map(is_alive, workers))
