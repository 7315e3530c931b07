"""An experiment: it computes cells, makes a table of them, draws pictures and writes a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaerl.densities.options import check_seed
from vaerl.disk.errors import RunsFailed
from vaerl.lab.cells import Cell, Measure, Result, read_cell, read_cells, run_cells
from vaerl.lab.record import machine_versions, print_record, read_record, write_record

Results = Sequence[Result]


@dataclass(frozen=True)
class Experiment:
    """What a question supplies to the laboratory.

    Args:
        measure: computes one cell.
        assemble: makes the record of the table (title, caption, columns, rows; perhaps notes,
            settings, data, command) from finished cells.
        draw: draws pictures of finished cells into a folder's figures/.
        apart: print the rows of each first cell of the table separately.
    """

    measure: Measure
    assemble: Callable[[Results], Mapping[str, Any]]
    draw: Callable[[Results, Path], Any] | None = None
    apart: bool = False

    def run(
        self,
        cells: Sequence[Cell],
        out: Path,
        *,
        command: str = "",
        jobs: int = 1,
        threads: int | None = None,
        only_table: bool = False,
        others: Callable[[Mapping[str, Any]], bool] | None = None,
        file: str = "results.json",
    ) -> Path:
        """Compute the missing cells, print the table, draw; return the file of the record.

        Args:
            cells: the requested cells.
            out: folder of the results; finished cells found there are reused.
            command: makes the table again, unless `assemble` gives its own; its first words tell
                whose results the folder holds.
            jobs, threads: processes, and threads of each (one by default).
            only_table: compute no cell.
            others: whether the table holds a finished cell of the folder, by its settings, beside
                those asked for; with `only_table` instead of them. Cells with other fields are
                not asked about.
            file: name of the record in `out`.

        Raises:
            ValueError: a file belongs to other settings or another experiment, no cell is asked
                for, a seed is illegal, or nothing is finished.
            RunsFailed: some cells failed; raised after the table of the others.
        """
        out = Path(out)
        path = out / file
        _check_own(path, command)
        if not cells:
            raise ValueError("the options select nothing to compute; allow more of them")
        for cell in cells:
            check_seed("seeds", getattr(cell, "seed", 0))
        run = [] if only_table else cells
        failures = run_cells(run, out, self.measure, jobs=jobs, threads=threads)
        asked = [read_cell(cell, out) for cell in run]
        results = {result.path: result for result in asked if result is not None}
        if others is not None:
            kinds = {frozenset(cell.as_data()) for cell in cells}
            own = [r for r in read_cells(out) if frozenset(r.cell) in kinds]
            results |= {r.path: r for r in own if others(r.cell)}
        if results:
            record = {"command": command, **self.assemble([*results.values()])}
            write_record(path, {**record, "versions": machine_versions()})
            print_record(record, self.apart)
            if self.draw is not None:
                self.draw([*results.values()], out)
        if failures:
            raise RunsFailed(f"{len(failures)} of {len(run)} cells failed: {'; '.join(failures)}")
        if not results:
            raise ValueError(f"out: {out} holds no finished cell; run without --table first")
        return path


def _check_own(path: Path, command: str) -> None:
    """Raise one line if the record was made by another experiment, whose table would be lost."""
    record = read_record(path)
    words = ("" if record is None else str(record.get("command", ""))).split()[:3]
    wanted = command.split()[:3]
    if wanted[:2] == words[:2] == ["vaerl", "experiment"] and words != wanted:
        raise ValueError(
            f"out: {path.parent} holds the results of {' '.join(words)}; choose another --out"
        )
