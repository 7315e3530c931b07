"""Does the core reproduce the importance-weighted autoencoder on MNIST?

Burda, Grosse & Salakhutdinov (2016): test NLL and active units of VAE and IWAE with 1 and 2
stochastic layers and k = 1, 5, 50 samples. The density is `cvae` over a constant context: the same
bounds and gradients as in policies and dynamics. Networks, dynamic binarisation, the first 59,600
training images, NLL = −L_5000 on the 10,000 test images and the rule of active units are theirs.
Training is not: larger batches, Muon for the weight matrices, the doubly reparameterised gradient,
one cosine of the learning rate, and far fewer epochs.

Presets: "full" gives every cell nine to fifteen minutes of one core, "hour" 29 to 50 minutes (few
samples first, the cell's own last), "debug" runs whole in seconds on drawn digits.

Files: out/cells/ (scores, pictures, state and plan of every cell; an interrupted one goes on),
out/results.json (the table of all finished cells), out/figures/.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from vaerl.densities.options import check_above_zero, check_choice, check_positive
from vaerl.experiments.iwae.cell import (
    OBJECTIVES,
    Autoencoder,
    Training,
    epoch_cost,
    fit_to_minutes,
    measure_seconds,
)
from vaerl.experiments.iwae.figures import draw_figures
from vaerl.experiments.iwae.networks import LATENTS
from vaerl.experiments.iwae.score import pictures, score
from vaerl.experiments.iwae.table import assemble, in_order
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.pool import Tick
from vaerl.lab.record import read_record, write_record
from vaerl.lab.table import command_line
from vaerl.names import check_name
from vaerl.threads import limit_threads

SAMPLES = (1, 5, 50)

#: phases (k, epochs) of a cell by its k, and what else differs from a cell's defaults
PRESETS: Mapping[str, tuple[Mapping[int, tuple[tuple[int, int], ...]], Mapping[str, Any]]] = (
    MappingProxyType(
        {
            "full": (
                {1: ((1, 160),), 5: ((1, 80), (5, 55)), 50: ((1, 80), (5, 32), (50, 4))},
                {},
            ),
            "hour": (
                {1: ((1, 1000),), 5: ((1, 500), (5, 350)), 50: ((1, 500), (5, 200), (50, 20))},
                {},
            ),
            "debug": (
                {1: ((1, 1),), 5: ((5, 1),), 50: ((5, 1), (50, 1))},
                {"images": "drawn", "batch_size": 100, "test_images": 20, "test_k": 100},
            ),
        }
    )
)


def make_cells(
    preset: str = "full",
    seed: int = 0,
    layers: Sequence[int] | None = None,
    objectives: Sequence[str] | None = None,
    k: Sequence[int] | None = None,
    validation: bool = False,
    precision: str = "bfloat16",
    test_k: int | None = None,
) -> list[Autoencoder]:
    """The cells of the table, in its order; at k = 1 the IWAE is the VAE and stands for both.

    Raises ValueError for an unknown preset or objective, layers but 1 and 2, k but 1, 5 and 50.
    """
    plans, changes = PRESETS[check_name("preset", preset, PRESETS)]
    for value, legal, what in [
        *((each, tuple(LATENTS), "layers") for each in layers or ()),
        *((each, SAMPLES, "k") for each in k or ()),
    ]:
        if value not in legal:
            raise ValueError(f"{what}: got {value!r}, expected some of {legal}")
    objectives = [check_name("objective", name, OBJECTIVES) for name in objectives or OBJECTIVES]
    options = {**changes, "precision": precision}
    group = preset
    if validation and preset != "debug":
        group = f"{preset}-validation"
        options |= {"images": "mnist-validation", "test_images": 1_000, "test_k": 500}
    if test_k is not None:
        options["test_k"] = check_positive("test_k", test_k)
    wanted = [
        (depth, "iwae" if samples == 1 else objective, samples)
        for depth in layers or tuple(LATENTS)
        for samples in k or SAMPLES
        for objective in objectives
    ]
    return [
        Autoencoder(depth, objective, samples, plans[samples], seed=seed, group=group, **options)
        for depth, objective, samples in dict.fromkeys(wanted)
    ]


def run(
    out: Path,
    preset: str = "full",
    seed: int = 0,
    layers: list[int] | None = None,
    objectives: list[str] | None = None,
    k: list[int] | None = None,
    data: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    jobs: int = 1,
    threads: int = 1,
    precision: str = "bfloat16",
    validation: bool = False,
    test_k: int | None = None,
    device: str = "cpu",
    table: bool = False,
) -> Path:
    """Train and score the requested cells, print the table of all finished ones, draw.

    Args:
        out: folder of the results; finished cells found there are reused.
        preset: "full" (9 to 15 minutes of a core for each cell, and 7 to 12 for its score),
            "hour" or "debug".
        seed: of initialisation, training and test binarisation.
        layers: stochastic layers, 1 and 2 if None.
        objectives: "vae" and "iwae", both if None.
        k: samples, 1, 5 and 50 if None.
        data: folder of MNIST's IDX files; VAERL_DATA if None.
        epochs: length of a cell's plan instead of the preset's, its phases in proportion.
        minutes: the same in minutes of training at the machine's current speed, one cell at a time;
            the resulting number of epochs is kept with the cell.
        jobs: cells at once, each in its own process.
        threads: of each cell.
        precision: of the networks in training; "float32" where the processor has no bfloat16.
        validation: train on 55,000 and score on 1,000 other training images, to choose settings.
        test_k: samples K of the test NLL, 5,000 if None; a trained cell is only scored again.
        device: "cpu", or "cuda" where there is one; its random numbers are others.
        table: train nothing, only make table and pictures of all that is finished; options that
            choose cells have no effect.
    """
    cells = make_cells(preset, seed, layers, objectives, k, validation, precision, test_k)
    check_positive("jobs", jobs)
    check_positive("threads", threads)
    legal = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    check_choice("device", device, legal)
    if epochs is not None:
        check_positive("epochs", epochs)
    if minutes is not None:
        check_above_zero("minutes", minutes, at_most=1e6)
    if epochs is not None and minutes is not None:
        raise ValueError(f"epochs: got {epochs} beside minutes {minutes}, expected one of the two")
    out = Path(out)
    if not table:
        images = cells[0].load_digits(data).train  # fails at once if the files are missing
        cells = [_plan(cell, out, images, epochs, minutes, threads, device) for cell in cells]
    experiment = Experiment(partial(measure, data, device), table_of, draw_figures)
    return experiment.run(
        cells,
        out,
        command="vaerl experiment iwae-mnist",
        jobs=jobs,
        threads=threads,
        only_table=table,
        others=lambda cell: True,
    )


def _plan(
    cell: Autoencoder,
    out: Path,
    images: torch.Tensor,
    epochs: int | None,
    minutes: float | None,
    threads: int,
    device: str,
) -> Autoencoder:
    """The cell with the requested epochs; a plan in minutes is made once and kept."""
    if epochs is not None:
        each = [60.0] * len(cell.phases)
        return replace(cell, phases=fit_to_minutes(cell.phases, each, epochs))
    if minutes is None:
        return cell
    path = cell.path(out).with_suffix(".plan")
    plan = read_record(path, ("minutes", "phases"))
    if plan is None or plan["minutes"] != minutes:
        with limit_threads(threads):
            seconds = measure_seconds(cell, images, device)
        plan = {"minutes": minutes, "phases": fit_to_minutes(cell.phases, seconds, minutes)}
        write_record(path, plan)
    return replace(cell, phases=tuple((k, count) for k, count in plan["phases"]))


def measure(data: str | None, device: str, cell: Autoencoder, desk: Desk) -> Measured:
    """Train and score one cell, from wherever its state stands."""
    digits = cell.load_digits(data)
    cost = _Cost(desk.tick)
    training = Training(cell, digits.train, device, cost)
    if training.restore(desk.state):
        for number in range(training.done):
            cost(epoch_cost(cell, number, len(digits.train)))
    training.run(desk.state)
    density = training.density
    scores = score(density, digits, cell, cost)
    cuda = torch.device(device).type == "cuda"
    return Measured(
        {
            **scores,
            "train_seconds": sum(training.seconds),
            "train_gflop": training.gflop(cell.epochs),
            "train_bound": -training.losses[-1],
            "parameters": sum(p.numel() for p in density.parameters()),
            "threads": torch.get_num_threads(),
            "machine": torch.cuda.get_device_name(device)
            if cuda
            else f"{platform.machine()}, {os.cpu_count()} cores",
        },
        pictures(density, digits, cell),
    )


class _Cost:
    """Sums costs up for a `Tick`."""

    def __init__(self, tick: Tick) -> None:
        self.tick, self.total = tick, 0.0

    def __call__(self, cost: float) -> None:
        self.total += cost
        self.tick(self.total)


def table_of(results: Results) -> dict[str, Any]:
    """The table and the commands that make it: one for each preset, seed, length and scoring, or
    for each cell where not all that such a command would make are there."""
    ordered = in_order(results)
    groups: dict[str, tuple[dict[str, Any], list[Autoencoder]]] = {}
    for cell in (Autoencoder.from_data(result.cell) for result in ordered):
        preset = cell.group.removesuffix("-validation")
        validation = preset != cell.group
        (planned,) = make_cells(
            preset, cell.seed, [cell.layers], [cell.objective], [cell.k], validation
        )
        fixed: dict[str, Any] = {
            "preset": preset, "seed": cell.seed, "validation": validation,
            "precision": cell.precision,
        }  # fmt: skip
        if cell.phases != planned.phases:
            fixed["epochs"] = cell.epochs
        if cell.test_k != planned.test_k:
            fixed["test_k"] = cell.test_k
        groups.setdefault(repr(fixed), (fixed, []))[1].append(cell)
    lines = []
    for fixed, cells in groups.values():
        made = make_cells(fixed["preset"], fixed["seed"], **_choices(cells))
        whole = {_place(cell) for cell in made} == {_place(cell) for cell in cells}
        for part in [cells] if whole else [[cell] for cell in cells]:
            lines.append(command_line("iwae-mnist", run, {**fixed, **_choices(part)}))
    return {**assemble(ordered), "command": "\n".join(lines)}


def _choices(cells: Sequence[Autoencoder]) -> dict[str, Any]:
    """The options that choose these cells, but for those that would name all."""
    choices: dict[str, tuple[list[Any], list[Any]]] = {
        "layers": (sorted({cell.layers for cell in cells}), [*LATENTS]),
        "objectives": (
            sorted({cell.objective for cell in cells if cell.k > 1}), sorted(OBJECTIVES),
        ),
        "k": (sorted({cell.k for cell in cells}), [*SAMPLES]),
    }  # fmt: skip
    return {name: some for name, (some, every) in choices.items() if some and some != every}


def _place(cell: Autoencoder) -> tuple[int, str, int]:
    return cell.layers, cell.objective, cell.k
