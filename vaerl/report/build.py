"""The report: one HTML file that holds its style and its pictures and needs no network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import resources
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from vaerl.disk import files
from vaerl.disk.versions import versions
from vaerl.report import history, sections
from vaerl.report.figures import (
    css_color,
    css_variables,
    density_color,
    density_rank,
    svg_markup,
)
from vaerl.report.policies import act_on_map, load_policies
from vaerl.report.records import RunLike, RunRecord, read_runs
from vaerl.report.tables import Table, ranked, settings_table, summary_tables


def report(runs: Iterable[RunLike], out: str | os.PathLike[str]) -> Path:
    """Write one self-contained HTML file about `runs`; returns its path.

    Args:
        runs: run directories, as `RunDirectory` or paths; finished or not, evaluated or not, of
            one environment or several.
        out: the file, written whole or not at all; missing folders are created.

    Raises:
        ValueError: no runs, a path that is not a run, a log that cannot be read, or an `out` that
            cannot be a file.
        WriteError: the file cannot be written.
    """
    out = files.check_file("out", out)  # before anything is drawn
    records = read_runs(runs)
    by_env: dict[str, list[RunRecord]] = {}
    for record in records:
        by_env.setdefault(record.env, []).append(record)
    by_env = {env: labelled(ranked(members)) for env, members in sorted(by_env.items())}
    labels = {r.directory.path: r.label for members in by_env.values() for r in members}
    records = [replace(r, label=labels[r.directory.path]) for r in records]

    blocks = {env: _sections(members) for env, members in by_env.items()}
    files.make_directory(out.parent)
    return files.write_text(out, _render(records, blocks))


def labelled(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs of one environment with the shortest labels that tell them apart.

    A label names the density, and the agent, the seed and the folder where these differ.
    """
    several_agents = len({r.agent for r in records}) > 1
    several_seeds = len({r.seed for r in records}) > 1

    def parts(record: RunRecord, folder: bool) -> str:
        words = [record.agent] if several_agents else []
        words += [record.density]
        words += [f"seed {record.seed}"] if several_seeds else []
        words += [record.name] if folder else []
        return " · ".join(words)

    short = [parts(r, folder=False) for r in records]
    folder = len(set(short)) < len(short)
    return [replace(r, label=parts(r, folder)) for r in records]


def _sections(records: Sequence[RunRecord]) -> list[sections.Section]:
    """All sections on the runs of one environment."""
    policies, missing = load_policies(records)
    acted = [run for run in map(act_on_map, policies) if run is not None]
    found = [
        sections.learning_section(records),
        sections.density_section(policies, missing),
        sections.rollout_section(acted, missing),
        sections.share_section(acted),
        history.share_history_section(records),
        history.density_history_section(records),
        sections.world_section(policies),
        sections.curve_section(records, *sections.MODEL),
        sections.curve_section(records, *sections.LATENT),
        sections.curve_section(records, *sections.ENTROPY),
    ]
    return [section for section in found if section is not None]


def _svg(picture: sections.Picture, prefix: str) -> Markup:
    """A figure as SVG, whose ids start with `prefix`."""
    return Markup(svg_markup(picture.figure, picture.alt, prefix))


def _render(records: Sequence[RunRecord], blocks: Mapping[str, Sequence[sections.Section]]) -> str:
    densities = sorted({r.density for r in records}, key=density_rank)
    return page(
        title="vaerl report",
        subtitle=f"{_count(len(records), 'run')} on {', '.join(blocks)}",
        legend=[{"text": d, "color": css_color(density_color(d))} for d in densities],
        summary=summary_tables(records),
        blocks=blocks,
        settings=settings_table(records),
        configurations=[
            {
                "title": f"{r.name} ({r.env}, {r.label})",
                "text": json.dumps(dict(r.config), indent=2, ensure_ascii=False),
            }
            for r in records
        ],
    )


def page(
    *,
    title: str,
    subtitle: str,
    summary: Sequence[Table],
    blocks: Mapping[str, Sequence[sections.Section]],
    settings: Sequence[Table],
    settings_title: str = "Configuration and versions",
    legend: Sequence[Mapping[str, str]] = (),
    configurations: Sequence[Mapping[str, str]] = (),
) -> str:
    """One self-contained HTML page: tables, blocks of sections, and tables at the end."""
    package = resources.files("vaerl.report")
    template = package.joinpath("template.html.j2").read_text(encoding="utf-8")
    css = package.joinpath("style.css").read_text(encoding="utf-8")
    now = datetime.now().astimezone()
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.filters["svg"] = _svg
    return environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        css=Markup(css),
        light_variables=Markup(css_variables(dark=False)),
        dark_variables=Markup(css_variables(dark=True)),
        legend=legend,
        summary=summary,
        blocks=blocks,
        settings=settings,
        settings_title=settings_title,
        configurations=configurations,
        footer=f"Made {now:%Y-%m-%d %H:%M %Z} by vaerl {versions()['vaerl']}.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
