"""Cells are worked out once, refused with other settings, and fail alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from vaerl.disk.errors import RunsFailed
from vaerl.lab.cells import Cell, Desk, Measured, read_cell
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.record import read_record, write_record


@dataclass(frozen=True)
class Toy(Cell):
    """Takes the square root of a number."""

    remeasured: ClassVar[tuple[str, ...]] = ("digits",)
    seed: int
    number: float = 4.0
    digits: int = 3

    @property
    def name(self) -> str:
        return f"toy.s{self.seed}"


def measure(cell: Toy, desk: Desk) -> Measured:
    """Fails below zero."""
    if cell.number < 0.0:
        raise ArithmeticError("no root")
    desk.tick(1.0)
    torch.manual_seed(cell.seed)
    root = round(cell.number**0.5, cell.digits)
    return Measured({"root": root}, {"noise": torch.randn(2)})


def assemble(results: Results) -> Mapping[str, Any]:
    """A row a cell."""
    rows = [[str(r.cell["seed"]), f"{r.data['root']}"] for r in results]
    return {"title": "Roots", "caption": "Square roots.", "columns": ["seed", "root"], "rows": rows}


TOYS = Experiment(measure, assemble)


def rows(path: Path) -> list[list[str]]:
    """The table."""
    return json.loads(path.read_text())["rows"]


def test_finished_cells_are_reused(tmp_path: Path) -> None:
    """Their files stay as they are; pictures have the arrays; global randomness is left alone."""
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    path = TOYS.run([Toy(0), Toy(1, 9.0)], tmp_path, command="vaerl …")
    assert rows(path) == [["0", "2.0"], ["1", "3.0"]]
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert len(times) == 4
    TOYS.run([Toy(0)], tmp_path, others=lambda cell: cell["seed"] == 1)
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert rows(path) == [["0", "2.0"], ["1", "3.0"]]
    found = read_cell(Toy(0), tmp_path)
    assert found is not None and found.arrays()["noise"].shape == (2,)
    found.path.with_suffix(".safetensors").unlink()
    assert read_cell(Toy(0), tmp_path) is None


def test_two_jobs_give_the_numbers_of_one(tmp_path: Path) -> None:
    cells = [Toy(seed, float(seed)) for seed in range(3)]
    one, two = (TOYS.run(cells, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert rows(one) == rows(two)


def test_other_settings_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """One line names the file and both values; settings of the measurement alone are free."""
    TOYS.run([Toy(0)], tmp_path)
    with pytest.raises(ValueError, match=r"toy\.s0\.json: made with other settings \(number: got"):
        TOYS.run([Toy(1), Toy(0, 9.0)], tmp_path)
    assert not Toy(1).path(tmp_path).exists()
    assert rows(TOYS.run([replace(Toy(0, digits=1))], tmp_path)) == [["0", "2.0"]]


@pytest.mark.parametrize("text", ["", '{"cell": {', '{"cell": {}}', "3"])
def test_a_damaged_cell_is_named(text: str, tmp_path: Path) -> None:
    path = Toy(0).path(tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"toy\.s0\.json: .*delete it") as caught:
        TOYS.run([Toy(0)], tmp_path)
    assert "\n" not in str(caught.value) and path.read_text() == text


def test_a_failing_cell_does_not_stop_others(tmp_path: Path) -> None:
    """The table has those that finished; the error names those that did not."""
    cells = [Toy(0, -1.0), Toy(1)]
    with pytest.raises(RunsFailed, match=r"^1 of 2 cells failed: toy\.s0: no root$"):
        TOYS.run(cells, tmp_path)
    assert rows(tmp_path / "results.json") == [["1", "2.0"]]


def test_a_table_of_nothing_is_refused(tmp_path: Path) -> None:
    """Whether nothing is finished, or the options select nothing; so is an illegal seed."""
    with pytest.raises(ValueError, match="holds no finished cell"):
        TOYS.run([Toy(0)], tmp_path, only_table=True, others=lambda cell: True)
    with pytest.raises(ValueError, match=r"^the options select nothing to compute"):
        TOYS.run([], tmp_path)
    with pytest.raises(ValueError, match=r"^seeds: got -1, expected a whole number from 0"):
        TOYS.run([Toy(0), Toy(-1)], tmp_path)
    assert not [*tmp_path.iterdir()]


def test_two_experiments_do_not_share_a_folder(tmp_path: Path) -> None:
    """The other one's record stays as it is, and nothing is computed; with another file both have
    their tables, each of its own cells."""
    path = TOYS.run([Toy(0)], tmp_path, command="vaerl experiment toy --seeds 0")
    before = path.read_bytes()
    message = f"out: {tmp_path} holds the results of vaerl experiment toy; choose another --out"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TOYS.run([Toy(1)], tmp_path, command="vaerl experiment other")
    assert path.read_bytes() == before and not Toy(1).path(tmp_path).exists()
    TOYS.run([Toy(0)], tmp_path, command="vaerl experiment toy")
    (tmp_path / "cells" / "strange.json").write_bytes(
        b'{"cell": {"task": "toy"}, "result": {}, "has_arrays": false}'
    )
    command = "vaerl experiment other"
    other = TOYS.run(
        [Toy(1)], tmp_path, command=command, file="other.json", others=lambda cell: cell["seed"] < 1
    )
    assert rows(other) == [["1", "2.0"], ["0", "2.0"]]


def test_a_record_holds_lists_of_numbers_on_one_line(tmp_path: Path) -> None:
    """What is read is what was written; texts that look like lists stay as they are."""
    record = {
        "curve": [[10, -1.5], [20, 3e-20]],
        "text": "[\n 1,\n 2\n]",
        "names": ["1", "2"],
        "no": [],
    }
    path = write_record(tmp_path / "record.json", record)
    assert read_record(path) == record
    assert "  [10, -1.5],\n  [20, 3e-20]\n" in path.read_text()
