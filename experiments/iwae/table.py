"""The IWAE table as plain data, from the finished cells of a folder, beside the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaerl.experiments.iwae.cell import Cell
from vaerl.experiments.iwae.run import read_result

PUBLISHED = {
    (1, 1): ("86.76", "86.76"),
    (1, 5): ("86.47", "85.54"),
    (1, 50): ("86.35", "84.78"),
    (2, 1): ("85.33", "85.33"),
    (2, 5): ("85.01", "83.89"),
    (2, 50): ("84.78", "82.90"),
}
"""NLL of VAE and IWAE by layers and k (Burda et al. 2016, table 1)."""

Results = Mapping[Path, Mapping[str, Any]]
"""Results by the folder of their cell, PRESET-NAME."""


def read_cells(out: Path) -> dict[Path, dict[str, Any]]:
    """All finished cells of a folder, by their own folder, in the order of the table."""
    results = {folder: read_result(folder) for folder in sorted(out.glob("cells/*"))}
    found = {folder: result for folder, result in results.items() if result is not None}
    return dict(sorted(found.items(), key=lambda item: _order(*item)))


def preset_of(folder: Path) -> str:
    """The preset of a cell's folder: what stands before its name."""
    return folder.name.rpartition("-L")[0]


def _order(folder: Path, result: Mapping[str, Any]) -> tuple[Any, ...]:
    cell = result["cell"]
    return preset_of(folder), cell["seed"], cell["layers"], cell["k"], cell["objective"]


def assemble(results: Results, command: str) -> dict[str, Any]:
    """A row a budget, a number of layers and a k; VAE and IWAE beside each other."""
    rows: dict[tuple[str, int, int, int], dict[str, Mapping[str, Any]]] = {}
    for folder, result in results.items():
        cell = Cell.from_record(result["cell"])
        names = ("vae", "iwae") if cell.k == 1 else (cell.objective,)
        key = (preset_of(folder), cell.seed, cell.layers, cell.k)
        rows.setdefault(key, {}).update(dict.fromkeys(names, result))
    return {
        "title": "IWAE on MNIST: test NLL (nats) and active units",
        "command": command,
        "caption": _caption(results),
        "columns": [
            "budget", "layers", "k", "VAE NLL", "active", "IWAE NLL", "active",
            "published VAE, IWAE", "epochs (k)", "CPU minutes",
        ],
        "rows": [_row(preset, layers, k, row) for (preset, _, layers, k), row in rows.items()],
        "versions": next(iter(results.values()))["versions"],
        "notes": _notes([*results.values()]),
    }  # fmt: skip


def _row(preset: str, layers: int, k: int, row: Mapping[str, Mapping[str, Any]]) -> list[str]:
    cells = []
    for objective in ("vae", "iwae"):
        result = row.get(objective)
        units = "" if result is None else "+".join(map(str, result["active"]))
        cells += ["", ""] if result is None else [f"{result['nll']:.2f}", units]
    members = list({id(result): result for result in row.values()}.values())
    plans = {
        " + ".join(f"{epochs} ({samples})" for samples, epochs in result["cell"]["phases"])
        for result in members
    }
    minutes = ", ".join(f"{result['train_seconds'] / 60:.1f}" for result in members)
    return [
        preset, str(layers), str(k), *cells, ", ".join(PUBLISHED[layers, k]),
        "; ".join(sorted(plans)), minutes,
    ]  # fmt: skip


def _caption(results: Results) -> str:
    cells = {folder: Cell.from_record(result["cell"]) for folder, result in results.items()}
    seeds = ", ".join(sorted({str(cell.seed) for cell in cells.values()}))
    scored = sorted(
        {
            f"{preset_of(folder)}: {cell.images}, {cell.test_images:,} test images, "
            f"K = {cell.test_k:,}"
            for folder, cell in cells.items()
        }
    )
    data = "; ".join(scored)
    batches = ", ".join(sorted({str(cell.batch_size) for cell in cells.values()}))
    rates = ", ".join(sorted({f"{cell.learning_rate:g}" for cell in cells.values()}))
    return (
        f"NLL = −mean L_K ({data}), binarised anew at every use; a unit is active where the "
        "variance of its posterior mean over 500 training images is above 0.01, h_1 first. "
        f"Networks of Burda et al.; seed {seeds}, batches of {batches}, Muon at {rates} for the "
        "matrices and Adam for the biases, cosine, doubly reparameterised gradient. At k = 1 both "
        "objectives are one."
    )


def _notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    error = max(result["nll_error"] for result in results)
    machines = sorted({f"{r['machine']}, {r['threads']} threads a cell" for r in results})
    precisions = sorted({r["cell"]["precision"] for r in results})
    return [
        f"Standard error of an NLL over the test images: at most {error:.2f}; the differences "
        "between cells are on common images and much more certain.",
        f"CPU minutes (all threads together): training, on {'; '.join(machines)}; networks in "
        f"{', '.join(precisions)}, log-weights in float32; scoring in float32.",
        "Published: 3280 epochs in batches of 20 (Burda et al. 2016, table 1).",
    ]
