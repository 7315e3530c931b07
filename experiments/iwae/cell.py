"""One cell of the IWAE table: a model and its plan, and the training of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.densities.options import check_choice, check_positive, check_seed
from vaerl.experiments.iwae.mnist import Digits, binarise, drawn_digits, load_mnist
from vaerl.experiments.iwae.networks import build_density, nothing
from vaerl.lab.cells import Cell
from vaerl.lab.trainer import Trainer

OBJECTIVES = ("vae", "iwae")
IMAGES = {
    "mnist": (59_600, 10_000),
    "mnist-validation": (55_000, 5_000),
    "characters": (3_146, 1_210),
    "drawn": (600, 200),
}
"""Training and test images by data set."""
PRECISIONS = ("float32", "bfloat16")
EPOCH_SECONDS = {1: (0.79, 3.3), 2: (1.35, 2.1)}
"""By layers (a, b): an epoch of 59,600 images with k samples takes about a (b + k) seconds of one
core. Measured; for estimates of the time left."""
SCORE_SECONDS = {1: 8e-6, 2: 1.44e-5}
"""Of one core, for an image and a sample, by layers. Measured; for estimates of the time left."""
SMALLER_K = (1, 5, 50, 500)
SMALLER_IMAGES = 1_000  # whose bounds at the smaller k are drawn against k


@dataclass(frozen=True)
class Autoencoder(Cell):
    """A model, its data and its plan: all that determines the result, except the machine.

    The networks run in `precision`, log-densities and log-weights always in float32. The learning
    rate follows the work done, not the epochs, so that a short last phase of many samples has its
    share of it.
    """

    remeasured: ClassVar[tuple[str, ...]] = ("test_images", "test_k")

    layers: int
    objective: str
    k: int
    #: samples and epochs of each phase; the last phase has the k of the cell
    phases: tuple[tuple[int, int], ...]
    batch_size: int = 500
    #: of the weight matrices (Muon, Jordan et al. 2024)
    learning_rate: float = 1e-2
    #: of the biases (Adam)
    bias_rate: float = 3e-3
    warmup: float = 0.02
    precision: str = "bfloat16"
    images: str = "mnist"
    test_images: int = 10_000
    test_k: int = 5_000
    seed: int = 0
    #: the preset, with "-validation" for other data
    group: str = "full"

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("images", self.images, tuple(IMAGES))
        if self.layers not in (1, 2):
            raise ValueError(f"layers: got {self.layers!r}, expected 1 or 2")
        check_seed("seed", self.seed)
        for name in ("k", "batch_size", "test_images", "test_k"):
            check_positive(name, getattr(self, name))
        for samples, epochs in self.phases:
            check_positive("k of a phase", samples)
            check_positive("epochs of a phase", epochs)
        if not self.phases or self.phases[-1][0] != self.k:
            raise ValueError(f"phases: got {self.phases}, expected a last one with k = {self.k}")
        if not 0.0 < self.warmup <= 1.0:
            raise ValueError(f"warmup: got {self.warmup!r}, expected a share of the work above 0")

    @classmethod
    def from_data(cls, data: Any) -> Autoencoder:
        """The cell that `as_data` describes."""
        return cls(**{**data, "phases": tuple((k, epochs) for k, epochs in data["phases"])})

    @property
    def name(self) -> str:
        """Such as full-L1-iwae-k50-s0."""
        return f"{self.group}-L{self.layers}-{self.objective}-k{self.k}-s{self.seed}"

    @property
    def work(self) -> float:
        """Seconds of one core that training and scoring may take."""
        train, test = IMAGES[self.images]
        test = min(test, self.test_images)
        few = sum(k for k in SMALLER_K if k < self.test_k) * min(test, SMALLER_IMAGES)
        scoring = SCORE_SECONDS[self.layers] * (test * self.test_k + few)
        return scoring + sum(epoch_cost(self, number, train) for number in range(self.epochs))

    @property
    def epochs(self) -> int:
        """Of all phases."""
        return sum(epochs for _, epochs in self.phases)

    def samples(self, epoch: int) -> int:
        """k of an epoch, counted from 0."""
        for k, epochs in self.phases:
            if epoch < epochs:
                return k
            epoch -= epochs
        return self.k

    def load_digits(self, folder: str | Path | None = None) -> Digits:
        """The images of the cell."""
        if self.images != "drawn":
            return load_mnist(folder, validation=self.images == "mnist-validation")
        return Digits(
            drawn_digits(600, torch.Generator().manual_seed(1)),
            drawn_digits(200, torch.Generator().manual_seed(2)),
        )


class Training(Trainer):
    """The training of a cell; a round is an epoch.

    Args:
        cell: the cell to train.
        images: grey levels ``(n, 784)``.
        device: of the images, the networks and the random numbers.
        tick: gets the cost of every update.
    """

    def __init__(
        self,
        cell: Autoencoder,
        images: Tensor,
        device: str = "cpu",
        tick: Callable[[float], None] = lambda cost: None,
    ) -> None:
        self.cell, self.images, self.tick = cell, images.to(device), tick
        self.density = self.build(images.mean(0)).to(device)
        matrices = [p for p in self.density.parameters() if p.ndim == 2]
        biases = [p for p in self.density.parameters() if p.ndim != 2]
        muon = torch.optim.Muon(
            matrices,
            cell.learning_rate,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
            ns_steps=3,  # as good here as the usual 5, and cheaper
        )
        super().__init__(
            self.density,
            (muon, torch.optim.Adam(biases, cell.bias_rate, fused=True)),
            self._epoch,
            cell.epochs,
            cell.as_data(),
            seed=cell.seed,
            device=device,
            warmup=cell.warmup,
            free=cell.remeasured,
        )
        self.updates_an_epoch = max(1, len(images) // cell.batch_size)

    def build(self, mean_image: Tensor) -> CVAE:
        """The untrained density."""
        cell = self.cell
        return build_density(cell.layers, f"{cell.objective}-k", cell.k, mean_image, cell.seed)

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Contexts and newly binarised images of an update, for some rows of the images."""
        return nothing(len(rows), self.images.device), binarise(self.images[rows], generator)

    def gflop(self, epochs: int) -> float:
        """Work of the first so many epochs: 6 FLOP per weight, image and pass."""
        each = 6e-9 * self.cell.batch_size * self.updates_an_epoch
        return sum(
            each * passes(self.density, self.cell.samples(number)) for number in range(epochs)
        )

    def _epoch(self, generator: torch.Generator) -> float:
        """One pass over the images, newly binarised; minus the mean bound."""
        cell, number, count = self.cell, self.done, self.updates_an_epoch
        self.density.k = cell.samples(number)
        order = torch.randperm(len(self.images), generator=generator, device=self.device)
        work = 6e-9 * cell.batch_size * passes(self.density, self.density.k)
        before, whole = self.gflop(number), self.gflop(cell.epochs)
        total = torch.zeros((), device=self.device)
        for update in range(count):
            self.set_rates((before + update * work) / whole)
            rows = order[update * cell.batch_size :][: cell.batch_size]
            total += self.update(*self.batch(rows, generator), generator)
            self.tick(epoch_cost(cell, number, len(self.images)) / count)
        return total.item() / count

    def update(self, context: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """One update of the parameters; minus the mean bound."""
        device, low = x.device, self.cell.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss, _ = self.density.loss(context, x, diagnostics=False, generator=generator)
        mean = loss.mean()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        mean.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        return mean.detach()


def passes(density: CVAE, k: int) -> float:
    """Multiply-adds of one image with k samples: the encoder of x runs once, all else k times."""

    def weights(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.ndim == 2)

    first = weights(density.chain.recognition[0])
    return first + k * (weights(density.chain) - first)


def epoch_cost(cell: Autoencoder, number: int, images: int) -> float:
    """Seconds that an epoch may take on one core, see `EPOCH_SECONDS`."""
    a, b = EPOCH_SECONDS[cell.layers]
    return a * (b + cell.samples(number)) * images / 59_600


def measure_seconds(
    cell: Autoencoder, train: Tensor, device: str = "cpu", seconds: float = 1.0
) -> list[float]:
    """Seconds that an epoch of each phase takes on this machine now, from a few updates."""
    training = Training(cell, train, device)
    generator = torch.Generator(device).manual_seed(0)
    pairs = training.batch(torch.arange(min(cell.batch_size, len(train))), generator)
    result = []
    for k, _ in cell.phases:
        training.density.k = k
        for _ in range(2):
            training.update(*pairs, generator)
        count, start = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - start < seconds:
            training.update(*pairs, generator).item()  # waits for a GPU
            count += 1
        result.append((time.perf_counter() - start) / count * training.updates_an_epoch)
    return result


def fit_to_minutes(
    phases: Sequence[tuple[int, int]], seconds: Sequence[float], minutes: float
) -> tuple[tuple[int, int], ...]:
    """The phases with all epochs scaled so that the whole takes about `minutes`.

    >>> fit_to_minutes([(5, 30), (50, 3)], [2.0, 20.0], 4.0)
    ((5, 60), (50, 6))
    """
    whole = sum(epochs * each for (_, epochs), each in zip(phases, seconds, strict=True))
    scale = 60.0 * minutes / whole
    return tuple((k, max(1, round(epochs * scale))) for k, epochs in phases)
