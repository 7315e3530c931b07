"""Handwriting as a task of cloning: who is judged as people are, and who is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.envs.make_handwriting_sample import SAMPLE
from vaerl.data.handwriting import HELD_OUT_DRAWERS, TRAINING_DRAWERS, read_drawings
from vaerl.envs.handwriting import TIME_LIMIT, actions_of, draw
from vaerl.experiments.cloning import handwriting
from vaerl.experiments.cloning.drawings import draw_drawings
from vaerl.experiments.cloning.experiment import run

DATA = str(SAMPLE)


class Copyist:
    """Writes what people of `drawers` wrote, each time another of them; `turned` back to front."""

    def __init__(self, drawers, turned=False):
        self.plans = [[], [], []]
        for drawing in read_drawings(DATA, drawers=drawers):
            strokes = [s[::-1] for s in drawing.strokes[::-1]] if turned else drawing.strokes
            self.plans[drawing.character].append(actions_of(strokes))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        step = 0 if state is None else state
        plans = [
            self.plans[character][i // 3 % len(self.plans[character])]
            for i, character in enumerate(observation["character"].argmax(axis=1))
        ]
        return np.stack([plan[min(step, len(plan) - 1)] for plan in plans]), step + 1


class Idler:
    """Never puts the pen down."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation["pen"]), 4), -1.0), ()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("cloning")


def test_a_copyist_is_read_as_people_are_and_writes_as_they_do(out):
    """Copies of the held-out people are at distance 0, those of the others near the floor."""
    same = handwriting.judge(Copyist(HELD_OUT_DRAWERS), 15, out, DATA)
    assert same.numbers["recognised"] == same.numbers["people"] >= 0.6
    assert same.numbers["ended"] == 1.0
    assert all(same.numbers[f"distance_{name}"] == 0.0 for name in handwriting.ASPECTS)
    others = handwriting.judge(Copyist(TRAINING_DRAWERS), 45, out, DATA).numbers
    assert others["distance_all"] <= others["floor_all"] + 0.2
    assert 0.0 < others["floor_start"] <= others["floor_all"] < 1.0


def test_a_drawing_back_to_front_looks_right_and_is_written_otherwise(out):
    """The recogniser sees only ink; the distance sees only how it came there."""
    forth = handwriting.judge(Copyist(HELD_OUT_DRAWERS), 15, out, DATA)
    back = handwriting.judge(Copyist(HELD_OUT_DRAWERS, turned=True), 15, out, DATA)
    assert back.numbers["recognised"] >= forth.numbers["recognised"] - 0.2
    assert back.numbers["distance_all"] > 0.5
    for one, two in zip(
        *(p.reshape(-1, *p.shape[2:]) for p in (forth.paths, back.paths)), strict=True
    ):
        one, two = (path[~np.isnan(path[:, 0])] for path in (one, two))
        assert np.corrcoef(draw(one).ravel(), draw(two).ravel())[0, 1] > 0.9


def test_who_draws_nothing_is_judged_too(out):
    judged = handwriting.judge(Idler(), 6, out, DATA)
    assert judged.numbers["ended"] == 0.0 and judged.numbers["distance_start"] == 1.0
    assert judged.numbers["recognised"] <= 0.5
    assert judged.paths.shape == (3, 2, TIME_LIMIT, 3)


def test_the_same_recogniser_serves_all_policies(out):
    handwriting.load_recogniser(SAMPLE, out)
    kept = (out / handwriting.RECOGNISER).read_bytes()
    handwriting.judge(Idler(), 3, out, DATA)
    assert (out / handwriting.RECOGNISER).read_bytes() == kept


def test_demonstrations_are_chosen_by_seed_and_nobody_is_in_both():
    few = handwriting.demonstrations(9, 0, DATA)
    again, other = (handwriting.demonstrations(9, seed, DATA) for seed in (0, 1))
    people = [[int(e.infos["drawer"][0]) for e in part] for part in (few, again, other)]
    assert len(few) == 9 and people[0] == people[1] != people[2]
    assert len(handwriting.demonstrations(None, 0, DATA)) == 45
    unseen = {int(e.infos["drawer"][0]) for e in handwriting.unseen(DATA)}
    assert unseen == set(HELD_OUT_DRAWERS) and not unseen & set(people[0])


def test_a_folder_without_the_file_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("VAERL_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="expected --data DIR or VAERL_DATA=DIR"):
        handwriting.demonstrations()
    with pytest.raises(FileNotFoundError, match=r"holds no omniglot-small\.npz; it is made from"):
        handwriting.demonstrations(data=str(tmp_path))
    monkeypatch.setenv("VAERL_DATA", DATA)
    assert len(handwriting.demonstrations(3)) == 3


def test_the_picture_shows_every_writer(tmp_path):
    paths = [[handwriting.path_of(d) for d in read_drawings(DATA)[:2]] for _ in range(3)]
    picture = draw_drawings({"people": paths, "gaussian": paths}, tmp_path / "a" / "drawings.png")
    assert picture.stat().st_size > 2000


def test_the_experiment_makes_table_and_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("VAERL_DATA", DATA)
    path = run(
        tmp_path, "debug", study="handwriting", policies=["replay", "gaussian", "act-z0", "cvae"]
    )
    record = json.loads(path.read_text())
    assert [row[1] for row in record["rows"]] == ["replay", "gaussian", "act-z0", "cvae"]
    assert "floor start" in record["caption"] and "recognised" in record["columns"]
    assert (tmp_path / "figures" / "handwriting.png").stat().st_size > 2000
