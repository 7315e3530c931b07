"""Captioned images: one or two coloured digits on a small canvas, placed as the caption says.

After the captioned MNIST of Mansimov, Parisotto, Ba & Salakhutdinov (2016), in small and in colour:
a canvas of 28 × 28 pixels, digits of 14 × 14, eight templates. An image is binary in every colour
channel and is kept as a row of 28 · 3 · 28 numbers: rows, channels, columns.

**Held out**: every place has a digit, and every digit a colour, that training never shows there
(`BANNED_DIGIT`, `BANNED_COLOUR`). That is a rule about images: it holds however they are described.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vaerl.experiments.iwae.mnist import (
    drawn_digits_with_labels,
    grey_levels,
    load_images,
    load_labels,
)

SIDE = 28
GLYPH = 14
IMAGE = SIDE * 3 * SIDE
CONTRAST = 0.3
"""A pixel of a halved digit is lit above this grey level."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAIRS = ("on the left of", "on the right of", "at the top of", "at the bottom of")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
TEMPLATES = len(PAIRS) + len(CORNERS)
VOCABULARY = (
    "", "the", "digit", "is", "at", "on", "of", "image", "top", "bottom", "left", "right",
    *COLOURS, *DIGITS,
)  # fmt: skip
"""Words by token id; id 0 pads."""
KINDS = {"place": VOCABULARY[8:12], "colour": tuple(COLOURS), "digit": DIGITS}
LENGTH = 13
"""Tokens of a caption, the padding included."""

PLACES = (*CORNERS, "left", "right", "top", "bottom")
"""Where a digit can be in an image: alone in a corner, or one of two."""
LAYOUTS = (*CORNERS, "side by side", "one above the other")
BANNED_DIGIT = (1, 4, 7, 0, 3, 6, 9, 2)
"""The digit that training never shows at each of `PLACES`."""
BANNED_COLOUR = tuple(digit % len(COLOURS) for digit in range(10))
"""The colour that training never gives to each digit."""
HELD_OUT = ("seen", "new place", "new colour")

_START = {  # first row and column of a glyph at each place, before the jitter
    "top left": (0, 0), "top right": (0, 13), "bottom left": (13, 0), "bottom right": (13, 13),
    "left": (6, 0), "right": (6, 13), "top": (0, 6), "bottom": (13, 6),
}  # fmt: skip
# Places of the digit named first and of the one named second, by template; −1 where there is none.
_NAMED = [(4, 5), (5, 4), (6, 7), (7, 6), (0, -1), (1, -1), (2, -1), (3, -1)]


@dataclass(frozen=True)
class Glyphs:
    """Binary digits ``(n, 14, 14)`` in the order of their labels, and how many of each."""

    images: Tensor
    counts: Tensor

    @classmethod
    def of(cls, grey: Tensor, labels: Tensor) -> Glyphs:
        """Halve and binarise grey 28 × 28 digits ``(n, 784)``."""
        halved = functional.avg_pool2d(grey.reshape(-1, 1, SIDE, SIDE), 2).squeeze(1)
        order = torch.argsort(labels, stable=True)
        return cls((halved[order] > CONTRAST).float(), labels.bincount(minlength=10))

    def draw(self, digits: Tensor, generator: torch.Generator) -> Tensor:
        """A random image ``(n, 14, 14)`` of each digit."""
        first = torch.cumsum(self.counts, 0) - self.counts
        share = torch.rand(digits.shape, generator=generator)
        return self.images[first[digits] + (share * self.counts[digits]).long()]


def load_glyphs(images: str, part: str, folder: str | os.PathLike[str] | None = None) -> Glyphs:
    """Digits of `images` ("mnist" or "drawn"), `part` "train" or "test"."""
    if images == "drawn":
        count, seed = {"train": (600, 1), "test": (200, 2)}[part]
        return Glyphs.of(*drawn_digits_with_labels(count, torch.Generator().manual_seed(seed)))
    return Glyphs.of(grey_levels(load_images(part, folder)), load_labels(part, folder))


@dataclass(frozen=True)
class Scenes:
    """What captions say, one a row: a template, and digit and colour of the things it names.

    Columns of `digits` and `colours` ``(n, 2)`` are the thing named first and second; the second
    is unused in the templates of one digit.
    """

    template: Tensor
    digits: Tensor
    colours: Tensor

    def __len__(self) -> int:
        return len(self.template)

    def rows(self, index: Tensor | slice) -> Scenes:
        """Some of the scenes."""
        return Scenes(self.template[index], self.digits[index], self.colours[index])

    @property
    def places(self) -> Tensor:
        """Index in `PLACES` of both things ``(n, 2)``, −1 where there is no second."""
        return torch.tensor(_NAMED)[self.template]

    @property
    def tokens(self) -> Tensor:
        """The captions as token ids ``(n, LENGTH)`` in float32, the context of the densities."""
        table = torch.zeros(TEMPLATES, LENGTH)
        for template in range(TEMPLATES):
            words = caption(template, (0, 0), (0, 0)).split()
            table[template, : len(words)] = torch.tensor([float(WORD[w]) for w in words])
        tokens = table[self.template]
        pair = self.template < len(PAIRS)
        for thing, (colour, digit) in enumerate(((1, 3), (10, 12))):
            there = pair if thing else torch.ones_like(pair)
            for column, value, base in (
                (colour, self.colours[:, thing], WORD["red"]),
                (digit, self.digits[:, thing], WORD["zero"]),
            ):
                tokens[:, column] = torch.where(there, (value + base).float(), tokens[:, column])
        return tokens

    @property
    def captions(self) -> list[str]:
        """The captions in words."""
        return [" ".join(VOCABULARY[int(token)] for token in row if token) for row in self.tokens]

    @property
    def facts(self) -> Tensor:
        """What an image of the scene shows ``(n, 5)``: index in `LAYOUTS`; digit and colour of the
        thing at the left, the top or alone; of the other one, 10 and 4 where there is none."""
        pair = self.template < len(PAIRS)
        layout = torch.where(pair, 4 + self.template // 2, self.template - len(PAIRS))
        swapped = (pair & (self.template % 2 == 1)).unsqueeze(-1)
        digits = torch.where(swapped, self.digits.flip(-1), self.digits)
        colours = torch.where(swapped, self.colours.flip(-1), self.colours)
        return torch.stack(
            [
                layout,
                digits[:, 0],
                colours[:, 0],
                torch.where(pair, digits[:, 1], 10),
                torch.where(pair, colours[:, 1], len(COLOURS)),
            ],
            dim=-1,
        )

    def held_out(self) -> tuple[Tensor, Tensor]:
        """Whether a scene has a digit at a place, and a digit in a colour, kept out of training."""
        there = self.places >= 0
        place = torch.tensor(BANNED_DIGIT)[self.places] == self.digits
        colour = torch.tensor(BANNED_COLOUR)[self.digits] == self.colours
        return (place & there).any(-1), (colour & there).any(-1)


WORD = {word: token for token, word in enumerate(VOCABULARY)}


def caption(template: int, first: tuple[int, int], second: tuple[int, int]) -> str:
    """A caption in words; things are (digit, colour).

    >>> caption(0, (3, 0), (5, 2)), caption(5, (3, 0), (0, 0))
    ('the red digit three is on the left of the blue digit five', \
'the red digit three is at the top right of the image')
    """
    names = list(COLOURS)
    a, b = (f"the {names[c]} digit {DIGITS[d]}" for d, c in (first, second))
    if template < len(PAIRS):
        return f"{a} is {PAIRS[template]} {b}"
    return f"{a} is at the {CORNERS[template - len(PAIRS)]} of the image"


def draw_scenes(count: int, generator: torch.Generator, kind: str | None = "seen") -> Scenes:
    """Scenes with uniform templates, digits and colours.

    Args:
        count: how many.
        generator: of the draws.
        kind: "seen" in training; "new place" or "new colour", with a held-out combination of
            that sort and none of the other; None for all.
    """
    parts: list[Scenes] = []
    while sum(map(len, parts)) < count:
        draws = 8 * count
        scenes = Scenes(
            torch.randint(TEMPLATES, (draws,), generator=generator),
            torch.randint(10, (draws, 2), generator=generator),
            torch.randint(len(COLOURS), (draws, 2), generator=generator),
        )
        place, colour = scenes.held_out()
        wanted = {
            "seen": ~place & ~colour,
            "new place": place & ~colour,
            "new colour": colour & ~place,
            None: torch.ones_like(place),
        }[kind]
        parts.append(scenes.rows(wanted))
    joined = (torch.cat([getattr(p, f) for p in parts]) for f in ("template", "digits", "colours"))
    return Scenes(*joined).rows(slice(count))


def flip_scenes(count: int, aspect: str, generator: torch.Generator) -> tuple[Scenes, Scenes]:
    """Scenes of one digit, and the same with another "colour", "place" or "digit"; all of them
    seen in training."""
    scenes = draw_scenes(20 * count, generator)
    template, digits, colours = (
        part.clone() for part in (scenes.template, scenes.digits, scenes.colours)
    )
    kinds = {"colour": len(COLOURS), "place": len(CORNERS), "digit": len(DIGITS)}
    other = torch.randint(1, kinds[aspect], (len(scenes),), generator=generator)
    if aspect == "colour":
        colours[:, 0] = (colours[:, 0] + other) % len(COLOURS)
    elif aspect == "place":
        template = len(PAIRS) + (template - len(PAIRS) + other) % len(CORNERS)
    else:
        digits[:, 0] = (digits[:, 0] + other) % len(DIGITS)
    flipped = Scenes(template, digits, colours)
    place, colour = flipped.held_out()
    kept = ((scenes.template >= len(PAIRS)) & ~place & ~colour).nonzero()[:count, 0]
    return scenes.rows(kept), flipped.rows(kept)


def paint(scenes: Scenes, glyphs: Glyphs, generator: torch.Generator) -> Tensor:
    """Images ``(n, IMAGE)`` of the scenes: newly drawn digits, moved by 0 or 1 pixel each way."""
    n = len(scenes)
    canvas = torch.zeros(n, SIDE, SIDE, 3)
    start = torch.tensor([_START[place] for place in PLACES])
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    row = torch.arange(n).reshape(n, 1, 1)
    for thing in range(2):
        place = scenes.places[:, thing]
        corner = start[place] + torch.randint(2, (n, 2), generator=generator)
        down = (corner[:, :1] + torch.arange(GLYPH)).unsqueeze(-1)
        right = (corner[:, 1:] + torch.arange(GLYPH)).unsqueeze(-2)
        ink = glyphs.draw(scenes.digits[:, thing], generator) * (place >= 0).reshape(n, 1, 1)
        shown = ink.unsqueeze(-1) * colours[scenes.colours[:, thing]].reshape(n, 1, 1, 3)
        where = (row, down, right)
        canvas[where] = torch.maximum(canvas[where], shown)
    return canvas.permute(0, 1, 3, 2).reshape(n, IMAGE)


def as_channels(images: Tensor) -> Tensor:
    """Images ``(..., IMAGE)`` as ``(..., 3, 28, 28)``, what convolutions take."""
    return images.reshape(*images.shape[:-1], SIDE, 3, SIDE).transpose(-3, -2)


def as_rows(images: Tensor) -> Tensor:
    """Images ``(..., 3, 28, 28)`` as rows ``(..., IMAGE)``."""
    return images.transpose(-3, -2).reshape(*images.shape[:-3], IMAGE)
