"""Handwritten characters: the splits, the chosen epoch, the pupil's example, and the measures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.envs.make_handwriting_sample import SAMPLE
from vaerl.experiments.characters.cell import Writer, WriterTraining
from vaerl.experiments.characters.data import PARTS, blurred, load_characters, moved, turned
from vaerl.experiments.characters.experiment import between, make_cells, run
from vaerl.experiments.characters.figures import COLUMNS, _order
from vaerl.experiments.characters.networks import BLURS, EXAMPLE, LATENT, Bending
from vaerl.experiments.characters.oneshot import JitteredCopy, Lesson, overlap
from vaerl.experiments.iwae.mnist import binarise
from vaerl.experiments.iwae.score import lower_bounds

DRAWN = load_characters("drawn")
CELL = make_cells("debug")["writers"][1]
PUPIL = make_cells("debug")["pupils"][0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(cell: Writer, epochs: int) -> WriterTraining:
    part = DRAWN.by_alphabet if cell.example else DRAWN.by_drawer
    training = WriterTraining(
        replace(cell, phases=((cell.k, epochs),)), part("training"), part("choosing")
    )
    for _ in range(epochs):
        training.round()
    return training


# -- the data --------------------------------------------------------------------------------------


def test_no_drawer_and_no_alphabet_is_in_two_parts() -> None:
    """Every drawing is in one part of each split, and parts share no drawer or no alphabet."""
    for split, column in ((DRAWN.by_drawer, "drawer"), (DRAWN.by_alphabet, "alphabet")):
        parts = [split(name) for name in PARTS]
        values = [set(getattr(part, column).tolist()) for part in parts]
        assert sum(map(len, parts)) == len(DRAWN) and all(values)
        assert sum(map(len, values)) == len(set.union(*values))


def test_characters_are_read_with_alphabet_and_drawer() -> None:
    """Of the sample: three characters of one alphabet, twenty drawings each, ink 1."""
    found = load_characters("characters", str(SAMPLE))
    assert found.character.bincount().tolist() == [20] * 3
    assert len(found.alphabet.unique()) == 1 and found.drawer.unique().tolist() == [*range(1, 21)]
    assert found.images.shape == (60, 784) and 0.02 < found.images.mean() < 0.3


def test_another_drawing_is_of_the_same_character_and_never_itself() -> None:
    """All others are drawn, also where only some rows ask."""
    few = DRAWN.rows(torch.arange(60))
    rows = torch.arange(0, 60, 7)
    seen = torch.stack([few.others(generator(seed), rows) for seed in range(200)])
    assert (few.character[seen] == few.character[rows]).all() and (seen != rows).all()
    wanted = int((few.character == few.character[0]).sum()) - 1
    assert len(seen[:, 0].unique()) == wanted


def test_moves_and_turns_of_the_sheet() -> None:
    """Ink goes where it should, falls off the edge, and the eight symmetries differ."""
    page = torch.zeros(1, 28, 28)
    page[0, 3, 5] = 1.0
    where = moved(page.flatten(1), -2, 4).reshape(28, 28).nonzero().tolist()
    assert where == [[1, 9]]
    assert moved(page.flatten(1), -4, 0).sum() == 0.0
    views = torch.cat([turned(page.flatten(1), number) for number in range(8)])
    assert torch.equal(views[0], page.flatten()) and len(views.unique(dim=0)) == 8


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [CELL, PUPIL], ids=["writer", "pupil"])
def test_the_best_epoch_is_kept_and_a_resumed_training_is_the_same(
    cell: Writer, tmp_path: Path
) -> None:
    """After a good epoch one that spoils the network: the good one is the result, also resumed."""
    cell = replace(cell, phases=((5, 3),))
    part = DRAWN.by_alphabet if cell.example else DRAWN.by_drawer
    make = lambda: WriterTraining(cell, part("training"), part("choosing"))  # noqa: E731
    whole, again = make(), make()
    for _ in range(2):
        whole.round()
    good = {name: value.clone() for name, value in whole.best.state_dict().items()}
    assert whole.chosen["epoch"] == 2.0
    whole.save(tmp_path / "state")
    assert again.restore(tmp_path / "state")
    with torch.no_grad():
        for parameter in again.density.parameters():
            parameter.normal_(std=0.1, generator=generator())
    again.set_rates = lambda share: [  # type: ignore[method-assign]
        group.update(lr=0.0) for o in again.optimisers for group in o.param_groups
    ]
    again.round()
    assert again.chosen["epoch"] == 2.0
    assert all(torch.equal(again.best.state_dict()[name], good[name]) for name in good)


def test_a_pupil_reads_its_example() -> None:
    """After some epochs the right example gives the better bound on characters of training."""
    training = trained(replace(PUPIL, shift=0, batch_size=40, look=12), 12)
    some = DRAWN.by_alphabet("training")
    partners = some.others(generator())
    wrong = some.images.roll(1, 0)
    x = (some.images > 0.4).float()
    bounds = [
        lower_bounds(training.best, x, 20, generator(), context=context).mean().item()
        for context in (some.images[partners], wrong)
    ]
    assert bounds[0] > bounds[1] + 2.0, bounds


def bending(**parts: list[float]) -> Bending:
    """A decoder that ignores its latents; the parts of its output that are not given are 0, and
    the pen shows the bent page itself."""
    made = Bending(torch.tensor(0.1))
    names = ("linear", "shift", "nodes", "into", "bias", "out", "rest")
    with torch.no_grad():
        made.net[-1].weight.zero_()
        for name, part in zip(names, made.net[-1].bias.zero_().split(made.sizes), strict=True):
            given = parts.get(name, [1.0] if name in ("into", "out") else [])
            part[: len(given)] = torch.tensor(given)
    return made


def drawn_by(made: Bending, page: torch.Tensor) -> torch.Tensor:
    known = torch.ones(len(page), LATENT + EXAMPLE)
    return made(torch.cat([known, page, *(blurred(page, blur) for blur in BLURS)], -1)).detach()


def test_a_page_is_bent_as_the_network_says() -> None:
    """Kept, moved by whole pixels, by all nodes alike, mirrored, and bent at one side only."""
    page, pixel = DRAWN.images[:5], 2.0 / 28.0
    torch.testing.assert_close(drawn_by(bending(), page), page)
    for parts in ({"shift": [2 * pixel, -pixel]}, {"nodes": [2 * pixel] * 25 + [-pixel] * 25}):
        torch.testing.assert_close(
            drawn_by(bending(**parts), page), moved(page, 1, -2), atol=1e-5, rtol=0.0
        )
    mirrored = page.reshape(-1, 28, 28).flip(2).flatten(1)
    torch.testing.assert_close(drawn_by(bending(linear=[-2.0]), page), mirrored, atol=1e-5, rtol=0)
    left = torch.zeros(5, 5)
    left[:, 0] = 3 * pixel
    bent = (drawn_by(bending(nodes=left.flatten().tolist()), page) - page).reshape(-1, 28, 28)
    assert bent[:, :, 15:].abs().max() < 1e-5 < bent[:, :, :8].abs().max()


def test_the_pen_sees_ink_and_blurs_at_the_same_place() -> None:
    """A weight on one of them draws it alone."""
    page = DRAWN.images[:3]
    for number, blur in enumerate(BLURS):
        into = [0.0, *(float(number == place) for place in range(len(BLURS)))]
        wanted = blurred(page, blur)
        torch.testing.assert_close(drawn_by(bending(into=into), page), wanted, atol=1e-5, rtol=0.0)


# -- measures --------------------------------------------------------------------------------------


def test_the_moved_example_is_an_exact_mixture() -> None:
    """Without moves and nearly without blur: each pixel is Bernoulli(ε) or Bernoulli(1 − ε)."""
    page = torch.zeros(1, 784)
    page[0, 300:310] = 1.0
    x = page.clone()
    x[0, :3] = 1.0
    wanted = 781 * math.log(0.98) + 3 * math.log(0.02)
    assert JitteredCopy(0.1, 0.02, 0).log_prob(page, x).item() == pytest.approx(wanted, rel=1e-5)
    copy = JitteredCopy(0.1, 0.02, 1)
    best = copy.log_prob(page, page).item()
    assert copy.log_prob(page, moved(page, 1, 1)).item() == pytest.approx(best, abs=1e-3)
    assert best == pytest.approx(784 * math.log(0.98) - math.log(9), abs=0.1)
    assert copy.log_prob(page, moved(page, 2, 0)).item() < best - 10.0


def test_the_moved_example_is_the_mixture_spelled_out() -> None:
    """Move by move on drawings whose ink a move takes off the sheet, as its formula says."""
    examples, x = moved(DRAWN.images[:6], 9, -9), (DRAWN.images[6:12] > 0.5).float()
    copy, parts = JitteredCopy(1.0, 0.01, 4), []
    for down in range(-4, 5):
        for right in range(-4, 5):
            p = 0.01 + 0.98 * moved(blurred(examples, 1.0), down, right)
            parts.append((x * p.log() + (1.0 - x) * (1.0 - p).log()).sum(-1))
    wanted = torch.logsumexp(torch.stack(parts), 0) - math.log(81)
    torch.testing.assert_close(copy.log_prob(examples, x), wanted, rtol=1e-5, atol=1e-3)


def test_blur_floor_and_reach_of_the_copy_are_the_best_of_their_grid() -> None:
    """Copies moved by exactly four pixels, with a hundredth of the pixels flipped."""
    page = (DRAWN.images[:30] > 0.5).float()
    flipped = torch.rand(page.shape, generator=generator()) < 0.01
    x = (moved(page, 4, -4) - flipped.float()).abs()
    copy = JitteredCopy.fitted(page, x)
    assert (copy.blur, copy.floor, copy.reach) == (0.5, 0.01, 4)
    assert overlap(copy.draw(page, generator()), page).min() > 0.6  # some ink leaves the sheet


def test_overlap_is_the_shared_ink_over_all_ink() -> None:
    """Two pixels are shared by four and by six: 2 / 8, also after a move that it can undo."""
    one, other = torch.zeros(2, 1, 784)
    one[0, 400:404], other[0, 402:404], other[0, 700:704] = 1.0, 1.0, 1.0
    for first, second in ((one, other), (other, one), (moved(one, -8, 5), other)):
        assert overlap(first, second).item() == pytest.approx(2 / 8)
    assert overlap(one, torch.ones(1, 784)).item() == pytest.approx(4 / 784)
    assert overlap(torch.zeros(1, 784), torch.zeros(1, 784)).item() == 0.0


def test_a_lesson_tells_a_copy_from_a_blank_and_asks_held_out_people() -> None:
    """A moved copy has all ink of its example and tells characters apart; a blank sheet neither."""
    new = DRAWN.by_alphabet("test")
    lesson = Lesson(new, 0, epochs=3)
    assert (lesson.wrong != lesson.examples).any(-1).all()
    copy = JitteredCopy(1.0, 0.02, 3)
    found = lesson.measure(copy.log_prob, copy.draw, 0)
    blank = lesson.measure(None, lambda examples, noise: torch.zeros_like(examples), 0)
    people = lesson.people()
    assert min(found["overlap"], people["overlap"]) > 0.9 > blank["overlap"] == 0.0
    assert found["nll"] < found["nll_wrong"] - 5.0 and found["told_apart"] > 0.7
    assert found["read"] > blank["read"] + 0.1 and people["read"] > blank["read"] + 0.1
    assert overlap(lesson.examples, lesson.examples).min() == 1.0


def test_the_way_between_two_drawings_begins_and_ends_at_them() -> None:
    """The ends are p(x | h_1) at the two posterior means; the middle is another image."""
    training = trained(CELL, 1)
    grey = DRAWN.images[:4]
    steps = between(training.best, grey, 3)
    assert steps.shape == (2, 9, 784)
    mean = lambda image: training.best.chain.recognition[0](image, None).moments()[0]  # noqa: E731
    x = binarise(grey, generator(3))
    for number, place in ((0, 0), (1, -1)):
        end = training.best.chain.generative[0](mean(x[number : number + 1]), None).moments()[0]
        torch.testing.assert_close(steps[0, place], end[0], rtol=1e-4, atol=1e-5)
    assert (steps[0, 0] - steps[0, 4]).abs().max() > 1e-3


# -- the experiment --------------------------------------------------------------------------------


def test_debug_preset_runs_whole_and_is_not_trained_again(tmp_path: Path) -> None:
    """Two tables, four pictures; the keys name the squares of the mixed ones."""
    run(tmp_path, preset="debug", epochs=1)
    writers, pupils = (
        json.loads((tmp_path / f"{sort}.json").read_text()) for sort in ("writers", "pupils")
    )
    kinds = {(layers, objective) for layers, objective, *_ in writers["rows"]}
    assert kinds == {(layers, objective) for layers in "12" for objective in ("vae", "iwae")}
    assert [row[0] for row in pupils["rows"]] == ["conditional VAE", "example, moved", "people"]
    assert writers["command"] == "vaerl experiment characters --preset debug --epochs 1"
    order = _order(50)
    for table in (writers, pupils):
        key = [tuple(place) for place in table["data"]["samples_in_picture"]]
        assert len(key) == 50
        assert all(order[(row - 1) * COLUMNS + column - 1] >= 50 for row, column in key)
    assert len(list((tmp_path / "figures").glob("*.png"))) == 4
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    run(tmp_path, preset="debug", epochs=1)
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    with pytest.raises(ValueError, match="did you mean 'writers'"):
        run(tmp_path, preset="debug", sorts=["writer"])
