"""MBPO on the Control Suite: learners differ in head and weights; a short run makes the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vaerl.experiments.dmc.experiment import HEADS, RARE, TASKS, WEIGHTS, compare, run

pytest.importorskip("shimmy")
pytest.importorskip("dm_control")


def test_learners_differ_in_what_their_names_say() -> None:
    """Head of the model, and weights of what is imagined."""
    made = compare(TASKS, HEADS, WEIGHTS, 20_000, 2, 64)
    settings = {name: dict(make.keywords) for name, make in made.learners.items()}
    for name, own in settings.items():
        head, kind = name.split(" ")
        assert own.pop("dynamics") == head
        assert own.pop("weight_by_uncertainty") is (kind == "weighted")
    generators = {name: own.pop("dynamics_kwargs") for name, own in settings.items()}
    assert generators["cvae plain"] == generators["imle weighted"]
    assert len(settings) == 6
    assert all(own == settings["imle plain"] for own in settings.values())


def test_rare_rewards_are_looked_for_where_they_are_rare() -> None:
    """On pendulum-swingup all learners alike; elsewhere nothing changes."""
    made = compare(TASKS, HEADS, WEIGHTS, 20_000, 2, 64)
    assert all("pendulum-swingup: the reward is regressed" in note for note in made.notes)
    assert made.notes and not compare(TASKS[1:], HEADS, WEIGHTS, 20_000, 2, 64).notes
    for learner in made.learners:
        plain = made.training("dmc/reacher-hard-v0", learner, 0).settings
        rare = made.training("dmc/pendulum-swingup-v0", learner, 0).settings
        assert {**plain, **RARE} == rare != plain
        debug = made.training("dmc/pendulum-swingup-v0", learner, 0, debug=True).settings
        assert debug["reward"] == "regressed" and debug["fit_kwargs"] == {"steps": 5}


def test_rewards_are_regressed_where_asked_for() -> None:
    """On every task; a note says so, and nothing else changes."""
    plain = compare(TASKS, HEADS, WEIGHTS, 20_000, 2, 64)
    made = compare(TASKS, HEADS, WEIGHTS, 20_000, 2, 64, "regressed")
    assert made.notes == (*plain.notes, *(f"{t}: the reward is regressed." for t in TASKS[1:]))
    for env in made.steps:
        for learner in made.learners:
            own = made.training(env, learner, 0).settings
            assert own == {**plain.training(env, learner, 0).settings, "reward": "regressed"}


def test_the_caption_tells_the_updates_of_a_fit() -> None:
    """Of pendulum-swingup alone its own; beside other tasks theirs, and its own in the note."""
    for tasks, updates in ((TASKS[:1], 300), (TASKS[1:], 150), (TASKS, 150)):
        caption = compare(tasks, HEADS, WEIGHTS, 20_000, 2, 64).caption
        assert f"5 members, {updates} updates of the model each 1,000 steps" in caption


def test_a_short_run_makes_the_table(tmp_path: Path) -> None:
    """With the published returns beside; --table then trains nothing."""
    path = run(tmp_path, "debug", heads=["imle"], weights=["weighted"], updates=1)
    record = json.loads(path.read_text())
    assert (
        record["command"]
        == "vaerl experiment dmc --preset debug --heads imle --weights weighted --updates 1"
    )
    assert "5 updates of the model each 200 steps" in record["caption"]
    assert "afterwards. 1 update a step" in record["caption"]
    (row,) = record["rows"]
    assert row[:4] == ["dmc/pendulum-swingup-v0", "imle weighted", "450", "1"]
    assert record["columns"][-2:] == ["WIMLE", "CPU seconds per 1000 steps"] and row[-2] == "–"
    cells = list((tmp_path / "cells").glob("*.json"))
    again = json.loads(run(tmp_path, "debug", updates=1, table=True).read_text())
    assert again["rows"] == record["rows"] and len(cells) == 1


def test_a_table_tells_no_other_settings_than_those_of_its_cells(tmp_path: Path) -> None:
    """Cells of other options, or of another preset, are not in it; what is written stays."""
    path = run(tmp_path, "debug", heads=["gaussian"], weights=["plain"], updates=1)
    before = path.read_bytes()
    for preset, updates in (("debug", 2), ("full", 1)):
        with pytest.raises(ValueError, match=r"^out: [^\n]* holds no finished cell"):
            run(tmp_path, preset, updates=updates, table=True)
    (tmp_path / "cells" / "strange.json").write_bytes(
        b'{"cell": {"task": "toy"}, "result": {}, "has_arrays": false}'
    )
    run(tmp_path, "debug", updates=1, table=True)
    assert json.loads(path.read_bytes())["rows"] == json.loads(before)["rows"]


def test_published_returns_are_those_of_ten_seeds() -> None:
    """676 after 20,000 steps on pendulum-swingup, as the publication's file says."""
    made = compare(TASKS, HEADS, WEIGHTS, 20_000, 2, 64)
    assert made.published is not None
    returns = made.published[1]
    assert {len(own) for task in returns.values() for own in task.values()} == {10}
    own = returns["dmc/pendulum-swingup-v0"]["20000"]
    assert sum(own) / 10 == pytest.approx(676.3, abs=0.1)


def test_illegal_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="head: got 'imlee', did you mean 'imle'"):
        run(tmp_path, heads=["imlee"])
    with pytest.raises(ValueError, match="task: got 'walker-walk', did you mean 'walker-run'"):
        run(tmp_path, tasks=["walker-walk"])
    assert not list(tmp_path.iterdir())
