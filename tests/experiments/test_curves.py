"""Learning curves beside stable-baselines3: what is trained, kept and put into the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stable_baselines3 import SAC as SB3SAC

from vaerl.agents import SAC
from vaerl.disk import jsonio
from vaerl.experiments.curves.experiment import CURVES, run
from vaerl.lab.comparison import DEBUG_STEPS, Cell, assemble


def test_both_learners_have_the_same_defaults() -> None:
    """SB3's own agent and ours, with nothing tuned for either."""
    made = {name: make(env="Pendulum-v1", buffer_size=10) for name, make in CURVES.learners.items()}
    assert [type(agent) for agent in made.values()] == [SB3SAC, SAC]
    for option in ("learning_rate", "batch_size", "gamma", "tau", "learning_starts"):
        assert len({getattr(agent, option) for agent in made.values()}) == 1, option


def keep(out: Path, cell: Cell, changes: dict[str, object] | None = None) -> Path:
    """A finished training on disk."""
    result = {
        "cell": CURVES.record(cell),
        "curve": [[800.0, -900.0], [8000.0, -150.0]],
        "evaluation": -150.0,
        "cpu_seconds": 80.0,
    }
    path = cell.path(out)
    path.parent.mkdir(exist_ok=True)
    path.write_text(jsonio.dumps(result | (changes or {})))
    return path


def test_a_finished_training_is_kept(tmp_path: Path) -> None:
    """Two episodes of Pendulum are two points; the second call trains nothing.

    The full run of the same learner and seed in the same folder is left alone by both.
    """
    full = keep(tmp_path, Cell("Pendulum-v1", "vaerl", 0, CURVES.steps["Pendulum-v1"]))
    assert full.name == "Pendulum-v1-vaerl-s0.json", "as those that exist are named"
    before_full = full.read_bytes()
    record = json.loads(run(tmp_path, "debug", learners=["vaerl"], jobs=1).read_text())
    points = record["data"]["Pendulum-v1 vaerl seed 0"]
    assert len(points) == 2 and all(-2000.0 < value < 0.0 for _, value in points)
    assert record["command"] == "vaerl experiment curves --preset debug --learners vaerl"
    assert full.read_bytes() == before_full
    path = Cell("Pendulum-v1", "vaerl", 0, DEBUG_STEPS).path(tmp_path)
    before = path.stat().st_mtime_ns
    run(tmp_path, "debug", learners=["vaerl"], jobs=1)
    assert path.stat().st_mtime_ns == before
    assert (tmp_path / "figures" / "curves.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="did you mean 'vaerl'"):
        run(tmp_path, "debug", learners=["vaer"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cell": {"env": "Pendulum-v1", "steps": 7}}, "got a training of"),
        ({"curve": []}, "of another form"),
        ({"curve": [[1.0, 2.0], 3.0]}, "of another form"),
        ({"curve": "ab"}, "of another form"),
        ({"evaluation": None}, "of another form"),
    ],
)
def test_a_damaged_training_is_one_line(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """It is named, and neither used nor replaced."""
    path = keep(tmp_path, Cell("Pendulum-v1", "SB3", 0, DEBUG_STEPS), changes)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"SB3-s0-450-steps.json: .*{words}"):
        run(tmp_path, "debug", learners=["SB3"], jobs=1)
    assert path.read_bytes() == before


def test_a_training_of_other_settings_names_what_differs(tmp_path: Path) -> None:
    cell = Cell("Pendulum-v1", "vaerl", 0, DEBUG_STEPS)
    keep(tmp_path, cell)
    path = cell.path(tmp_path)
    path.write_text(path.read_text().replace('"gaussian"', '"cvae"'))
    with pytest.raises(ValueError, match=r"another --out: arguments: got .*cvae"):
        run(tmp_path, "debug", learners=["vaerl"], jobs=1)


def test_half_a_file_is_one_line(tmp_path: Path) -> None:
    path = keep(tmp_path, Cell("Pendulum-v1", "SB3", 0, CURVES.steps["Pendulum-v1"]))
    for text in ("", path.read_text()[:40], '{"cell": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"SB3-s0\.json: .*delete it"):
            run(tmp_path, envs=["Pendulum-v1"], learners=["SB3"], seeds=[0], jobs=1)


def test_options_that_are_not_legal(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds: got -1, expected a whole number from 0"):
        run(tmp_path, "debug", seeds=[-1])
    with pytest.raises(ValueError, match="envs: got 'HalfCheetah-v5' with the preset 'debug'"):
        run(tmp_path, "debug", envs=["HalfCheetah-v5"])
    assert not list(tmp_path.iterdir()), "nothing is written before all is checked"


def test_the_table_averages_over_seeds() -> None:
    """Whole run, last fifth and evaluation, each with Student's interval."""
    results = {
        Cell("Pendulum-v1", "SB3", seed, 1000): {
            "curve": [[500.0, 0.0], [900.0, 10.0 + seed], [1000.0, 20.0 + seed]],
            "evaluation": 30.0,
            "cpu_seconds": 5.0,
        }
        for seed in (0, 2)
    }
    row = assemble(CURVES, results, "command")["rows"][0]
    assert row == ["Pendulum-v1", "SB3", "1,000", "2", "11 ± 8", "16 ± 13", "30 ± 0", "5.0"]
