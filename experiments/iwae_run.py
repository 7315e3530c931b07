"""Cells of the IWAE table run to their end: in this process or several, each under its own bar."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from vaerl.cli_output import training_bar
from vaerl.densities.cvae import CVAE
from vaerl.experiments.cells import torch_threads
from vaerl.experiments.iwae_cell import Cell, Training, train
from vaerl.experiments.iwae_networks import build_density
from vaerl.experiments.iwae_score import pictures, score, score_gflop
from vaerl.experiments.mnist import PIXELS
from vaerl.runs import files, jsonio
from vaerl.runs.directory import versions

RESULT = "result.json"
PARAMETERS = "density.safetensors"
PICTURES = "pictures.safetensors"
Tick = Callable[[str, float], None]


def run_cell(
    cell: Cell, folder: Path, data: str | None, threads: int, tick: Tick | None = None
) -> dict[str, Any]:
    """Train and score one cell, from wherever its folder stands; write and give the result.

    `tick` gets "training" or "scoring" and the GFLOP done since the last call.
    """
    done = read_result(folder)
    if done is not None and done["cell"] == cell.record():
        return done
    call: Tick = tick or (lambda stage, work: None)
    with torch_threads(threads):
        digits = cell.load_digits(data)
        training = Training(cell, digits.train)
        if training.restore(folder):
            call("training", training.gflop(len(training.history)))
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
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: versions()[name] for name in ("vaerl", "python", "torch")},
    }
    files.write_bytes(folder / PICTURES, save(pictures(density, digits, cell)))
    files.write_bytes(folder / PARAMETERS, save(density.state_dict()))
    files.write_text(folder / RESULT, jsonio.dumps(result, indent=1))
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished cell, None where there is none."""
    path = folder / RESULT
    return jsonio.loads(path.read_bytes(), path.name) if path.exists() else None


def load_density(cell: Cell, folder: Path) -> CVAE:
    """The trained density of a finished cell."""
    density = build_density(
        cell.layers, f"{cell.objective}-k", cell.k, torch.full((PIXELS,), 0.5), cell.seed
    )
    density.load_state_dict(load_file(folder / PARAMETERS))
    return density.eval()


def run_cells(
    planned: Mapping[Path, Cell], data: str | None, jobs: int = 1, threads: int = 1
) -> list[dict[str, Any]]:
    """Run the cells, by folder, `jobs` at a time; their results, in order.

    Bars count GFLOP, so that a training of few samples first and many last gets an honest estimate.
    """
    work = {folder: _work(cell) for folder, cell in planned.items() if not _is_done(cell, folder)}
    titles = {(folder, stage): f"{folder.name} {stage}" for folder in work for stage in STAGES}
    totals = {titles[f, stage]: round(gflop) for f in work for stage, gflop in work[f].items()}
    with training_bar(totals) as advance:
        if jobs == 1:
            for folder in work:
                done = dict.fromkeys(STAGES, 0.0)

                def tick(stage: str, gflop: float, folder: Path = folder, done: Any = done) -> None:
                    done[stage] += gflop
                    advance(titles[folder, stage], round(done[stage]))

                run_cell(planned[folder], folder, data, threads, tick)
        elif work:
            order = [(folder, planned[folder]) for folder in work]
            for place, value in _in_processes(order, data, jobs, threads):
                folder = order[place // 2][0]
                advance(titles[folder, STAGES[place % 2]], round(value))
    results = [read_result(folder) for folder in planned]
    return [result for result in results if result is not None]


STAGES = ("training", "scoring")


def _is_done(cell: Cell, folder: Path) -> bool:
    result = read_result(folder)
    return result is not None and result["cell"] == cell.record()


def _work(cell: Cell) -> dict[str, float]:
    """GFLOP of both stages of a cell."""
    images = {"mnist": (59_600, 10_000), "mnist-validation": (55_000, 5_000), "drawn": (600, 200)}
    count, tests = images[cell.images]
    training = Training(cell, torch.full((1, PIXELS), 0.5).expand(count, PIXELS))
    return {
        "training": training.gflop(cell.epochs),
        "scoring": score_gflop(training.density, cell, tests),
    }


def _in_processes(
    order: Sequence[tuple[Path, Cell]], data: str | None, jobs: int, threads: int
) -> Iterator[tuple[int, float]]:
    """Progress of cells that run in processes of their own: (2 · cell + stage, GFLOP done)."""
    context = multiprocessing.get_context("spawn")
    progress = context.Array(ctypes.c_double, 2 * len(order))
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_share, initargs=(progress,)
    ) as pool:
        waiting = {
            pool.submit(_run_and_report, place, cell, folder, data, threads)
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


_progress: Any = None  # in a worker: GFLOP done, two numbers a cell


def _share(progress: Any) -> None:
    global _progress
    _progress = progress


def _run_and_report(place: int, cell: Cell, folder: Path, data: str | None, threads: int) -> None:
    def tick(stage: str, gflop: float) -> None:
        _progress[2 * place + STAGES.index(stage)] += gflop

    run_cell(cell, folder, data, threads, tick)
