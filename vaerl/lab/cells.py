"""Cells of an experiment: each is computed once, kept on disk, and resumed where possible.

A cell is plain data. Its result is out/cells/NAME.json; arrays lie beside it in NAME.safetensors,
the state of an unfinished training in NAME.state.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save
from torch import Tensor

from vaerl.disk import files
from vaerl.disk.errors import one_line
from vaerl.lab.console import training_bar
from vaerl.lab.pool import Tick, make_executor
from vaerl.lab.record import check_same, plain, read_record, write_record
from vaerl.threads import limit_threads


@dataclass(frozen=True)
class Cell(ABC):
    """One place of a table: the fields of a subclass determine its result."""

    #: fields that may change without a new training: the cell is then measured again
    remeasured: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of its files, different for every cell of an experiment."""

    @property
    def work(self) -> float:
        """Amount of work, in the unit in which it reports progress."""
        return 1.0

    def as_data(self) -> dict[str, Any]:
        """The cell as plain data; a saved result with the same settings is reused."""
        return plain(asdict(self))

    def path(self, out: Path) -> Path:
        """The file of its result."""
        return out / "cells" / f"{self.name}.json"


class Desk(NamedTuple):
    """The files and the callback with which a cell is computed."""

    path: Path
    """The file of its result."""
    tick: Tick
    """To be called with the amount of work done."""

    @property
    def state(self) -> Path:
        """The file for the state of its training."""
        return self.path.with_suffix(".state")


class Measured(NamedTuple):
    """The result of a cell: plain data, and arrays for pictures."""

    data: Mapping[str, Any]
    arrays: Mapping[str, Tensor] = {}


class Result(NamedTuple):
    """A finished cell as read from disk."""

    path: Path
    cell: Mapping[str, Any]
    """Its settings."""
    data: Mapping[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays; empty if it has none."""
        path = self.path.with_suffix(".safetensors")
        return load_file(path) if path.exists() else {}


Measure = Callable[[Any, Desk], Measured]
"""Computes a cell: a function of the cell alone, apart from the state it resumes from."""


def run_cells(
    cells: Sequence[Cell], out: Path, measure: Measure, *, jobs: int = 1, threads: int | None = None
) -> list[str]:
    """Compute the unfinished cells and describe those that failed, one line each.

    Args:
        cells: the cells to compute, in this order.
        out: folder of the results.
        measure: picklable function that computes a cell.
        jobs: processes; 1 uses this one.
        threads: of each; by default one, unless the user has set another number.

    Raises:
        ValueError: a file is damaged or belongs to other settings; nothing is run.
    """
    executor = make_executor(jobs)
    missing = [cell for cell in cells if read_cell(cell, out) is None]
    work = partial(_work_out, measure, out, threads)
    done = [0.0] * len(missing)
    total = sum(cell.work for cell in cells)
    finished = total - sum(cell.work for cell in missing)
    failures = []
    with training_bar({"cells": ceil(total)}) as advance:

        def show(place: int, amount: float) -> None:
            done[place] = amount
            advance("cells", ceil(finished + sum(done)))

        with closing(executor.run(work, missing, show)) as ends:  # type: ignore[type-var]
            for end in ends:
                show(end.place, missing[end.place].work)
                if end.error is not None:
                    failures.append(f"{missing[end.place].name}: {one_line(end.error)}")
                    print(f"vaerl: {failures[-1]}", file=sys.stderr)
    return failures


def read_cell(cell: Cell, out: Path) -> Result | None:
    """The result of a finished cell; None if it has to be computed or measured again.

    Raises:
        ValueError: the file is damaged or belongs to other settings.
    """
    path = cell.path(out)
    result = _read(path)
    if result is None or not check_same(path, result.cell, cell.as_data(), cell.remeasured):
        return None
    return result


def read_cells(out: Path) -> list[Result]:
    """All finished cells of a folder, in the order of their names."""
    found = map(_read, sorted((out / "cells").glob("*.json")))
    return [result for result in found if result is not None]


def _read(path: Path) -> Result | None:
    record = read_record(path, ("cell", "result", "has_arrays"))
    if record is None or (record["has_arrays"] and not path.with_suffix(".safetensors").exists()):
        return None
    return Result(path, record["cell"], record["result"])


def write_cell(cell: Cell, out: Path, measured: Measured) -> None:
    """Write the result of a cell; its arrays come first, so that a result is never without them."""
    path = cell.path(out)
    if measured.arrays:
        files.write_bytes(path.with_suffix(".safetensors"), save(dict(measured.arrays)))
    write_record(
        path,
        {
            "cell": cell.as_data(),
            "result": dict(measured.data),
            "has_arrays": bool(measured.arrays),
        },
    )


def _work_out(measure: Measure, out: Path, threads: int | None, cell: Cell, tick: Tick) -> None:
    path = cell.path(out)
    files.make_directory(path.parent)
    start = time.process_time()
    with limit_threads(threads), torch.random.fork_rng(devices=[]):
        data, arrays = measure(cell, Desk(path, tick))
    seconds = round(time.process_time() - start, 2)
    made = {"cpu_seconds": seconds, "machine": f"{os.cpu_count()} cores"}
    write_cell(cell, out, Measured({**made, **data}, arrays))
