"""Does the core reproduce the importance-weighted autoencoder on MNIST?

Burda, Grosse & Salakhutdinov (2016): test NLL and active units of VAE and IWAE with 1 and 2
stochastic layers and k = 1, 5, 50 samples. The density is `cvae` over a constant context: the same
bounds and gradients as in policies and dynamics. Networks, dynamic binarisation, the first 59,600
training images, NLL = −L_5000 on the 10,000 test images and the rule of active units are theirs.
Training is not: larger batches, Muon for the weight matrices, the doubly reparameterised gradient,
one cosine of the learning rate, and far fewer epochs.

Presets: "full" gives every cell nine to fifteen minutes of one core, "hour" what 60 to 90 of them
make of it (few samples first, the cell's own last), "debug" runs whole in seconds on drawn digits.

Files: out/cells/ (a folder a cell: state, plan, scores; a finished cell is not repeated, an
interrupted one goes on), out/results.json (the table), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from vaerl.densities.options import check_choice, check_positive
from vaerl.disk import files, jsonio
from vaerl.experiments.iwae.cell import (
    OBJECTIVES,
    STATE,
    Cell,
    difference,
    fit_to_minutes,
    measure_seconds,
)
from vaerl.experiments.iwae.figures import draw_figures
from vaerl.experiments.iwae.networks import LATENTS
from vaerl.experiments.iwae.run import run_cells
from vaerl.experiments.iwae.table import Results, assemble, preset_of, read_cells
from vaerl.lab.records import read_record
from vaerl.names import check_name
from vaerl.runs.console import print_table
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
) -> list[Cell]:
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
    if validation and preset != "debug":
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
        Cell(depth, objective, samples, plans[samples], seed=seed, **options)
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
    """Train and score the cells that are asked for, print the table of all finished ones, draw.

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
        minutes: the same in minutes of training on this machine as it is now, one cell at a time;
            what comes out in epochs is kept with the cell.
        jobs: cells at once, each in its own process.
        threads: torch threads a cell.
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
    if minutes is not None and not 0.0 < minutes < 1e6:
        raise ValueError(f"minutes: got {minutes!r}, expected a number above 0")
    if epochs is not None and minutes is not None:
        raise ValueError(f"epochs: got {epochs} beside minutes {minutes}, expected one of the two")
    group = f"{preset}-validation" if validation and preset != "debug" else preset
    if not table:
        digits = cells[0].load_digits(data)  # says at once where the files are missing
        planned = {}
        for cell in cells:
            folder = Path(out) / "cells" / f"{group}-{cell.name}"
            planned[folder] = _plan(cell, folder, digits.train, epochs, minutes, threads, device)
        del digits
        run_cells(planned, data, jobs, threads, device)
    finished = read_cells(Path(out))
    if not finished:
        raise ValueError(f"out: {out} holds no finished cell; run without --table first")
    record = assemble(finished, "\n".join(command_lines(finished)))
    path = Path(out) / "results.json"
    files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    print_table(record["title"], record["columns"], record["rows"])
    for line in (record["caption"], *record["notes"]):
        print(line)
    draw_figures(finished, Path(out))
    return path


def _plan(
    cell: Cell,
    folder: Path,
    images: torch.Tensor,
    epochs: int | None,
    minutes: float | None,
    threads: int,
    device: str,
) -> Cell:
    """The cell with the epochs asked for, written down; a plan in minutes that is there is kept.

    Another plan is refused once something was trained by it.
    """
    path = folder / "plan.json"
    kept = read_record(path, ("cell", "minutes"))
    if kept is not None and kept["minutes"] == minutes and minutes is not None:
        cell = replace(cell, phases=Cell.from_record(kept["cell"]).phases)
    elif epochs is not None:
        phases = fit_to_minutes(cell.phases, [60.0] * len(cell.phases), epochs)
        cell = replace(cell, phases=phases)
    elif minutes is not None:
        with limit_threads(threads):
            seconds = measure_seconds(cell, images, device)
        cell = replace(cell, phases=fit_to_minutes(cell.phases, seconds, minutes))
    begun = (folder / STATE).exists()
    if kept is not None and begun and not cell.trains_as(kept["cell"]):
        raise ValueError(
            f"out: {folder} has another plan ({difference(kept['cell'], cell)}); "
            "expected the same, or another --out"
        )
    files.make_directory(folder)
    files.write_text(path, jsonio.dumps({"cell": cell.record(), "minutes": minutes}, indent=1))
    return cell


def command_lines(results: Results) -> list[str]:
    """The commands that make finished cells again: one a preset, seed, length and scoring."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for folder, result in results.items():
        cell, group = Cell.from_record(result["cell"]), preset_of(folder)
        preset = group.removesuffix("-validation")
        planned = make_cells(
            preset, cell.seed, [cell.layers], [cell.objective], [cell.k], preset != group
        )[0]
        words = [f"--preset {preset}", f"--seed {cell.seed}"]
        words += [f"--epochs {cell.epochs}"] if cell.phases != planned.phases else []
        words += [f"--test-k {cell.test_k}"] if cell.test_k != planned.test_k else []
        words += [f"--precision {cell.precision}"] if cell.precision != planned.precision else []
        words += ["--validation"] if preset != group else []
        groups.setdefault(tuple(words), []).append(cell)
    lines = []
    for fixed, cells in groups.items():
        choices: dict[str, list[Any]] = {
            "layers": sorted({cell.layers for cell in cells}),
            "objectives": sorted({cell.objective for cell in cells if cell.k > 1}),
            "k": sorted({cell.k for cell in cells}),
        }
        every = {"layers": [*LATENTS], "objectives": sorted(OBJECTIVES), "k": [*SAMPLES]}
        chosen = [
            f"--{name} {','.join(map(str, values))}"
            for name, values in choices.items()
            if values and values != every[name]
        ]
        lines.append(" ".join(["vaerl experiment iwae-mnist", *fixed, *chosen]))
    return lines
