"""Scores of captions with known answers: what a stand-in for a model or the classifier gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vaerl.experiments.captions.data import flip_scenes
from vaerl.experiments.captions.judge import ASPECTS
from vaerl.experiments.captions.scores import (
    CHOICES,
    FLIPPED,
    SCENES_SEED,
    agreement,
    caption_choice,
    flips,
)


def test_flips_are_obeyed_kept_and_shown_as_often_as_the_classifier_says() -> None:
    """Of ten images before, three show another aspect than asked; after, five still show the old
    one, and in four something else has changed too."""
    seen: list[Tensor] = []
    for aspect in FLIPPED:
        noise = torch.Generator().manual_seed(SCENES_SEED + 7)
        first, then = (scenes.facts.clone() for scenes in flip_scenes(10, aspect, noise))
        columns = list(ASPECTS[aspect])
        others = [c for c in range(first.shape[1]) if c not in columns]
        then[:5, columns] = first[:5, columns]
        then[6:, others[-1]] += 1
        first[:3, columns] += 1
        seen += [first, then]
    answers = iter(seen)
    judge: Any = SimpleNamespace(read=lambda images: next(answers))
    found = flips(judge, lambda tokens, generator: tokens, 10, 7)
    assert [*found] == [*FLIPPED]
    for shares in found.values():
        assert shares == pytest.approx({"obeyed": 0.5, "kept": 0.6, "shown": 0.7})


def test_flips_change_the_caption_and_keep_the_noise() -> None:
    """The sampler is asked for both captions with generators in one state."""
    asked: list[tuple[Tensor, int]] = []

    def sample(tokens: Tensor, generator: torch.Generator) -> Tensor:
        asked.append((tokens, int(torch.randint(1 << 30, (), generator=generator))))
        return tokens

    judge: Any = SimpleNamespace(read=lambda images: torch.zeros(len(images), 5))
    flips(judge, sample, 10, 0)
    assert len({number for _, number in asked}) == 1
    for (before, _), (after, _) in zip(asked[::2], asked[1::2], strict=True):
        assert ((before != after).sum(-1) >= 1).all()


class Matching:
    """A density whose bound is 1 where the caption is the image's number, but for image 2."""

    def __call__(self, tokens: Tensor) -> Any:
        def bounds(x: Tensor, k: int, generator: torch.Generator) -> Any:
            right = (tokens == x)[:, 0]
            return SimpleNamespace(lower=torch.where(x[:, 0] == 2.0, ~right, right).float())

        return SimpleNamespace(log_prob_bounds=bounds)


def test_the_right_caption_is_chosen_where_its_bound_is_the_largest() -> None:
    """In three images of four; the other captions are those of the images that follow."""
    numbers = torch.arange(CHOICES + 4.0)[:, None]
    scenes: Any = SimpleNamespace(tokens=numbers)
    density: Any = Matching()
    assert caption_choice(density, scenes, numbers, 4, 5, 0) == pytest.approx(0.75)


def test_agreement_is_of_one_sample_a_caption_by_kind_of_scene() -> None:
    """The classifier gets samples of that kind's captions, and the scenes themselves."""
    judge: Any = SimpleNamespace(agreement=lambda images, scenes: {"all": float(images.mean())})
    kinds: Any = {
        kind: (SimpleNamespace(tokens=torch.full((3, 2), value)), None)
        for kind, value in (("seen", 1.0), ("new place", 2.0))
    }
    found = agreement(judge, lambda tokens, generator: 10.0 * tokens, kinds, 0)
    assert found == {"seen": {"all": 10.0}, "new place": {"all": 20.0}}
