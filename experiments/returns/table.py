"""The table of finished runs, and their learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.disk import files
from vaerl.lab.experiment import Results
from vaerl.lab.stats import ENOUGH, middle, middle_and_interval
from vaerl.report.curve_figures import Curve, draw_curves
from vaerl.report.figures import figure_style, new_figure, save_png

PANELS = 3
"""In a row of the figure."""
MARKS = (20_000, 30_000, 50_000, 100_000)
"""Steps at which the table reports, beside the end; public tables have most of them."""


def assemble(results: Results) -> dict[str, Any]:
    """The record: a row for each environment, row and density; all curves are its data.

    A run does not depend on its length, but for the rate of `xqc` and `flash`, which falls to its
    end. So a longer one counts at the earlier steps too, and stands for a shorter one of the same
    seed.
    """
    groups: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    lengths: dict[tuple[str, str, str], int] = {}
    for result in sorted(results, key=lambda result: result.cell["steps"]):
        cell = result.cell
        key = (cell["env"], cell["row"], cell["density"])
        groups.setdefault(key, {})[cell["seed"]] = result.data
        lengths[key] = cell["steps"]
    rows = []
    for (env, row, density), seeds in groups.items():
        own, steps = list(seeds.values()), lengths[env, row, density]
        whole = [data for data in own if data["judged"][-1][0] == steps]
        last = np.mean([data["judged"][-1][1] for data in whole])
        seconds = sum(data["train_seconds"] for data in own)
        taken = sum(data["judged"][-1][0] for data in own)
        rows.append(
            [
                env, row, density, f"{steps:,}", str(len(own)),
                *(_at(own, mark) for mark in (*MARKS, steps)),
                f"{1000 * seconds / taken:.1f}",
                f"{last / np.mean([data['train_seconds'] for data in whole]):.2f}",
            ]
        )  # fmt: skip
    first = results[0].cell
    return {
        "title": "Return and cost on MuJoCo by critic, switches and density",
        "caption": (
            f"Mean return of {first['episodes']} episodes with the best action. Over {ENOUGH} or "
            "more seeds: interquartile mean [95 % interval, stratified bootstrap]; else mean "
            "± half of the 95 % interval (Student's t); in brackets how many seeds have come so "
            "far. CPU seconds of one thread, without judging."
        ),
        "columns": [
            "environment", "row", "density", "steps", "seeds",
            *(f"at {mark // 1000}k" for mark in MARKS),
            "at the end",
            "CPU seconds per 1000 steps", "return per CPU second",
        ],
        "rows": rows,
        "command": commands(results),
        "data": {r.path.stem: {"cell": dict(r.cell), **r.data} for r in results},
    }  # fmt: skip


def commands(results: Results) -> str:
    """The commands that train all these runs, a line for each."""
    seeds: dict[tuple[str, int, str, str], list[int]] = {}
    for r in results:
        key = (r.cell["env"], r.cell["steps"], r.cell["density"], r.cell["row"])
        seeds.setdefault(key, []).append(r.cell["seed"])
    rows: dict[tuple[str, int, str, str], list[str]] = {}
    for (env, steps, density, row), own in seeds.items():
        numbers = ",".join(map(str, sorted(own)))
        rows.setdefault((env, steps, density, numbers), []).append(row)
    return "\n".join(
        f"vaerl experiment returns --envs {env} --rows {','.join(names)} --densities {density} "
        f"--steps {steps} --seeds {numbers}"
        for (env, steps, density, numbers), names in rows.items()
    )


def _at(own: Sequence[Mapping[str, Any]], step: int) -> str:
    """Mean return at a step, and of how many runs where not all have reached it; else a dash."""
    found = [value for data in own for at, value in data["judged"] if at == step]
    fewer = f" ({len(found)})" if len(found) < len(own) else ""
    return middle(found, 0) + fewer if found else "–"


def draw(results: Results, out: Path) -> Path:
    """Draw the judged returns, a panel for each environment, into out/figures/returns.png, and
    write them to curves.csv beside it."""
    folder = files.make_directory(out / "figures")
    files.write_text(folder / "curves.csv", curves(results))
    panels: dict[str, list[Curve]] = {}
    for r in results:
        steps, returns = np.array(r.data["judged"], dtype=float).reshape(-1, 2).T
        label = f"{r.cell['row']} {r.cell['density']}"
        curve = Curve(label, "", f"seed {r.cell['seed']}", steps, returns)
        panels.setdefault(str(r.cell["env"]), []).append(curve)
    labels = sorted({curve.agent for members in panels.values() for curve in members})
    with figure_style():
        columns = min(len(panels), PANELS)
        rows = -(-len(panels) // columns)
        figure = new_figure(5.0 * columns, 3.6 * rows + 0.6)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax in axes[len(panels) :]:
            ax.remove()
        signs: dict[str, Any] = {}
        for ax, (env, members) in zip(axes, panels.items(), strict=False):
            ylabel = "return of the best action"
            draw_curves(
                ax, members, ylabel=ylabel, title=env, summary=middle_and_interval, agents=labels
            )
            signs |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        figure.legend(signs.values(), signs, loc="outside lower left", ncols=2 * columns)
    return save_png(figure, folder / "returns.png")


def curves(results: Results) -> str:
    """The judged returns of every run, a line for each, as CSV."""
    keys = ("env", "row", "density", "seed")
    lines = [",".join((*keys, "step", "return"))]
    for r in results:
        head = ",".join(str(r.cell[key]) for key in keys)
        lines += [f"{head},{step},{value:.1f}" for step, value in r.data["judged"]]
    return "\n".join(lines) + "\n"
