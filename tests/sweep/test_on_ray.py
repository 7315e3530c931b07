"""Trials on Ray: what machines do to them does not change what they find."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vaerl.checkpoint.read import find_checkpoint
from vaerl.experiments.scale.machines import Machines, owner_of, start_sweep, wait_until
from vaerl.lab.on_ray import ALONE, SETTINGS, OnRay, check_address
from vaerl.runs import RunDirectory

ROOT = Path(__file__).parents[2]
TRIALS = 5
WORDS = (
    *("ppo", "--env", "gates:Gate-v0", "--density", "gaussian", "--steps", "256"),
    *("--agent-option", "n_steps=64", "--checkpoint-every", "64", "--final-episodes", "1"),
    *("--eval-every", "0", "--picture-every", "0", "--no-video"),
    *("--grid", f"env_options.number={','.join(map(str, range(TRIALS)))}"),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where commands and machines find the environment, with a token for this test."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    paths = (str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    for name, value in {**SETTINGS, **ALONE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run_of(out: Path, number: int) -> RunDirectory:
    """The run of a trial."""
    return RunDirectory(out / f"number={number}-s0")


def state_of(out: Path, number: int) -> str:
    """Finished, running, …; "" before the run has begun."""
    run = run_of(out, number)
    return str(run.status()["state"]) if run.status_path.exists() else ""


def waits(out: Path, number: int) -> bool:
    """Whether a trial has saved step 128, so that it waits at the gate."""
    return bool([*run_of(out, number).checkpoints_path.glob("000000128-*/manifest.json")])


def found(out: Path, number: int) -> dict[str, Any]:
    """The scores of a finished trial, and the parameters of its last checkpoint as bytes."""
    evaluation = run_of(out, number).evaluation()
    assert evaluation is not None
    tensors = find_checkpoint(run_of(out, number).checkpoints_path).tensors
    parameters = {name: value.numpy().tobytes() for name, value in tensors.items()}
    return {kind: evaluation[kind] for kind in ("stochastic", "deterministic")} | parameters


@pytest.mark.slow
def test_lost_workers_and_machines_change_nothing(place: Path) -> None:
    """A worker is killed, a machine leaves, the head restarts: every trial ends as one by itself
    would, bit for bit."""
    for number in (0, 1, 3):
        (place / f"hold-{number}").touch()
    machines, out = Machines(), place / "out"
    on_ray = ("--executor", "ray", "--jobs", "2", "--out", "out", "--ray-address")
    sweep = start_sweep(place, *WORDS, *on_ray, machines.address)
    try:
        wait_until(lambda: waits(out, 0) and waits(out, 1), sweep)
        first = owner_of(run_of(out, 0).path)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: owner_of(run_of(out, 0).path) not in (None, first), sweep)
        machines.remove()
        (place / "hold-0").unlink()
        (place / "hold-1").unlink()
        wait_until(lambda: waits(out, 3), sweep)
        assert state_of(out, 3) == "running"  # when the head goes
    finally:
        machines.stop()
        sweep.kill()
        sweep.wait()
    (place / "hold-3").unlink()
    machines = Machines()
    try:
        again = start_sweep(place, *WORDS, *on_ray, machines.address)
        assert again.wait(600) == 0, (place / "printed").read_text()[-2000:]
    finally:
        machines.stop()

    alone = start_sweep(place, *WORDS, "--jobs", "1", "--out", "alone")
    assert alone.wait(600) == 0, (place / "printed").read_text()[-2000:]
    for number in range(TRIALS):
        assert found(out, number) == found(place / "alone", number)
    assert not (out / ".ray").exists()


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "http://head.example:8265", "head:6379"])
def test_other_machines_need_a_token(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, whoever reaches the cluster may run code there."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with pytest.raises(ValueError, match="without a token, expected RAY_AUTH_MODE=token"):
        check_address(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert check_address(address) == address
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="without a token"):
        check_address(address)


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    with pytest.raises(ImportError, match=r"^--executor ray: .*pip install 'vaerl\[ray\]'$"):
        OnRay(1, "", tmp_path)


def test_a_trial_that_a_machine_took_with_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune may give it up at once, without its settings; what never ends is named at last."""
    done = SimpleNamespace(metrics={"ended": True, "value": 7}, error=None)
    lost = SimpleNamespace(metrics=None, error=RuntimeError("first line\nthe actor is unavailable"))
    asked: list[list[int]] = []

    def fit(self: OnRay, work: Any, items: Any, places: list[int], show: Any) -> list[Any]:
        asked.append(list(places))
        return [
            lost if place == 2 or (place == 1 and len(asked) == 1) else done for place in places
        ]

    monkeypatch.setattr(OnRay, "_fit", fit)
    monkeypatch.setattr(OnRay, "_cluster", lambda self: nullcontext())
    (tmp_path / ".ray").mkdir()
    ends = list(OnRay(1, "", tmp_path).run(lambda item, tick: item, "abc", lambda *_: None))
    assert asked == [[0, 1, 2], [1, 2], [2]]
    assert [end.place for end in ends] == [0, 1, 2] and ends[1].value == 7
    assert "died again and again: the actor is unavailable" in str(ends[2].error)
