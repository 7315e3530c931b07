"""How well a density draws a character of a new alphabet after one example.

Two measures: the NLL of another person's drawing given the example, beside that given an example of
another character; and the share of samples that a recogniser, trained on other people's drawings of
these characters, reads as the character. A copy of the example would pass the second, so the
overlap of samples with the example is told beside it, and that of two people's drawings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vaerl.data.handwriting import HELD_OUT_DRAWERS, TRAINING_DRAWERS
from vaerl.densities.cvae import CVAE
from vaerl.experiments.characters.data import SIDE, Characters, blurred, moved
from vaerl.experiments.cloning.recogniser import Recogniser, train_recogniser
from vaerl.experiments.iwae.mnist import binarise
from vaerl.experiments.iwae.score import lower_bounds

BLURS = (0.5, 1.0, 1.5, 2.0, 3.0)
FLOORS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)
REACHES = (2, 4, 6, 8)
"""Pixels by which the copy is moved at most each way; the last also where overlap is sought."""
SAMPLES = 4  # of each example

LogProb = Callable[[Tensor, Tensor], Tensor]
"""Log-densities ``(n,)`` in nats of binary images ``(n, 784)`` after examples ``(n, 784)``."""
Draw = Callable[[Tensor, torch.Generator], Tensor]
"""Images ``(n, 784)`` in [0, 1] after examples ``(n, 784)``."""


def matches(sheets: Tensor, stamps: Tensor, reach: int) -> Tensor:
    """Σ_d sheet_d move_m(stamp)_d for all moves by up to `reach` pixels each way, ``(n, M)``.

    Rows are images ``(n, 784)``; moves go down by row, then right.

    >>> page = torch.zeros(1, 784)
    >>> page[0, 400:404] = 1.0
    >>> matches(moved(page, 1, -1), page, 1).reshape(3, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.],
            [4., 3., 2.]])
    """
    rows = len(stamps)
    found = functional.conv2d(
        sheets.reshape(1, rows, SIDE, SIDE), stamps.reshape(rows, 1, SIDE, SIDE),
        padding=reach, groups=rows,
    )  # fmt: skip
    return found.reshape(rows, -1)


class JitteredCopy:
    """The example, moved by up to `reach` pixels each way, blurred, with ink everywhere possible.

    p(x | e) = (1/M) Σ_m Π_d Bernoulli(x_d; ε + (1 − 2 ε) b_d), b = blur(move_m(e)): exact. It needs
    no training but the choice of blur, ε and the reach.
    """

    def __init__(self, blur: float, floor: float, reach: int) -> None:
        self.blur, self.floor, self.reach = blur, floor, reach

    @classmethod
    def fitted(cls, examples: Tensor, x: Tensor) -> JitteredCopy:
        """The best of `BLURS` × `FLOORS` × `REACHES` on some pairs."""
        copies = [cls(*choice) for choice in itertools.product(BLURS, FLOORS, REACHES)]
        return max(copies, key=lambda copy: copy.log_prob(examples, x).mean().item())

    def log_prob(self, examples: Tensor, x: Tensor) -> Tensor:
        """See `LogProb`."""
        p = self.floor + (1.0 - 2.0 * self.floor) * blurred(examples, self.blur)
        rest = torch.tensor(self.floor)  # where the moved sheet does not reach
        ink, blank = p.logit() - rest.logit(), (-p).log1p() - (-rest).log1p()
        parts = matches(x, ink, self.reach) + matches(torch.ones_like(x), blank, self.reach)
        whole = x.sum(-1) * rest.logit() + x.shape[-1] * (-rest).log1p()
        return torch.logsumexp(parts, -1) + whole - math.log(parts.shape[-1])

    def draw(self, examples: Tensor, generator: torch.Generator) -> Tensor:
        """The example itself, moved."""
        size = (len(examples), 2)
        moves = torch.randint(-self.reach, self.reach + 1, size, generator=generator).tolist()
        pairs = zip(examples.split(1), moves, strict=True)
        return torch.cat([moved(image, down, right) for image, (down, right) in pairs])


def pupil_log_prob(density: CVAE, k: int, seed: int) -> LogProb:
    """L_k of the density, a lower bound."""

    def log_prob(examples: Tensor, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return lower_bounds(density, x, k, generator, context=examples).float()

    return log_prob


def pupil_draw(density: CVAE) -> Draw:
    """The likeliest image p(x | z, e) of a drawn z."""
    return lambda examples, noise: density(examples).sample_mean(generator=noise)


class Lesson:
    """Examples of new characters by held-out people, and what others drew for them.

    Args:
        new: drawings of the new alphabets.
        seed: of the pairs and the binarisation.
        epochs: of the recogniser, which learns from the other people's drawings of `new`.
    """

    def __init__(self, new: Characters, seed: int, epochs: int = 30) -> None:
        generator = torch.Generator().manual_seed(seed)
        held = new.by(HELD_OUT_DRAWERS)
        self.examples = held.images
        _, self.character = new.character.unique(return_inverse=True)
        _, self.asked = held.character.unique(return_inverse=True)
        self.another = held.images[held.others(generator)]
        self.x = binarise(self.another, generator)
        self.wrong = self._of_another_character(held, generator)
        known = torch.isin(new.drawer, torch.tensor(TRAINING_DRAWERS))
        self.recogniser: Recogniser = train_recogniser(
            new.images[known].reshape(-1, SIDE, SIDE).numpy(),
            self.character[known].numpy(),
            epochs=epochs,
            seed=seed,
        )

    @staticmethod
    def _of_another_character(held: Characters, generator: torch.Generator) -> Tensor:
        """An example of another character of the same alphabet for every row."""
        apart = held.alphabet[:, None] == held.alphabet
        apart &= held.character[:, None] != held.character
        return held.images[torch.multinomial(apart.float(), 1, generator=generator)[:, 0]]

    def measure(self, log_prob: LogProb | None, draw: Draw, seed: int) -> dict[str, Any]:
        """The scores of a density; see the module."""
        result: dict[str, Any] = {}
        if log_prob is not None:
            right, wrong = (-log_prob(e, self.x) for e in (self.examples, self.wrong))
            error = (wrong - right).std().item() / len(right) ** 0.5
            result = {
                "nll": right.mean().item(),
                "nll_error": right.std().item() / len(right) ** 0.5,
                "nll_wrong": wrong.mean().item(),
                "gain_error": error,
                "told_apart": (right < wrong).float().mean().item(),
            }
        generator = torch.Generator().manual_seed(seed)
        drawn = [(draw(self.examples, generator) > 0.5).float() for _ in range(SAMPLES)]
        shares = torch.tensor([self.read(images) for images in drawn])
        return result | {
            "read": shares.mean().item(),
            "overlap": float(
                torch.stack([overlap(images, self.examples) for images in drawn]).mean()
            ),
            "variety": float(overlap(drawn[0], drawn[1]).mean()),
        }

    def people(self) -> dict[str, Any]:
        """The scores of people's own drawings of the characters."""
        return {
            "read": self.read((self.examples > 0.5).float()),
            "overlap": float(overlap((self.another > 0.5).float(), self.examples).mean()),
        }

    def read(self, images: Tensor) -> float:
        """Share of images, one after each example, in which the recogniser reads its character."""
        found = torch.as_tensor(self.recogniser.read(images.reshape(-1, SIDE, SIDE).numpy()))
        return (found == self.asked).float().mean().item()


def overlap(images: Tensor, examples: Tensor) -> Tensor:
    """Inked pixels that two images share over those that either has, ``(n,)``, at the best of all
    moves of the first by up to the last of `REACHES` each way.

    >>> page = torch.zeros(1, 784)
    >>> page[0, 400:404] = 1.0
    >>> overlap(page, moved(page, 1, -2)).item()
    1.0
    """
    own, ink = ((part > 0.5).float() for part in (images, examples))
    shared = matches(ink, own, REACHES[-1]).amax(-1)
    return shared / (own.sum(-1) + ink.sum(-1) - shared).clamp_min(1.0)
