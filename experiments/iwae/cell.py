"""One cell of the IWAE table: which model, under which plan; its training, in steps that resume.

The state after every epoch (parameters, optimisers, history) goes into one file, written as a whole
or not at all. The random numbers of an epoch depend on seed and epoch only, so that an interrupted
training goes on as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.densities.options import check_choice, check_positive, check_seed
from vaerl.disk import files
from vaerl.experiments.iwae.mnist import Digits, binarise, drawn_digits, load_mnist
from vaerl.experiments.iwae.networks import build_density, nothing
from vaerl.lab.training_state import load_state, save_state

OBJECTIVES = ("vae", "iwae")
IMAGES = ("mnist", "mnist-validation", "drawn")
PRECISIONS = ("float32", "bfloat16")
SCORING = ("test_images", "test_k")
"""Fields of a cell that leave its training as it is: a trained cell is scored again by others."""
STATE = "state.safetensors"
EPOCH_SECONDS = {1: (0.79, 3.3), 2: (1.35, 2.1)}
"""By layers (a, b): an epoch of 59,600 images with k samples takes about a (b + k) seconds of one
core. What does not depend on k costs as much as b samples; so measured, and used for estimates."""
SAVE_SECONDS = 20.0
"""A training saves its state after the first epoch that ends so long after the last time."""


@dataclass(frozen=True)
class Cell:
    """A model, its data and its plan: what determines the result, but for the machine.

    The networks run in `precision`, log-densities and log-weights always in float32. The learning
    rate rises over the first `warmup` of the work, and falls to 0 as a cosine of the work done, so
    that a short last phase of many samples has its share of it.
    """

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

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("images", self.images, IMAGES)
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

    @property
    def name(self) -> str:
        """Such as L1-iwae-k50-s0."""
        return f"L{self.layers}-{self.objective}-k{self.k}-s{self.seed}"

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

    def record(self) -> dict[str, Any]:
        """The cell as plain data; `from_record` is its inverse."""
        record = asdict(self)
        return record | {"phases": [list(phase) for phase in self.phases]}

    def trains_as(self, record: Mapping[str, Any]) -> bool:
        """True where a record describes the same training, whatever it is scored on."""
        own = self.record()
        return all(record.get(key) == own[key] for key in own if key not in SCORING)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Cell:
        """The cell that a record describes."""
        phases = tuple((int(k), int(epochs)) for k, epochs in record["phases"])
        return cls(**(record | {"phases": phases}))

    def load_digits(self, folder: str | Path | None = None) -> Digits:
        """The images of the cell."""
        if self.images != "drawn":
            return load_mnist(folder, validation=self.images == "mnist-validation")
        return Digits(
            drawn_digits(600, torch.Generator().manual_seed(1)),
            drawn_digits(200, torch.Generator().manual_seed(2)),
        )


class Training:
    """A cell under training: `epoch()` until `done`, `save` and `restore` between.

    Args:
        cell: what is trained.
        train: grey levels ``(n, 784)``.
        device: of the images, the networks and the random numbers.
    """

    def __init__(self, cell: Cell, train: Tensor, device: str = "cpu") -> None:
        self.cell, self.train, self.device = cell, train.to(device), torch.device(device)
        self.density = build_density(
            cell.layers, f"{cell.objective}-k", cell.k, train.mean(0), cell.seed
        ).to(device)
        matrices = [p for p in self.density.parameters() if p.ndim == 2]
        biases = [p for p in self.density.parameters() if p.ndim != 2]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                matrices,
                cell.learning_rate,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
                ns_steps=3,  # as good here as the usual 5, and cheaper
            ),
            torch.optim.Adam(biases, cell.bias_rate, fused=True),
        )
        self.updates_an_epoch = max(1, len(train) // cell.batch_size)
        self.history: list[dict[str, float]] = []
        """One entry an epoch: k, the mean training bound, CPU seconds."""

    @property
    def done(self) -> bool:
        """True after the last epoch of the plan."""
        return len(self.history) >= self.cell.epochs

    def gflop(self, epochs: int) -> float:
        """Work of the first so many epochs: 6 FLOP per weight, image and pass."""
        each = 6e-9 * self.cell.batch_size * self.updates_an_epoch
        return sum(
            each * passes(self.density, self.cell.samples(number)) for number in range(epochs)
        )

    def epoch(self, tick: Callable[[float], None] | None = None) -> None:
        """One pass over the images, newly binarised; `tick` gets the cost of every update."""
        cell, number = self.cell, len(self.history)
        self.density.k = cell.samples(number)
        generator = torch.Generator(self.device).manual_seed(1_000_003 * cell.seed + number)
        order = torch.randperm(len(self.train), generator=generator, device=self.device)
        work = 6e-9 * cell.batch_size * passes(self.density, self.density.k)
        before, whole = self.gflop(number), self.gflop(cell.epochs)
        cost = epoch_cost(cell, number, len(self.train)) / self.updates_an_epoch
        start, total = time.process_time(), torch.zeros((), device=self.device)
        for update in range(self.updates_an_epoch):
            self._set_learning_rate((before + update * work) / whole)
            rows = order[update * cell.batch_size :][: cell.batch_size]
            total += self._update(binarise(self.train[rows], generator), generator)
            if tick is not None:
                tick(cost)
        bound = -total.item() / self.updates_an_epoch
        if not math.isfinite(bound):
            raise ValueError(f"{cell.name}: the bound of epoch {number + 1} is {bound}")
        seconds = time.process_time() - start
        self.history.append({"k": self.density.k, "bound": bound, "seconds": seconds})

    def _update(self, x: Tensor, generator: torch.Generator) -> Tensor:
        low = self.cell.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            loss, _ = self.density.loss(
                nothing(len(x), self.device), x, diagnostics=False, generator=generator
            )
        mean = loss.mean()
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        mean.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        return mean.detach()

    def _set_learning_rate(self, done: float) -> None:
        """The rates after a share `done` of the work."""
        rise = min(1.0, 0.05 + done / self.cell.warmup)
        fall = 0.5 * (1.0 + math.cos(math.pi * done))
        rates = (self.cell.learning_rate, self.cell.bias_rate)
        for optimiser, rate in zip(self.optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * rise * fall

    # -- on disk -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the whole state as one file, replacing the one before at once."""
        data = {"cell": self.cell.record(), "history": self.history}
        save_state(folder / STATE, self.density, self.optimisers, data)

    def restore(self, folder: Path) -> bool:
        """Take up the state saved in `folder`; False where there is none.

        Raises ValueError where it belongs to another cell.
        """

        def check(data: Mapping[str, Any]) -> None:
            if not self.cell.trains_as(data["cell"]):
                other = difference(data["cell"], self.cell)
                raise ValueError(f"{folder / STATE}: made by other settings ({other})")

        data = load_state(folder / STATE, self.density, self.optimisers, check)
        if data is None:
            return False
        self.history = data["history"]
        return True


def train(training: Training, folder: Path, tick: Callable[[float], None] | None = None) -> CVAE:
    """Train to the end of the plan, saving the state in the folder; give the density."""
    files.make_directory(folder)
    saved = time.monotonic()
    while not training.done:
        training.epoch(tick)
        if training.done or time.monotonic() - saved > SAVE_SECONDS:
            training.save(folder)
            saved = time.monotonic()
    return training.density.eval()


def passes(density: CVAE, k: int) -> float:
    """Multiply-adds of one image with k samples: the encoder of x runs once, all else k times."""

    def weights(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.ndim == 2)

    first = weights(density.chain.recognition[0])
    return first + k * (weights(density.chain) - first)


def epoch_cost(cell: Cell, number: int, images: int) -> float:
    """Seconds that an epoch may take on one core, see `EPOCH_SECONDS`."""
    a, b = EPOCH_SECONDS[cell.layers]
    return a * (b + cell.samples(number)) * images / 59_600


def measure_seconds(
    cell: Cell, train: Tensor, device: str = "cpu", seconds: float = 1.0
) -> list[float]:
    """Seconds that an epoch of each phase takes on this machine now, from a few updates."""
    training = Training(cell, train, device)
    generator = torch.Generator(device).manual_seed(0)
    x = binarise(training.train[: cell.batch_size], generator)
    result = []
    for k, _ in cell.phases:
        training.density.k = k
        for _ in range(2):
            training._update(x, generator)
        count, start = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - start < seconds:
            training._update(x, generator).item()  # waits for a GPU
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


def difference(saved: Mapping[str, Any], cell: Cell) -> str:
    """What a saved record has otherwise than a cell that is asked for, in words."""
    asked = cell.record()
    return ", ".join(
        f"{key} {saved.get(key)} there, {asked[key]} asked"
        for key in asked
        if saved.get(key) != asked[key]
    )
