"""A cell of the table of characters: the cell of the IWAE table on little data.

The writers' networks, the optimisers and the score are those of `vaerl.experiments.iwae`. Two
things differ: images are moved at random in training, and the parameters of the epoch that is best
on drawings kept aside for that are the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.experiments.characters.data import Characters, moved, turned
from vaerl.experiments.characters.networks import build_pupil
from vaerl.experiments.iwae.cell import Autoencoder, Training
from vaerl.experiments.iwae.mnist import binarise
from vaerl.experiments.iwae.score import lower_bounds

CHOOSING_K = 20
"""Samples of the bound by which an epoch is chosen."""
SYMMETRIES = 8
"""Of the square; each makes new characters of the training alphabets for the pupil."""


@dataclass(frozen=True)
class Writer(Autoencoder):
    """A model of characters and its plan.

    With `example` it is a pupil: it draws after another person's drawing of the same character.
    """

    images: str = "characters"
    batch_size: int = 100
    test_images: int = 1_210
    #: pixels by which images of an update are moved at most
    shift: int = 2
    #: epochs between two looks at the drawings that choose
    look: int = 5
    example: bool = False

    @property
    def name(self) -> str:
        """Such as full-L1-iwae-k5-s0, with "-example" for a pupil."""
        return super().name + ("-example" if self.example else "")

    @property
    def work(self) -> float:
        """Epochs."""
        return float(self.epochs)


class WriterTraining(Training):
    """The training of a cell on `learned`, stopped where the bound on `choosing` is best.

    Args:
        cell: the cell to train.
        learned: drawings to learn from.
        choosing: drawings that choose the epoch.
        tick: gets the cost of every update.

    `best` is the density with the parameters of the chosen epoch, and `chosen` what it reached.
    """

    cell: Writer

    def __init__(
        self,
        cell: Writer,
        learned: Characters,
        choosing: Characters,
        tick: Callable[[float], None] = lambda cost: None,
    ) -> None:
        self.learned = learned
        super().__init__(cell, learned.images, tick=tick)
        generator = torch.Generator().manual_seed(cell.seed)
        partners = choosing.others(generator)
        self._choosing = (
            choosing.images[partners] if cell.example else torch.zeros(len(choosing), 1),
            binarise(choosing.images, generator),
        )
        self.best: CVAE = copy.deepcopy(self.density)
        self.chosen = nn.ParameterDict(
            {
                name: nn.Parameter(torch.tensor(value), requires_grad=False)
                for name, value in (("bound", -torch.inf), ("epoch", 0.0))
            }
        )
        self.module = nn.ModuleList([self.density, self.best, self.chosen])

    def build(self, mean_image: Tensor) -> CVAE:
        """The network of the IWAE table, or the pupil's."""
        if not self.cell.example:
            return super().build(mean_image)
        return build_pupil(f"{self.cell.objective}-k", self.cell.k, mean_image, self.cell.seed)

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images of some rows moved together; a pupil's also turned, with another drawing each."""
        shift = self.cell.shift
        down, right = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
        number = int(torch.randint(SYMMETRIES, (), generator=generator))

        def changed(images: Tensor) -> Tensor:
            return moved(turned(images, number) if self.cell.example else images, down, right)

        context = torch.zeros(len(rows), 1)
        if self.cell.example:
            context = changed(self.images[self.learned.others(generator, rows)])
        return context, binarise(changed(self.images[rows]), generator)

    def _epoch(self, generator: torch.Generator) -> float:
        """One pass over the images, and perhaps a look at those that choose."""
        loss = super()._epoch(generator)
        if (self.done + 1) % self.cell.look == 0 or self.done + 1 == self.cell.epochs:
            context, x = self._choosing
            same = torch.Generator().manual_seed(self.cell.seed)
            bound = lower_bounds(self.density, x, CHOOSING_K, same, context=context).mean()
            if bound > self.chosen["bound"]:
                self.best.load_state_dict(self.density.state_dict())
                self.chosen["bound"].fill_(float(bound))
                self.chosen["epoch"].fill_(self.done + 1.0)
        return loss
