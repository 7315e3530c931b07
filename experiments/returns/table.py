"""The table of finished runs, and their learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.disk import files
from vaerl.experiments.returns.rows import GAUSSIAN, ROWS
from vaerl.lab.experiment import Result, Results
from vaerl.lab.stats import ENOUGH, middle, middle_and_interval
from vaerl.report.curve_figures import Curve, draw_curves
from vaerl.report.figures import figure_style, new_figure, save_png

PANELS = 3
"""In a row of the figure."""
MARKS = (20_000, 30_000, 50_000, 100_000)
"""Steps at which the table reports, beside the end; public tables have most of them."""
WORTH = 50_000
"""Steps after which rows of unequal length are compared by their cost."""


def assemble(results: Results) -> dict[str, Any]:
    """The record: a row for each environment, row and density; all curves are its data."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    lengths: dict[tuple[str, str, str], int] = {}
    for result in longest(results):
        cell = result.cell
        key = (cell["env"], cell["row"], cell["density"])
        groups.setdefault(key, []).append(result.data)
        lengths[key] = max(lengths.get(key, 0), cell["steps"])
    rows = []
    for key, own in groups.items():
        (env, row, density), steps = key, lengths[key]
        taken = sum(data["judged"][-1][0] for data in own)
        cost = sum(data["train_seconds"] for data in own) / taken
        rows.append(
            [
                env, row, density, f"{steps:,}", str(len(own)),
                *(_at(own, mark) for mark in (*MARKS, steps)),
                f"{1000 * cost:.1f}",
                f"{np.mean(found) / (WORTH * cost):.2f}" if (found := _found(own, WORTH)) else "–",
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
            "CPU seconds per 1000 steps", f"return at {WORTH // 1000}k per CPU second",
        ],
        "rows": rows,
        "command": commands(results),
        "data": {r.path.stem: {"cell": dict(r.cell), **r.data} for r in results},
    }  # fmt: skip


def longest(results: Results) -> list[Result]:
    """The longest run of each seed, by task, row and density.

    A run does not depend on its length, but for the rate of `xqc` and `flash`, which falls to its
    end. So a longer one counts at the earlier steps too, and stands for a shorter one.
    """
    found = {}
    for result in sorted(results, key=lambda result: result.cell["steps"]):
        cell = result.cell
        found[cell["env"], cell["row"], cell["density"], cell["seed"]] = result
    return [found[key] for key in sorted(found)]


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
    found = _found(own, step)
    fewer = f" ({len(found)})" if len(found) < len(own) else ""
    return middle(found, 0) + fewer if found else "–"


def _found(own: Sequence[Mapping[str, Any]], step: int) -> list[float]:
    """Returns at a step, of the runs that have reached it."""
    return [value for data in own for at, value in data["judged"] if at == step]


def draw(results: Results, out: Path) -> Path:
    """Draw the judged returns into out/figures/returns.png; curves.csv beside it holds them."""
    folder = files.make_directory(out / "figures")
    files.write_text(folder / "curves.csv", curves(results))
    panels = panels_of(results)
    with figure_style():
        columns = min(len(panels), PANELS)
        lines = -(-len(panels) // columns)
        figure = new_figure(5.0 * columns, 4.2 * lines)
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for ax in axes[len(panels) :]:
            ax.remove()
        for ax, (title, members) in zip(axes, panels.items(), strict=False):
            ylabel = "return of the best action"
            draw_curves(ax, members, ylabel=ylabel, title=title, summary=middle_and_interval)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    return save_png(figure, folder / "returns.png")


def panels_of(results: Results) -> dict[str, list[Curve]]:
    """Curves by the title of their panel.

    Of each environment the rows with a Gaussian, then of each row its densities. Panels of a single
    row or density are left out, unless there are no others, and so are the settings that ship.
    """
    own: dict[str, list[tuple[str, str, Curve]]] = {}
    for r in longest([r for r in results if not ROWS[r.cell["row"]].recipe] or results):
        cell, (steps, returns) = r.cell, np.array(r.data["judged"], dtype=float).reshape(-1, 2).T
        curve = Curve(cell["row"], "", f"seed {cell['seed']}", steps, returns)
        own.setdefault(str(cell["env"]), []).append((cell["row"], cell["density"], curve))
    compared: dict[str, list[Curve]] = {}
    alone: dict[str, list[Curve]] = {}
    for env, curves in own.items():
        rows = [curve for _, density, curve in curves if density == GAUSSIAN]
        if rows:
            several = len({curve.agent for curve in rows}) > 1
            (compared if several else alone)[f"{env}, Gaussian policy"] = rows
        for row in sorted({row for row, density, _ in curves if density != GAUSSIAN}):
            densities = [(name, curve) for other, name, curve in curves if other == row]
            several = len({name for name, _ in densities}) > 1
            (compared if several else alone)[f"{env}, {row}"] = [
                replace(curve, agent="", density=name) for name, curve in densities
            ]
    return compared or alone


def curves(results: Results) -> str:
    """The judged returns of every run, a line for each, as CSV."""
    keys = ("env", "row", "density", "seed")
    lines = [",".join((*keys, "step", "return"))]
    for r in results:
        head = ",".join(str(r.cell[key]) for key in keys)
        lines += [f"{head},{step},{value:.1f}" for step, value in r.data["judged"]]
    return "\n".join(lines) + "\n"
