"""The picture of the instructions experiment: where policies went, and which words they heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from vaerl.envs import drawing
from vaerl.envs.coloured_goals import COLOURS, PLACES, RADIUS
from vaerl.lab.experiment import Results


def draw_figures(results: Results, kinds: Iterable[str], out: Path) -> Path:
    """Draw the first seed of every policy into out/figures/instructions.png, a row a kind."""
    first: dict[str, Mapping[str, Any]] = {}
    for result in results:
        first.setdefault(result.cell["policy"], result.data)
    rows = [
        [(name, kind, episode) for name, data in first.items() for episode in data[kind]["shown"]]
        for kind in kinds
    ]
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(2.6 * columns, 2.9 * len(rows)), layout="constrained")
    lines = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(lines, rows, strict=True):
        for axis, (name, kind, episode) in zip(line, row, strict=False):
            drawing.prepare(axis, (-1.1, 1.1), (-1.1, 1.1))
            for place, colour in zip(PLACES, episode["colours"], strict=True):
                if colour:
                    axis.add_patch(Circle((place[0], place[1]), RADIUS, color=COLOURS[colour]))
            trace = np.array(episode["trace"])
            axis.plot(trace[:, 0], trace[:, 1], color=drawing.INK, marker=".")
            axis.set_title(_title(name, kind, episode), fontsize=7)
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "instructions.png", dpi=80)
    return folder / "instructions.png"


def _title(name: str, kind: str, episode: Mapping[str, Any]) -> str:
    """Policy, kind and instruction; a word's number is how far it is heard, in tenths."""
    words = episode["words"].split()
    if "heard" in episode:
        heard = episode["heard"][: len(words)]  # the rest is padding
        words = [f"{w}·{10 * h:.0f}" for w, h in zip(words, heard, strict=True)]
    return f"{name} ({kind})\n{' '.join(words[:4])}\n{' '.join(words[4:])}"
