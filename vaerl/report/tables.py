"""The tables of a report: runs, means over seeds, and differences in settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vaerl.report.figures import css_color, density_color, density_rank
from vaerl.report.records import RunRecord
from vaerl.stats import half_width

NOT_SETTINGS = ("out", "versions")  # keys of config.json that say nothing about the agent


class Column(NamedTuple):
    """A heading; `number` sets it flush right."""

    name: str
    number: bool = False


class Cell(NamedTuple):
    """The text of a cell, a smaller second line, and the colour of a dot before it."""

    text: str
    small: str = ""
    color: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells in groups, each with a heading that may be empty; a caption above them."""

    title: str
    caption: str
    columns: list[Column]
    groups: list[tuple[str, list[list[Cell]]]]


def summary_tables(records: Sequence[RunRecord]) -> list[Table]:
    """One row a run and, where a group has several seeds, one row a group."""
    tables = [_runs_table(records)]
    if len({(r.env, *r.group) for r in records}) < len(records):
        tables.insert(0, _seeds_table(records))
    return tables


def settings_table(records: Sequence[RunRecord]) -> list[Table]:
    """The settings in which the runs differ, then the versions that made them."""
    flat = [flatten(record.config) for record in records]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    differing = [key for key in keys if len({settings.get(key, "—") for settings in flat}) > 1]
    packages = [dict(record.config.get("versions") or {}) for record in records]
    installed = list(dict.fromkeys(package for found in packages for package in found))
    caption = "Settings in which the runs differ."
    versions = "Package versions of each run."
    return [
        *_by_run("Settings", caption, records, differing, flat),
        *_by_run("Versions", versions, records, installed, packages),
    ]


def _by_run(
    title: str,
    caption: str,
    records: Sequence[RunRecord],
    keys: Sequence[str],
    values: Sequence[Mapping[str, Any]],
) -> list[Table]:
    """A row a run, a column a key; no table without keys."""
    rows = [
        [
            Cell(r.name, color=css_color(density_color(r.density))),
            *(Cell(str(found.get(key, "—"))) for key in keys),
        ]
        for r, found in zip(records, values, strict=True)
    ]
    columns = [Column("run"), *map(Column, keys)]
    return [Table(title, caption, columns, [("", rows)])] if keys else []


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings by dotted name, as JSON text; `out` and `versions` are left out.

    >>> flatten({"seed": 0, "density_options": {"k": 4}, "out": "x"})
    {'seed': '0', 'density_options.k': '4'}
    """
    flat = {}
    for key, value in config.items():
        if not prefix and key in NOT_SETTINGS:
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[f"{prefix}{key}"] = text
    return flat


def _runs_table(records: Sequence[RunRecord]) -> Table:
    scored = any(_score(r) is not None for r in records)
    columns = [Column("run"), Column("agent"), Column("density")]
    columns += [Column("seed", True), Column("steps", True), Column("final return", True)]
    columns += [Column("goals", True), Column("multi-goal score", True)] if scored else []
    columns += [Column("wall time", True)]

    def row(r: RunRecord) -> list[Cell]:
        cells = [Cell(r.name), Cell(r.agent), _density_cell(r.density), Cell(str(r.seed))]
        cells += [_steps_cell(r), _return_cell(r)]
        cells += [_goals_cell(r), _score_cell(r)] if scored else []
        return [*cells, Cell(_duration(r.seconds), _rate(r))]

    caption = (
        "Final return: mean ± standard deviation over the episodes of the last evaluation, with "
        "actions drawn from the policy; below it the mean with its best actions. Runs without an "
        "evaluation show the mean over the last training episodes."
    )
    if scored:
        caption += " Ceiling: the mean score of a perfect uniform policy over as many episodes."
    groups = [(env, [row(r) for r in members]) for env, members in _by_env(records)]
    return Table("Every run", caption, columns, groups)


def _seeds_table(records: Sequence[RunRecord]) -> Table:
    scored = any(_score(r) is not None for r in records)
    columns = [Column("agent"), Column("density"), Column("seeds", True)]
    columns += [Column("steps", True), Column("final return", True)]
    columns += [Column("multi-goal score", True)] if scored else []

    def row(members: Sequence[RunRecord]) -> list[Cell]:
        first = members[0]
        steps = sorted({f"{r.steps:,}": r.steps for r in members}.items(), key=lambda item: item[1])
        shown = " – ".join(dict.fromkeys([steps[0][0], steps[-1][0]]))
        cells = [Cell(first.agent), _density_cell(first.density), Cell(str(len(members)))]
        cells += [Cell(shown), Cell(_mean_words([r.final_return for r in members]))]
        return cells + ([Cell(_mean_words([_score(r) for r in members], 3))] if scored else [])

    groups = []
    for env, members in _by_env(records):
        alike = {group: [r for r in members if r.group == group] for group in _groups(members)}
        groups.append((env, [row(found) for found in alike.values()]))
    caption = "Over seeds: mean ± half the 95 % interval of the mean (Student's t)."
    return Table("Over seeds", caption, columns, groups)


def _by_env(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The runs of each environment, by agent, density and seed."""
    envs = sorted({r.env for r in records})
    return [(env, ranked([r for r in records if r.env == env])) for env in envs]


def ranked(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs in the order of every table and picture: by agent, density, seed and name."""
    return sorted(records, key=lambda r: (r.agent, density_rank(r.density), r.seed, r.name))


def _groups(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(r.group for r in records))


def _mean_words(values: Sequence[float | None], digits: int | None = None) -> str:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return "—"
    mean = float(known.mean())
    if len(known) == 1:
        return _number(mean, digits)
    digits = _digits(mean) if digits is None else digits
    return f"{_number(mean, digits)} ± {_number(float(half_width(known)), digits)}"


def _density_cell(density: str) -> Cell:
    return Cell(density, color=css_color(density_color(density)))


def _steps_cell(record: RunRecord) -> Cell:
    wanted = record.config.get("steps")
    state = str(record.status["state"])
    if record.finished or not isinstance(wanted, int):
        return Cell(f"{record.steps:,}")
    return Cell(f"{record.steps:,}", small=f"{state}, of {wanted:,}")


def _return_cell(record: RunRecord) -> Cell:
    mean, spread = record.evaluated("return_mean"), record.evaluated("return_std")
    if mean is not None:
        episodes = record.evaluated("episodes")
        best = record.evaluated("return_mean", "deterministic")
        small = f"{episodes:,.0f} episodes" if episodes else ""
        small += "" if best is None else f"; best actions {_number(best, _digits(mean))}"
        spread_words = "" if spread is None else f" ± {_number(spread, _digits(mean))}"
        return Cell(_number(mean) + spread_words, small)
    training = record.final_return
    return Cell("—") if training is None else Cell(_number(training), "in training")


def _score(record: RunRecord) -> float | None:
    return record.evaluated("multi_goal_score")


def _goals_cell(record: RunRecord) -> Cell:
    reached, modes = record.evaluated("goals_reached"), record.evaluated("num_modes")
    if reached is None:
        return Cell("—")
    return Cell(f"{reached:.0f} of {modes:.0f}" if modes else f"{reached:.0f}")


def _score_cell(record: RunRecord) -> Cell:
    score = _score(record)
    if score is None:
        return Cell("—")
    ceiling = record.evaluated("multi_goal_score_ceiling")
    low = record.evaluated("multi_goal_score_ceiling_p5")
    small = "" if ceiling is None else f"ceiling {ceiling:.3f}"
    small += "" if low is None else f" (5 %: {low:.3f})"
    return Cell(f"{score:.3f}", small)


def _digits(value: float) -> int:
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2


def _number(value: float, digits: int | None = None) -> str:
    digits = _digits(value) if digits is None else digits
    return f"{value:,.{digits}f}".replace("-", "−")


def _duration(seconds: float | None) -> str:
    """Seconds in the two largest units.

    >>> _duration(3725.0), _duration(61.0), _duration(5.2)
    ('1 h 2 min', '1 min 1 s', '5 s')
    """
    if seconds is None:
        return "—"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s"


def _rate(record: RunRecord) -> str:
    if not record.seconds or not record.steps:
        return ""
    return f"{record.steps / record.seconds:,.0f} steps / s"
