"""The numbers of an inspection as tables of text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaerl.inspection.inspect import Inspection
from vaerl.inspection.look import Case, Look
from vaerl.inspection.modes import Modes

FIRST = 4
"""Modes whose shares are written out."""
RARE = 0.05
"""Share of draws at z = 0 away from those of the prior that is worth a word."""
LATENTS = 8
"""Numbers of z in a table on the terminal: those with the largest shares."""


class TextTable(NamedTuple):
    """Columns and rows of text; the first column names the row."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(found: Inspection, most: int = LATENTS) -> list[TextTable]:
    """What was found: states, latents, roll-outs; at most `most` latents."""
    made = [_states(found), _latents(found, most), _ways(found)]
    return [table for table in made if table.rows]


def mode_table(found: Inspection) -> TextTable:
    """Every mode of every state."""
    rows = [
        [
            look.name if not place else "",
            str(place + 1),
            f"{share:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{spread:.3g}",
        ]
        for look in found.looks
        for place, (share, (low, high), spread) in enumerate(
            zip(look.modes.shares, look.modes.intervals, look.modes.spreads, strict=True)
        )
    ]
    return TextTable(
        "Modes",
        f"Share of {found.draws} draws with its 95 % interval, and spread around the mean of the "
        f"mode, in {found.units}.",
        ["state", "mode", "share", "95 % interval", "spread"],
        rows,
    )


def _states(found: Inspection) -> TextTable:
    with_data = any(look.away is not None for look in found.looks)
    with_latents = any(look.kept is not None for look in found.looks)
    columns = ["state", "modes", "shares", "spread"]
    columns += ["away from data"] if with_data else []
    columns += ["z kept", "z = 0", "z decides"] if with_latents else []

    def row(look: Look) -> list[str]:
        half = float(np.ptp(look.modes.intervals, axis=1).max()) / 2
        spread = f"{look.redrawn.spread:.3g}"
        cells = [look.name, str(look.modes.count), f"{shares(look.modes)} (±{half:.2f})", spread]
        cells += [_share(look.away)] if with_data else []
        if with_latents:
            cells += [_case(look.kept), _zero(look), _share(look.decided)]
        return cells

    caption = (
        f"Modes of {found.draws} draws with z from its prior, their shares (± half of the widest "
        f"95 % interval), and the spread of all draws in {found.units}."
    )
    if with_data:
        caption += " Away from data: farther from the demonstrations than 99 % of these are."
    if with_latents:
        caption += (
            " z kept: modes that are left (± their spread). z = 0: modes, and the mode of the "
            "prior that they are in, or away from all. z decides: share of the variance of "
            "actions that is due to z; the rest is noise."
        )
    return TextTable("States", caption, columns, [row(look) for look in found.looks])


def _latents(found: Inspection, most: int) -> TextTable:
    names = [latent.name for look in found.looks[:1] for latent in look.latents]
    weight = {
        name: max(look.latents[place].share for look in found.looks)
        for place, name in enumerate(names)
    }
    kept = sorted(sorted(names, key=lambda name: -weight[name])[:most], key=names.index)
    rows = [
        [
            name,
            *(
                f"{latent.share:.2f} ({latent.modes:.2g})"
                for latent in (look.latents[names.index(name)] for look in found.looks)
            ),
        ]
        for name in kept
    ]
    left = f" The {len(kept)} of {len(names)} with the largest shares." if most < len(names) else ""
    return TextTable(
        "Latents",
        "Share of the variance of actions that goes if this number of z stays, and in brackets "
        "the modes left if it alone is drawn again." + left,
        ["latent", *(look.name for look in found.looks)],
        rows,
    )


def _ways(found: Inspection) -> TextTable:
    rows = []
    for way in found.ways:
        goal, share = way.commonest
        numbers = way.to_dict()
        rows.append(
            [
                way.name,
                _share(way.solved),
                f"{numbers['goals_reached']} of {way.result.num_modes}",
                "–" if goal < 0 else f"goal {goal}: {share:.0%}",
                f"{way.entropy:.2f}",
            ]
        )
    count = len(found.ways[0].result.goals) if found.ways else 0
    return TextTable(
        "Roll-outs",
        f"{count} episodes each with z drawn at every decision, at zero, and kept throughout.",
        ["z", "reach a goal", "goals reached", "commonest", "mode entropy"],
        rows,
    )


def shares(modes: Modes) -> str:
    """Shares of the first modes and of the last, such as ".44 .25 .10 .09 … .06"."""
    words = [f"{share:.2f}".removeprefix("0") for share in modes.shares]
    return " ".join([*words[:FIRST], "…", words[-1]] if modes.count > FIRST else words)


def _case(case: Case | None) -> str:
    return "–" if case is None else f"{case.modes:.2g} (±{case.spread:.2f})"


def _zero(look: Look) -> str:
    if look.zero is None or look.zero_mode is None:
        return "–"
    away = look.zero_away is not None and look.zero_away > RARE
    where = "away" if away else f"mode {look.zero_mode + 1}"
    return f"{look.zero.modes:.2g} ({where})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
