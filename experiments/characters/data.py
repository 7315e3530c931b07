"""Handwritten characters of Omniglot (Lake, Salakhutdinov & Tenenbaum 2015), split in two ways.

By drawer: every alphabet was drawn by twenty people. Drawers 1 to 13 are for training, 14 and 15
choose the epoch, 16 to 20 are for the test. By alphabet, for new characters: the last two are for
the test, the one before chooses the epoch, all others are for training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vaerl.data.handwriting import HELD_OUT_DRAWERS, TRAINING_DRAWERS, read_drawings
from vaerl.experiments.cloning.handwriting import find
from vaerl.experiments.iwae.mnist import drawn_digits_with_labels

SIDE = 28
DRAWERS = (*TRAINING_DRAWERS, *HELD_OUT_DRAWERS)
CHOOSING = 2
"""Training drawers, the last ones, that choose the epoch instead."""
NEW_ALPHABETS = 2
"""Alphabets, the last ones, whose characters no model sees before the test."""
PARTS = ("training", "choosing", "test")


@dataclass(frozen=True)
class Characters:
    """Drawings, one a row: grey levels ``(n, 784)`` with ink 1, and whose they are ``(n,)``."""

    images: Tensor
    alphabet: Tensor
    #: numbered through all alphabets
    character: Tensor
    drawer: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: Tensor) -> Characters:
        """Some of the drawings."""
        return Characters(
            self.images[index], self.alphabet[index], self.character[index], self.drawer[index]
        )

    def by(self, drawers: tuple[int, ...]) -> Characters:
        """The drawings of some people."""
        return self.rows(torch.isin(self.drawer, torch.tensor(drawers)))

    def by_drawer(self, part: str) -> Characters:
        """The drawings of a part of the people, see `PARTS`."""
        people = {
            "training": TRAINING_DRAWERS[:-CHOOSING],
            "choosing": TRAINING_DRAWERS[-CHOOSING:],
            "test": HELD_OUT_DRAWERS,
        }
        return self.by(people[part])

    def by_alphabet(self, part: str) -> Characters:
        """All drawings of a part of the alphabets, see `PARTS`."""
        last = int(self.alphabet.max())
        numbers = {
            "training": range(last - NEW_ALPHABETS),
            "choosing": range(last - NEW_ALPHABETS, last - NEW_ALPHABETS + 1),
            "test": range(last - NEW_ALPHABETS + 1, last + 1),
        }
        return self.rows(torch.isin(self.alphabet, torch.tensor([*numbers[part]])))

    def others(self, generator: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """For each of `rows` a random other drawing of its character, as indices ``(n,)``."""
        order = torch.argsort(self.character, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        counts = self.character.bincount()
        first = torch.cumsum(counts, 0) - counts
        rows = torch.arange(len(self)) if rows is None else rows
        own = self.character[rows]
        away = 1.0 + torch.rand(len(rows), generator=generator) * (counts[own] - 1)
        return order[first[own] + (place[rows] - first[own] + away.long()) % counts[own]]


def load_characters(images: str, folder: str | None = None) -> Characters:
    """The characters in `folder` or VAERL_DATA, or, for "drawn", digits that need no file.

    Drawn digits 2 a and 2 a + 1 are the characters of alphabet a, and drawers take turns.
    """
    if images == "drawn":
        grey, labels = drawn_digits_with_labels(600, torch.Generator().manual_seed(1))
        people = torch.tensor(DRAWERS)[torch.arange(600) % len(DRAWERS)]
        return Characters(grey, labels // 2, labels, people)
    drawings = read_drawings(find(folder), drawers=DRAWERS)
    whole = np.stack([np.asarray(d.image, np.float32) for d in drawings])
    numbers = torch.tensor([(d.alphabet, d.character, d.drawer) for d in drawings])
    return Characters(torch.as_tensor(whole).flatten(1), *numbers.unbind(-1))


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """Images ``(n, 784)`` moved by whole pixels; what leaves the sheet is lost.

    >>> page = torch.zeros(1, 784)
    >>> page[0, 0] = 1.0
    >>> moved(page, 2, 1).nonzero()[0].tolist()
    [0, 57]
    """
    most = max(abs(down), abs(right))
    wide = functional.pad(images.reshape(-1, SIDE, SIDE), [most] * 4)
    part = wide[:, most - down :, most - right :][:, :SIDE, :SIDE]
    return part.reshape(len(images), -1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images ``(n, 784)`` under a Gaussian of σ pixels; beyond the sheet is no ink."""
    reach = math.ceil(3.0 * sigma)
    line = torch.exp(
        -0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma).square()
    )
    kernel = torch.outer(line, line) / line.sum().square()
    page = images.reshape(-1, 1, SIDE, SIDE)
    return functional.conv2d(page, kernel[None, None], padding=reach).flatten(1)


def turned(images: Tensor, number: int) -> Tensor:
    """Images ``(n, 784)`` under one of the eight symmetries of the square, 0 … 7; 0 keeps them."""
    page = images.reshape(-1, SIDE, SIDE)
    page = torch.rot90(page, number % 4, (1, 2))
    return (page.flip(2) if number >= 4 else page).reshape(len(images), -1)
