"""Cells of the IWAE table run to their end: in this process or several, each under its own bar."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from vaerl.densities.cvae import CVAE
from vaerl.disk import files, jsonio
from vaerl.experiments.iwae.cell import Cell, Training, epoch_cost, train
from vaerl.experiments.iwae.mnist import PIXELS
from vaerl.experiments.iwae.networks import build_density
from vaerl.experiments.iwae.score import pictures, score, score_cost
from vaerl.lab.records import read_record
from vaerl.lab.workers import worker_pool
from vaerl.runs.console import training_bar
from vaerl.runs.directory import versions
from vaerl.threads import limit_threads

RESULT = "result.json"
PARAMETERS = "density.safetensors"
PICTURES = "pictures.safetensors"
Tick = Callable[[str, float], None]


def run_cell(
    cell: Cell,
    folder: Path,
    data: str | None,
    threads: int,
    device: str = "cpu",
    tick: Tick | None = None,
) -> dict[str, Any]:
    """Train and score one cell, from wherever its folder stands; write and give the result.

    `tick` gets "training" or "scoring" and the cost done since the last call, in seconds of one
    core (`epoch_cost`, `score_cost`).
    """
    done = finished(cell, folder)
    if done is not None:
        return done
    call: Tick = tick or (lambda stage, work: None)
    with limit_threads(threads):
        digits = cell.load_digits(data)
        training = Training(cell, digits.train, device)
        if training.restore(folder):
            epochs = range(len(training.history))
            call("training", sum(epoch_cost(cell, n, len(digits.train)) for n in epochs))
        density = train(training, folder, lambda work: call("training", work))
        scores = score(density, digits, cell, lambda work: call("scoring", work))
    result = {
        "cell": cell.record(),
        **scores,
        "train_seconds": sum(epoch["seconds"] for epoch in training.history),
        "train_gflop": training.gflop(cell.epochs),
        "train_bound": training.history[-1]["bound"],
        "parameters": sum(p.numel() for p in density.parameters()),
        "threads": threads,
        "machine": machine(device),
        "versions": {name: versions()[name] for name in ("vaerl", "python", "torch")},
    }
    files.write_bytes(folder / PICTURES, save(pictures(density, digits, cell)))
    files.write_bytes(folder / PARAMETERS, save(density.state_dict()))
    files.write_text(folder / RESULT, jsonio.dumps(result, indent=1))
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished cell, None where there is none."""
    return read_record(folder / RESULT, ("cell", "nll", "active", "train_seconds", "threads"))


def finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The result of this very cell, None where it or what its pictures are drawn of is missing."""
    result = read_result(folder)
    whole = (folder / PICTURES).exists() and (folder / PARAMETERS).exists()
    return result if whole and result is not None and result["cell"] == cell.record() else None


def machine(device: str) -> str:
    """What a cell ran on, in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} cores"


def load_density(cell: Cell, folder: Path) -> CVAE:
    """The trained density of a finished cell."""
    density = build_density(
        cell.layers, f"{cell.objective}-k", cell.k, torch.full((PIXELS,), 0.5), cell.seed
    )
    density.load_state_dict(load_file(folder / PARAMETERS))
    return density.eval()


def run_cells(
    planned: Mapping[Path, Cell],
    data: str | None,
    jobs: int = 1,
    threads: int = 1,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Run the cells, by folder, `jobs` at a time; their results, in order.

    A bar for each stage of a cell and one for all of them. They count seconds of one core as once
    measured, not updates, so that a training of few samples first and many last gets an honest
    estimate, and the sum does.
    """
    missing = {f: cell for f, cell in planned.items() if finished(cell, f) is None}
    work = {folder: _work(cell) for folder, cell in missing.items()}
    titles = [(folder, stage) for folder in work for stage in STAGES]
    names = {title: f"{title[0].name} {title[1]}" for title in titles}
    totals = {names[f, stage]: math.ceil(work[f][stage]) for f, stage in titles}
    if len(work) > 1:
        totals["all cells"] = math.ceil(sum(work[f][stage] for f, stage in titles))
    with training_bar(totals) as advance:
        done = dict.fromkeys(titles, 0.0)

        def show(folder: Path, stage: str, cost: float) -> None:
            done[folder, stage] = cost
            advance(names[folder, stage], math.ceil(cost))
            if len(work) > 1:
                advance("all cells", math.ceil(sum(done.values())))

        if jobs == 1:
            for folder in work:

                def tick(stage: str, cost: float, folder: Path = folder) -> None:
                    show(folder, stage, done[folder, stage] + cost)

                run_cell(planned[folder], folder, data, threads, device, tick)
        elif work:
            order = [(folder, planned[folder]) for folder in work]
            for place, value in _in_processes(order, data, jobs, threads, device):
                show(*titles[place], value)
    results = [read_result(folder) for folder in planned]
    return [result for result in results if result is not None]


STAGES = ("training", "scoring")


def _work(cell: Cell) -> dict[str, float]:
    """Seconds of one core that both stages of a cell may take."""
    images = {"mnist": (59_600, 10_000), "mnist-validation": (55_000, 5_000), "drawn": (600, 200)}
    count, tests = images[cell.images]
    return {
        "training": sum(epoch_cost(cell, number, count) for number in range(cell.epochs)),
        "scoring": score_cost(cell, tests),
    }


def _in_processes(
    order: Sequence[tuple[Path, Cell]], data: str | None, jobs: int, threads: int, device: str
) -> Iterator[tuple[int, float]]:
    """Progress of cells that run in processes of their own: (2 · cell + stage, cost done)."""
    progress = multiprocessing.get_context("spawn").Array(ctypes.c_double, 2 * len(order))
    with worker_pool(jobs, _share, (progress,)) as pool:
        waiting = {
            pool.submit(_run_and_report, place, cell, folder, data, threads, device)
            for place, (folder, cell) in enumerate(order)
        }
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=1.0)
                yield from enumerate([*progress[:]])
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_progress: Any = None  # in a worker: cost done, two numbers a cell


def _share(progress: Any) -> None:
    global _progress
    _progress = progress


def _run_and_report(
    place: int, cell: Cell, folder: Path, data: str | None, threads: int, device: str
) -> None:
    def tick(stage: str, cost: float) -> None:
        _progress[2 * place + STAGES.index(stage)] += cost

    run_cell(cell, folder, data, threads, device, tick)
