"""Handwriting: replays of people's strokes, the judge, and the measures of how they write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.envs.make_handwriting_sample import SAMPLE
from vaerl.data import read_handwriting
from vaerl.data.handwriting import HELD_OUT_DRAWERS, TRAINING_DRAWERS, read_drawings
from vaerl.envs.handwriting import (
    STEP,
    TIME_LIMIT,
    HandwritingEnv,
    actions_of,
    draw,
    strokes_of,
)
from vaerl.experiments.cloning.recogniser import Recogniser, train_recogniser
from vaerl.experiments.cloning.ways import distance, floor, signature, total_variation

EVERYONE = range(1, 21)


@pytest.fixture(scope="module")
def drawings():
    return read_drawings(SAMPLE, drawers=EVERYONE)


def replay(env, drawing):
    env.reset(seed=0, options={"character": drawing.character})
    for action in actions_of(drawing.strokes).astype(np.float32):
        *_, terminated, truncated, info = env.step(action)
    assert terminated and not truncated
    return info


def gap(points, line):
    """Largest distance of points (n, 2) to a polyline (m, 2)."""
    start, along = line[:-1], np.diff(line, axis=0)
    square = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(((points[:, None] - start) * along).sum(axis=2) / square, 0.0, 1.0)
    nearest = start + share[..., None] * along
    return np.linalg.norm(points[:, None] - nearest, axis=2).min(axis=1).max()


def test_a_replay_draws_what_the_person_drew(drawings):
    """Stroke by stroke, within half a step; 1e-5 is the rounding of 80 places in float32."""
    env = HandwritingEnv(characters=3)
    for drawing in drawings:
        info = replay(env, drawing)
        strokes = strokes_of(info["path"])
        assert len(strokes) == len(drawing.strokes)
        for drawn, stroke in zip(strokes, drawing.strokes, strict=True):
            np.testing.assert_allclose(drawn[[0, -1]], stroke[[0, -1]], atol=1e-5)
            assert gap(stroke, drawn) <= STEP / 2 + 1e-5
            assert np.linalg.norm(np.diff(drawn, axis=0), axis=1).max() <= STEP + 1e-5
        np.testing.assert_allclose(draw(info["path"]), info["image"], rtol=1e-6, atol=1e-6)


def test_its_ink_looks_like_omniglots_picture(drawings):
    """Also catches a picture turned over or upside down, which correlates far less."""
    env = HandwritingEnv(characters=3)
    for drawing in drawings:
        image = replay(env, drawing)["image"]
        assert np.corrcoef(image.ravel(), drawing.image.ravel())[0, 1] > 0.85


def test_the_demonstrations_hold_out_people():
    train = read_handwriting(SAMPLE)
    held_out = read_handwriting(SAMPLE, drawers=HELD_OUT_DRAWERS)
    assert len(train) == 45 and len(held_out) == 15
    people = [{int(e.infos["drawer"][0]) for e in part} for part in (train, held_out)]
    assert people == [set(TRAINING_DRAWERS), set(HELD_OUT_DRAWERS)]
    assert train.env == "vaerl/Handwriting-v0"
    assert train.provenance["env_options"] == {"characters": 3}
    assert train.observation_space == held_out.observation_space
    for episode in train:
        assert episode.complete and 5 <= len(episode) <= TIME_LIMIT
        assert (episode.actions[:, 3] > 0).nonzero()[0].tolist() == [len(episode) - 1]
        which = episode.observations["character"].argmax(axis=1)
        assert (which == episode.infos["character"][0]).all()


def test_bad_data_gets_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"data: got .*nowhere"):
        read_drawings(tmp_path / "nowhere")
    np.savez(tmp_path / "omniglot-small.npz", points=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="got no array 'alphabet'"):
        read_drawings(tmp_path)
    with pytest.raises(ValueError, match=r"drawers: got \[21\]"):
        read_drawings(SAMPLE, drawers=[21])
    with pytest.raises(ValueError, match="did you mean 'Greek'"):
        read_drawings(SAMPLE, alphabets=["Grek"])


def test_the_judge_decides_the_reward(drawings):
    for answer, reward in ((drawings[0].character, 1.0), (drawings[0].character + 1, 0.0)):
        env = HandwritingEnv(characters=3, judge=lambda image, answer=answer: answer)
        env.reset(options={"character": drawings[0].character})
        rewards = [env.step(a)[1] for a in actions_of(drawings[0].strokes)]
        assert rewards[-1] == reward and not any(rewards[:-1])


def test_the_pen_goes_where_it_is_told_and_leaves_ink_only_while_down():
    env = HandwritingEnv(characters=2)
    env.reset(seed=0, options={"character": 1})
    observation, *_ = env.step(np.array([-0.5, 0.4, -1.0, -1.0]))
    assert observation["canvas"].max() == 0.0
    np.testing.assert_allclose(observation["pen"], [0.25, 0.7, 0.0, 1 / TIME_LIMIT], rtol=1e-6)
    observation, *_ = env.step(np.array([-0.5, 0.4, 1.0, -1.0]))
    assert observation["canvas"].max() > 0.0
    with pytest.raises(ValueError, match=r"options\['character'\]: got 2, expected 0 to 1"):
        env.reset(options={"character": 2})


def test_the_signature_tells_start_direction_and_order():
    down, right = np.array([[0.1, 0.9], [0.1, 0.1]]), np.array([[0.1, 0.1], [0.9, 0.1]])
    assert signature([down, right]) == (6, 6, (3, 0))
    assert signature([right, down]) == (0, 0, (0, 3))
    assert signature([down[::-1], right]) == (0, 2, (1, 0))
    angle = np.linspace(np.pi / 2, 5 * np.pi / 2, 50)
    circle = 0.5 + 0.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert signature([circle])[:2] == (7, 6)
    assert signature([right[:1], down])[1:] == (-1, (-1, 3))


def test_replays_keep_the_signature_of_most_drawings(drawings):
    """Resampling moves a point by half a step at most, which few signatures notice."""
    env = HandwritingEnv(characters=3)
    same = [signature(strokes_of(replay(env, d)["path"])) == signature(d.strokes) for d in drawings]
    assert np.mean(same) > 0.8


def test_the_distance_is_total_variation_a_character():
    assert total_variation("aabb", "abab") == 0.0 and total_variation("aa", "b") == 1.0
    assert distance([(0, "a"), (1, "a")], [(0, "a"), (1, "b")]) == 0.5
    with pytest.raises(ValueError, match="no character"):
        distance([(0, "a")], [(1, "a")])
    people = [(c, d, "a") for c in range(2) for d in range(6)]
    assert floor(people, (3, 3)) == 0.0
    people = [(c, d, d) for c in range(2) for d in range(6)]
    assert floor(people, (3, 3)) == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(ValueError, match="sizes: got"):
        floor(people, (4, 3))


def test_the_recogniser_learns_and_reads_back_the_same(drawings, tmp_path):
    """Three characters; chance is 1/3. Training leaves torch's generator alone."""
    seen = [d for d in drawings if d.drawer in TRAINING_DRAWERS]
    others = [d for d in drawings if d.drawer in HELD_OUT_DRAWERS]
    before = torch.get_rng_state()
    network = train_recogniser(
        np.stack([d.image for d in seen]), np.array([d.character for d in seen]), epochs=30
    )
    assert torch.equal(before, torch.get_rng_state())
    images = np.stack([d.image for d in others])
    read = network.read(images)
    assert (read == [d.character for d in others]).mean() >= 0.8
    network.save(tmp_path / "recogniser.safetensors")
    again = Recogniser.load(tmp_path / "recogniser.safetensors")
    np.testing.assert_array_equal(again.read(images), read)
    assert again.judge(images[0]) == read[0]
