"""The page about an inspection: modes at each state, what latents do, ways over the map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaerl.disk import files
from vaerl.inspection.inspect import Inspection
from vaerl.inspection.look import Look
from vaerl.inspection.tables import TextTable, mode_table, shares, tables
from vaerl.report.build import page
from vaerl.report.figures import INK, MUTED, figure_style, goal_color, new_figure
from vaerl.report.map_figures import Rollouts, rollout_figure
from vaerl.report.sections import Picture, Section
from vaerl.report.tables import Cell, Column, Table
from vaerl.runs.monitor import watched

PANELS_A_ROW = 3
BARS = 60
READ_DRAWS = (
    "Each dot is one draw; its colour is its mode. Axes are the two directions in which draws vary "
    "most; of an action of one number, a histogram. The star is z = 0."
)
READ_LATENTS = (
    "Brighter means that more of the variance of actions goes if this number of z stays. A row "
    "that is dark everywhere is not used."
)
READ_WAYS = (
    "Each line is one episode; its colour shows the goal it reached, grey means none. If a latent "
    "chooses the way, the lines of a panel with a kept z stay together."
)


def inspection_page(found: Inspection, out: str | os.PathLike[str]) -> Path:
    """Write one self-contained HTML file about an inspection; returns its path.

    Raises:
        ValueError: `out` cannot be a file.
    """
    out = files.check_file("out", out)
    sections = [_draws(found)]
    if found.looks[0].latents:
        sections.append(_latents(found))
    if found.ways:
        sections.append(_ways(found))
    text = page(
        title="What the latents do",
        subtitle=f"{found.name}{f' on {found.env}' if found.env else ''}: {found.draws} draws at "
        f"each of {len(found.looks)} states",
        summary=[_as_table(table) for table in tables(found, most=1000)],
        blocks={"Pictures": sections},
        settings=[_as_table(mode_table(found))],
        settings_title="Every mode",
    )
    files.make_directory(out.parent)
    return files.write_text(out, text)


def _as_table(table: TextTable) -> Table:
    columns = [Column(name, number=place > 0) for place, name in enumerate(table.columns)]
    rows = [[Cell(text) for text in row] for row in table.rows]
    return Table(table.title, table.caption, columns, [("", rows)])


def _draws(found: Inspection) -> Section:
    names = ", ".join(f"{look.name}: {look.modes.count}" for look in found.looks)
    picture = Picture(draws_figure(found), f"Draws at each state, coloured by mode. Modes: {names}")
    return Section("Draws at each state", READ_DRAWS, (picture,), layout="wide")


def draws_figure(found: Inspection) -> Figure:
    """Draws at each state along the two directions in which they vary most."""
    columns = min(PANELS_A_ROW, len(found.looks))
    rows = -(-len(found.looks) // columns)
    with figure_style():
        figure = new_figure(0.3 + 3.0 * columns, 0.3 + 2.8 * rows)
        for place, look in enumerate(found.looks, start=1):
            ax = figure.add_subplot(rows, columns, place)
            _draw(ax, look)
            ax.set_title(f"{look.name}\n{_count(look.modes.count)}: {shares(look.modes)}", size=8)
    return figure


def _draw(ax: Any, look: Look) -> None:
    events = look.shown
    middle = events.mean(0)
    if events.shape[1] == 1:
        edges = np.linspace(events.min() - 1e-9, events.max() + 1e-9, BARS)
        modes = range(look.modes.count)
        ax.hist(
            [events[look.shown_modes == mode, 0] for mode in modes],
            edges,
            stacked=True,
            color=[goal_color(mode) for mode in modes],
        )
        if look.shown_zero is not None:
            ax.axvline(look.shown_zero.mean(), color=INK, linewidth=1.0, linestyle=":")
        return
    axes = np.linalg.svd(events - middle, full_matrices=False)[2][:2].T
    flat = (events - middle) @ axes
    colors = [goal_color(int(mode)) for mode in look.shown_modes]
    dots = ax.scatter(flat[:, 0], flat[:, 1], s=5, c=colors, linewidths=0, alpha=0.6)
    dots.set_rasterized(True)
    if look.shown_zero is not None:
        x, y = (look.shown_zero.mean(0) - middle) @ axes
        ax.plot(x, y, "*", color=INK, markersize=11, markeredgecolor="white")
    ax.tick_params(labelsize=7, colors=MUTED)


def _latents(found: Inspection) -> Section:
    picture = Picture(
        latents_figure(found), "Share of the variance of actions that each number of z decides"
    )
    return Section("What each latent does", READ_LATENTS, (picture,), layout="wide")


def latents_figure(found: Inspection) -> Figure:
    """Total effect of each number of z at each state."""
    share = np.array([[latent.share for latent in look.latents] for look in found.looks]).T
    with figure_style():
        figure = new_figure(3.0 + 0.9 * share.shape[1], 2.0 + 0.3 * len(share))
        ax = figure.subplots()
        image = ax.imshow(share, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
        ax.set_yticks(range(len(share)), [latent.name for latent in found.looks[0].latents])
        ax.set_xticks(
            range(share.shape[1]), [look.name for look in found.looks], rotation=40, ha="right"
        )
        ax.grid(False)
        figure.colorbar(image, ax=ax, label="share of variance")
    return figure


def _ways(found: Inspection) -> Section:
    with watched(found.env, found.env_options) as env:
        pictures = [
            Picture(
                rollout_figure(
                    [
                        Rollouts(
                            way.result.traces,
                            way.result.goals[: len(way.result.traces)].tolist(),
                            f"z {way.name}",
                        )
                    ],
                    env,
                ),
                f"Roll-outs with z {way.name}; {way.solved:.0%} reach a goal",
            )
            for way in found.ways
        ]
    return Section("Latents that are kept", READ_WAYS, tuple(pictures), layout="small")


def _count(modes: int) -> str:
    return "1 mode" if modes == 1 else f"{modes} modes"
