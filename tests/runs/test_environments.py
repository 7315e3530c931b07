"""Environments of others: faults are named, their words are theirs, finished runs stay so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner

from tests.lab.processes import wait_for
from tests.runs.odd import Odd, odd, odd_id
from vaerl.cli import app
from vaerl.disk.errors import EnvironmentFault
from vaerl.envs import ENVIRONMENTS
from vaerl.envs.making import declared, make_env
from vaerl.report import report
from vaerl.report.pictures import Painter
from vaerl.runs import RunDirectory
from vaerl.runs.collect import CollectConfig
from vaerl.runs.drivers import record as collect
from vaerl.runs.evaluate import evaluate
from vaerl.runs.train import train
from vaerl.runs.vec import make_vec
from vaerl.runs.video import record

FAULTS = {
    "step raises": "'test/Odd-.*-v0': step 12 raised KeyError: 'left leg'",
    "a value error": "'test/Odd-.*-v0': step 12 raised ValueError: not a line",
    "step returns four": r"step 12 raised ValueError: not enough values to unpack .*; it must "
    r"return \(observation, reward, terminated, truncated, info\)",
    "step returns None": "step 12 raised TypeError: .*; it must return",
    "reward None": "step 12 raised TypeError: .*; it must return",
    "reward NaN": "step 12: reward is NaN; the last one was 1$",
    "observation inf": r"step 12: observation\[0\] is inf; the last finite value was 0$",
    "another shape": r"step 12 returned an observation of shape \(2,\), expected \(1,\)",
    "exits in Python": "step 12 raised SystemExit: 0",
    "an error without words": "step 12 raised Wordless$",
    "reward text": "step 12: reward is '1'; the last one was 1$",
    "end None": "step 12 returned None for the end of an episode, expected True or False",
    "observation text": "step 12 returned an observation of type <U1, expected real numbers",
    "ragged": r"step 12 returned an observation of \[\[1\], \[1, 2\]\]$",
    "info None": "step 12 returned an info of type NoneType, not dict",
    "reset raises": "reset after 8 steps raised RuntimeError: the door is shut",
    "reset returns no info": r"reset after 0 steps returned array\(.*; it must return",
    "raises when made": "'test/Odd-.*-v0' cannot be made: RuntimeError: no licence",
}


@pytest.mark.parametrize("agent", ["sac", "ppo"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_environment_call_and_step(fault: str, agent: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=FAULTS[fault]) as caught:
        train(odd(tmp_path / "run", fault, agent, eval_every=0))
    assert "\n" not in str(caught.value)
    if (tmp_path / "run").exists():
        assert RunDirectory(tmp_path / "run").status()["state"] == "failed"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recording_names_it_too(fault: str, tmp_path: Path) -> None:
    """And keeps the episodes before it."""
    config = CollectConfig(odd_id(fault), random=True, episodes=3, out=str(tmp_path / "data"))
    with pytest.raises(EnvironmentFault, match=FAULTS[fault]):
        collect(config)
    kept = list((tmp_path / "data").glob("episode-*.npz"))
    assert len(kept) == ("made" not in fault and "no info" not in fault)


def test_a_recording_cuts_endless_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("drivers", "evaluate"):
        monkeypatch.setattr(f"vaerl.runs.{module}.EPISODE_LIMIT", 30)
    config = CollectConfig(odd_id("never ends"), random=True, episodes=2, out=str(tmp_path / "d"))
    assert [len(e.actions) for e in collect(config)] == [30, 30]
    assert "2 of 2 episodes did not end and were cut after 30 steps" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["raises when made", "reset returns no info", "no such fault"])
def test_bad_options_are_refused_before_a_folder_is_made(fault: str, tmp_path: Path) -> None:
    """Also those that the environment looks at when it is reset."""
    name = "no" if "such" in fault else "fault"
    with pytest.raises(ValueError, match=rf"^env_options: got {{'{name}': .*Odd.*: \w+: "):
        train(odd(tmp_path / "run", "", env_options={name: fault}))
    assert not (tmp_path / "run").exists()


def test_the_copy_and_the_code_are_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"-v0 \(copy 0\)': step 12 raised"):
        train(odd(tmp_path / "run", "step raises", n_envs=2))
    words = ["--env", odd_id("step raises"), "--debug"]
    result = CliRunner().invoke(app, ["train", "ppo", *words, "--out", str(tmp_path / "typed")])
    assert result.exit_code == 1 and "internal" not in result.stderr
    assert (
        "vaerl: env 'test/Odd-step-raises-v0': step 12 raised KeyError: 'left leg'" in result.stderr
    )


WORKERS = {
    "exits": "its process ended with code 7; its words are above",
    "exits in Python": "step 12 raised SystemExit: 0",
    "step raises": "step 12 raised KeyError: 'left leg'",
    "hangs": "no answer within 4 s; worker_timeout sets the limit",
    "info that cannot be sent": ".*[Pp]ickle.*",
}


@pytest.mark.parametrize("fault", WORKERS)
def test_a_worker_that_fails_is_named(fault: str, tmp_path: Path) -> None:
    """With its own words, in time, and its own traceback in the run's folder."""
    config = odd(tmp_path / "run", fault, n_envs=2, subprocess=True, eval_every=0, worker_timeout=4)
    name = rf"^env '{odd_id(fault)} \(copy [01]\)': "
    with pytest.raises(EnvironmentFault, match=name + WORKERS[fault]) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    if "raises" in fault:
        assert 'KeyError("left leg")' in (tmp_path / "run" / "error.txt").read_text()


@pytest.mark.parametrize("fault", ["step raises", "hangs"])
def test_a_worker_may_restart(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its episode is cut, a line says so; when restarts are used up, the fault is raised."""
    name = odd_id(fault)
    env = make_vec(name, 1, seed=0, subprocess=True, timeout=4, restarts=1)
    env.reset()
    action = np.zeros((1, 1), np.float32)
    rows = [env.step(action) for _ in range(12 + 11)]
    cut = [at for at, (*_, infos) in enumerate(rows) if infos[0]["TimeLimit.truncated"]]
    assert cut == [11] and rows[11][2].all()
    assert rows[11][3][0]["terminal_observation"].shape == (1,)
    assert "; begun anew, 0 restarts are left\n" in capsys.readouterr().err
    with pytest.raises(EnvironmentFault, match=f"^env '{name}': {WORKERS[fault]}"):
        env.step(action)
    env.close()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("", "no video: "),
        (
            "render raises",
            "no video: EnvironmentFault: env 'test/Odd-render-raises-v0': render after",
        ),
        (
            "render returns text",
            "no video: ValueError: env 'test/Odd-render-returns-text-v0' cannot draw itself",
        ),
        ("render exits", "-v0': render after 0 steps raised SystemExit: 4"),
        ("render returns nothing", "render gave a picture of shape (0, 0, 3), expected pixels"),
        ("render grows", "picture of shape (9, 8, 3), expected (8, 8, 3) as before"),
        ("close raises", "-v0': close raised OSError: stuck"),
        ("close exits", "-v0': close raised SystemExit: 0"),
        ("words", "no video: "),
    ],
)
def test_what_only_looks_cannot_fail_a_run(
    fault: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rendering, closing and words of the environment's own; the report is written as well."""
    run = train(odd(tmp_path / "run", fault, picture_every=16), painter=Painter)
    assert run.status()["state"] == "finished" and not (run.path / "error.txt").exists()
    printed = capsys.readouterr().err
    assert line in printed and "Traceback" not in printed
    evaluation = run.evaluation()
    assert evaluation is not None and evaluation["stochastic"]["goals"] == [-1, -1]
    assert "num_modes" not in evaluation["stochastic"]
    assert "success_rate" not in evaluation["stochastic"]
    assert report(run, tmp_path / "report.html").stat().st_size > 1000


def test_an_environment_may_change_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the process; the run stays where it was begun."""
    monkeypatch.chdir(tmp_path)
    run = train(odd(Path("run"), "moves"))
    assert Path.cwd() == Path("/")
    assert run.status()["state"] == "finished" and (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.parametrize("space", [None, spaces.Text(5), spaces.Sequence(spaces.Discrete(2))])
def test_observations_that_are_no_arrays_are_refused(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Odd, "observation_space", space)
    with pytest.raises(ValueError, match=r"observation_space: got .*, expected a Box, Discrete, "):
        make_vec(odd_id(""))


class BadPainter(Painter):
    def rollouts(self, result: Any, step: int) -> Any:
        raise MemoryError("too large")


def test_a_picture_that_fails_loses_no_score(tmp_path: Path) -> None:
    run = train(odd(tmp_path / "run", "", video=False), painter=BadPainter)
    assert run.status()["state"] == "finished"
    assert run.series("eval/return_mean")[1].tolist() == [8.0, 8.0]


def test_every_environment_of_ours_declares_its_interface() -> None:
    for name in ENVIRONMENTS:
        if name != "vaerl/CubePads-v0":  # needs an extra
            assert declared(make_env(name)) is not None, name


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_whole_group_ends_workers_in_order(name: str, tmp_path: Path) -> None:
    """As a queue or a closed terminal sends it: the training is stopped and its state saved."""
    config = odd(tmp_path / "run", "", env="Pendulum-v1", steps=10**6, eval_every=0, n_envs=2)
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "subprocess": True}))
    script = (
        "import json; from vaerl.runs.config import TrainConfig; from vaerl.runs.train import train"
        "\ntrain(TrainConfig.from_dict(json.load(open('config.json'))), on_step=lambda step: "
        "open('begun', 'w').close())"
    )
    with (tmp_path / "printed").open("w") as printed:
        parent = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            stderr=printed,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    wait_for((tmp_path / "begun").exists)
    os.killpg(parent.pid, getattr(signal, name))
    assert parent.wait(120) == 0, (tmp_path / "printed").read_text()
    status = RunDirectory(tmp_path / "run").status()
    assert status["state"] == "stopped" and status["steps"] > 0
    assert list((tmp_path / "run").glob("checkpoints/*/manifest.json"))
    assert "Traceback" not in (tmp_path / "printed").read_text()
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.killpg(parent.pid, 0) is not None, 10)


class Still:
    """An agent that does nothing."""

    def predict(self, observation: np.ndarray, *, deterministic: bool = False) -> Any:
        return np.zeros((len(observation), 1), np.float32), None


def test_an_endless_episode_is_cut_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(fault: str, **options: Any) -> Any:
        return evaluate(Still(), odd_id(fault), episodes=3, seed=0, env_options=options)

    monkeypatch.setattr("vaerl.runs.evaluate.EPISODE_LIMIT", 30)
    endless = found("never ends")
    assert endless.lengths.tolist() == [30, 30, 30] and endless.cut == 3
    assert "3 of 3 episodes did not end and were cut after 30 steps" in endless.note
    assert found("").cut == 0 and found("").note == ""
    own = found("never ends", max_episode_steps=40)
    assert own.lengths.tolist() == [40, 40, 40] and own.cut == 0
    with pytest.raises(ValueError, match="max_episode_steps: got -1, expected a whole number"):
        found("never ends", max_episode_steps=-1)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("during", ["training", "evaluation", "final evaluation", "video"])
def test_signals_are_heeded_everywhere(
    name: str, during: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status says how the run ended, and `resume` makes what is missing."""
    number = getattr(signal, name)
    before, sent = signal.getsignal(number), []

    def send(here: bool) -> None:
        if here and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    def spying(plain: Any, when: Any) -> Any:
        def spy(*given: Any, **options: Any) -> Any:
            send(when(options))
            return plain(*given, **options)

        return spy

    episodes = {"evaluation": 1, "final evaluation": 2}.get(during)
    watched = spying(evaluate, lambda options: options["episodes"] == episodes)
    monkeypatch.setattr("vaerl.runs.train.evaluate", watched)
    monkeypatch.setattr(
        "vaerl.runs.train.record", spying(record, lambda options: during == "video")
    )
    config = odd(tmp_path / "run", "")
    run = train(config, on_step=lambda step: send(during == "training"))
    assert sent and signal.getsignal(number) is before
    if during != "video":
        assert run.status()["state"] == "stopped" and run.evaluation() is None
        assert (run.status()["steps"] == 32) == (during == "final evaluation")
        run = train(config, resume=True)
    assert run.status()["state"] == "finished" and run.evaluation() is not None
