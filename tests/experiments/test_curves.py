"""Learners compared: what is trained, kept and put into the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from stable_baselines3 import SAC as SB3SAC

from vaerl.experiments.curves.experiment import CURVES, run
from vaerl.lab import comparison
from vaerl.lab.cells import Desk, Result
from vaerl.lab.comparison import Training, assemble, draw_panels, train_learner


def test_learners_share_their_defaults() -> None:
    """SB3's agent and ours."""
    made = {name: make(env="Pendulum-v1", buffer_size=10) for name, make in CURVES.learners.items()}
    assert type(made["SB3"]) is SB3SAC
    for option in ("learning_rate", "batch_size", "gamma", "tau", "learning_starts"):
        assert len({getattr(agent, option) for agent in made.values()}) == 1, option


def test_a_finished_training_is_kept(tmp_path: Path) -> None:
    """Two episodes of Pendulum are two points; the second call trains nothing."""
    record = json.loads(run(tmp_path, "debug", learners=["vaerl"], jobs=1).read_text())
    points = record["data"]["Pendulum-v1 vaerl seed 0"]
    assert len(points) == 2 and all(-2000.0 < value < 0.0 for _, value in points)
    assert record["command"] == "vaerl experiment curves --preset debug --learners vaerl"
    assert "of 1 episode with the best action" in record["caption"]
    path = CURVES.training("Pendulum-v1", "vaerl", 0, debug=True).path(tmp_path)
    before = path.stat().st_mtime_ns
    run(tmp_path, "debug", learners=["vaerl"], jobs=1)
    assert path.stat().st_mtime_ns == before
    assert (tmp_path / "figures" / "curves.png").stat().st_size > 1000


def test_a_training_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its last save, to the numbers of one without a cut."""
    monkeypatch.setattr(comparison, "SAVE_EVERY", 150)
    cell = CURVES.training("Pendulum-v1", "vaerl", 0, debug=True)

    def cut(step: float) -> None:
        if step == 400:
            raise KeyboardInterrupt

    desks = {name: Desk(tmp_path / f"{name}.json", lambda step: None) for name in ("whole", "cut")}
    with pytest.raises(KeyboardInterrupt):
        train_learner(CURVES.learners, 1, cell, desks["cut"]._replace(tick=cut))
    ticks: list[float] = []
    desk = desks["cut"]._replace(tick=ticks.append)
    found = train_learner(CURVES.learners, 1, cell, desk).data
    assert ticks[0] == 301 and not desk.state.exists()
    wanted = train_learner(CURVES.learners, 1, cell, desks["whole"]).data
    assert {k: found[k] for k in ("curve", "evaluation")} == {
        k: wanted[k] for k in ("curve", "evaluation")
    }


def test_panels_divide_learners_and_share_an_axis() -> None:
    """A row of panels for each environment, each with its learners alone, on one scale."""
    line = [[10.0, 0.0], [20.0, 1.0]]
    high = [[10.0, 0.0], [20.0, 100.0]]
    found = {("A", "x one", 0): line, ("A", "x two", 0): line, ("A", "y one", 0): high}
    figure = draw_panels({**found, ("B", "x one", 0): line}, lambda name: name.split()[0])
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title("left") for ax in shown] == ["A: x", "A: y", "B: x"]
    assert [[t.get_text() for t in ax.get_legend().get_texts()] for ax in shown] == [
        ["x one", "x two"], ["y one"], ["x one"],
    ]  # fmt: skip
    first, second, other = (ax.get_ylim() for ax in shown)
    assert first == second and first[1] > 100 > 2 > other[1]
    together = draw_panels(found, lambda name: "")
    assert [ax.get_title("left") for ax in together.axes] == ["A"]


def test_published_returns_stand_beside_those_of_as_many_steps() -> None:
    """Mean and interval of their seeds; a dash at other steps."""
    published = ("theirs", {"Pendulum-v1": {"450": [1.0, 2.0, 3.0]}})
    beside = replace(CURVES, published=published)
    data = {"curve": [[90.0, 1.0]], "evaluation": 5.0, "cpu_seconds": 1.0}
    for steps, wanted in ((450, "2 ± 2"), (900, "–")):
        cell = Training("Pendulum-v1", "vaerl", 0, steps, {})
        record = assemble(beside, [Result(Path(cell.name), cell.as_data(), data)])
        assert record["rows"][0][record["columns"].index("theirs")] == wanted


def test_full_and_debug_runs_share_a_folder() -> None:
    """Their files differ, and settings of an environment and of debug are those of the cell."""
    changed = replace(
        CURVES,
        settings={"Pendulum-v1": {"gamma": 0.5}},
        debug={"vaerl": {"batch_size": 7}},
    )
    full, debug = (changed.training("Pendulum-v1", "vaerl", 0, short) for short in (False, True))
    assert full.name != debug.name and full.steps == CURVES.steps["Pendulum-v1"]
    assert full.settings == {"arguments": ["gaussian"], "gamma": 0.5}
    assert debug.settings == {**full.settings, "batch_size": 7}


def test_illegal_options_are_refused(tmp_path: Path) -> None:
    """Nothing is written before all options are checked."""
    with pytest.raises(ValueError, match="seeds: got -1, expected a whole number from 0"):
        run(tmp_path, "debug", seeds=[-1])
    with pytest.raises(ValueError, match="did you mean 'vaerl'"):
        run(tmp_path, "debug", learners=["vaer"])
    assert not list(tmp_path.iterdir())


def results(seeds: list[int], curve: list[list[float]]) -> list[Result]:
    """Finished trainings of 1,000 steps."""
    cells = [Training("Pendulum-v1", "SB3", seed, 1000, {}) for seed in seeds]
    data = [
        {
            "curve": [[step, value + cell.seed] for step, value in curve],
            "evaluation": 30.0 + cell.seed,
            "cpu_seconds": 5.0,
        }
        for cell in cells
    ]
    return [Result(Path(), cell.as_data(), found) for cell, found in zip(cells, data, strict=True)]


def test_the_table_averages_over_seeds() -> None:
    """Whole run, last fifth and evaluation with Student's interval; from five seeds on the IQM."""
    curve = [[500.0, 0.0], [900.0, 12.0], [1000.0, 18.0]]
    row = assemble(CURVES, results([0, 2], curve))["rows"][0]
    assert row == ["Pendulum-v1", "SB3", "1,000", "2", "11 ± 13", "16 ± 13", "31 ± 13", "5.0"]
    table = assemble(CURVES, results([0, 1, 2, 3, 4], curve))
    assert len(table["columns"]) == len(table["rows"][0]) == 9
    assert table["rows"][0][7].startswith("32 [")


def test_a_run_without_episodes_has_a_dash() -> None:
    row = assemble(CURVES, results([0], []))["rows"][0]
    assert row[4:7] == ["–", "–", "30"]


def test_a_kill_while_it_is_evaluated_loses_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save goes when the evaluation is there."""
    monkeypatch.setattr(comparison, "SAVE_EVERY", 150)
    cell = CURVES.training("Pendulum-v1", "vaerl", 0, debug=True)
    desk = Desk(tmp_path / "cell.json", lambda step: None)

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "evaluate_policy", killed)
        with pytest.raises(KeyboardInterrupt):
            train_learner(CURVES.learners, 1, cell, desk)
    assert desk.state.exists()
    train_learner(CURVES.learners, 1, cell, desk)
    assert not desk.state.exists()
