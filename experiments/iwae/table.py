"""The IWAE table as plain data, from the finished cells of a folder, beside the published one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaerl.lab.cells import Result
from vaerl.lab.experiment import Results
from vaerl.lab.table import quantity

PUBLISHED = {
    (1, 1): ("86.76", "86.76"),
    (1, 5): ("86.47", "85.54"),
    (1, 50): ("86.35", "84.78"),
    (2, 1): ("85.33", "85.33"),
    (2, 5): ("85.01", "83.89"),
    (2, 50): ("84.78", "82.90"),
}
"""NLL of VAE and IWAE by layers and k (Burda et al. 2016, table 1)."""


def in_order(results: Results) -> list[Result]:
    """Results in the order of the table."""
    names = ("group", "seed", "layers", "k", "objective")
    return sorted(results, key=lambda result: [result.cell[name] for name in names])


def assemble(results: Results) -> dict[str, Any]:
    """A row for each budget, number of layers and k; VAE and IWAE beside each other."""
    rows: dict[tuple[str, int, int, int], dict[str, Result]] = {}
    for result in results:
        cell = result.cell
        names = ("vae", "iwae") if cell["k"] == 1 else (cell["objective"],)
        key = (cell["group"], cell["seed"], cell["layers"], cell["k"])
        rows.setdefault(key, {}).update(dict.fromkeys(names, result))
    scored = {
        f"{r.cell['test_images']:,} test images ({r.cell['images']}), K = {r.cell['test_k']:,}"
        for r in results
    }
    error = max(r.data["nll_error"] for r in results)
    machines = sorted(
        {f"{r.data['machine']}, {quantity(r.data['threads'], 'thread')}" for r in results}
    )
    return {
        "title": "IWAE on MNIST: test NLL (nats) and active units",
        "caption": (
            f"NLL = −mean L_K over {'; '.join(sorted(scored))}. A unit is active if the variance "
            "of its posterior mean over 500 training images exceeds 0.01 (h_1 first)."
        ),
        "columns": [
            "budget", "layers", "k", "VAE NLL", "active", "IWAE NLL", "active",
            "published VAE, IWAE", "epochs (k)", "CPU minutes",
        ],
        "rows": [_row(group, layers, k, row) for (group, _, layers, k), row in rows.items()],
        "notes": [
            "At k = 1 both objectives are the same.",
            f"Standard error of an NLL over the test images: at most {error:.2f}; cells share the "
            "images, so their differences are much more certain.",
            f"CPU minutes of training on {'; '.join(machines)}.",
            "Published: 3280 epochs in batches of 20 (Burda et al. 2016, table 1).",
        ],
        "data": {r.path.stem: {"cell": dict(r.cell), **r.data} for r in results},
    }  # fmt: skip


def _row(group: str, layers: int, k: int, row: Mapping[str, Result]) -> list[str]:
    cells = []
    for objective in ("vae", "iwae"):
        result = row.get(objective)
        units = "" if result is None else "+".join(map(str, result.data["active"]))
        cells += ["", ""] if result is None else [f"{result.data['nll']:.2f}", units]
    members = list({result.path: result for result in row.values()}.values())
    plans = {
        " + ".join(f"{epochs} ({samples})" for samples, epochs in result.cell["phases"])
        for result in members
    }
    minutes = ", ".join(f"{result.data['train_seconds'] / 60:.1f}" for result in members)
    return [
        group, str(layers), str(k), *cells, ", ".join(PUBLISHED[layers, k]),
        "; ".join(sorted(plans)), minutes,
    ]  # fmt: skip
