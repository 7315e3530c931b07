"""`vaerl bench`: measure groups, print them, write or check the record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vaerl.benchmarks.groups import DENSITIES, GROUPS, group_names
from vaerl.benchmarks.profile import profile, profile_record
from vaerl.benchmarks.record import read_speeds, record, regressions
from vaerl.benchmarks.timing import Result, measure
from vaerl.cli_output import print_table, training_bar
from vaerl.densities.options import check_positive
from vaerl.names import check_name
from vaerl.runs import files, jsonio

ROUNDS = 12


def bench(
    out: Path,
    groups: Sequence[str] = (),
    rounds: int = ROUNDS,
    threads: int = 0,
    check: Path | None = None,
    profiled: bool = False,
    progress: bool = True,
) -> list[str]:
    """Measure, print tables, write out/bench.json (or out/profile-NAME.json).

    Args:
        out: folder, made if missing.
        groups: names of `GROUPS`, all of them if none is given.
        rounds: in which all rivals of a group take turns.
        threads: torch threads; 0 keeps torch's choice.
        check: a bench.json; its rivals are measured and compared, and nothing is written.
        profiled: take an update apart instead.
        progress: show a progress bar.

    Returns:
        a line for every rival that is much slower than in `check`.

    Raises:
        ValueError: an unknown group, no rounds, or `check` is no record.
    """
    for name in groups:
        check_name("group", name, group_names())
    check_positive("rounds", rounds)
    check_positive("threads", threads, at_least=0)
    recorded = None if check is None else read_speeds(check)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        if profiled:
            _profile(out, threads)
            return []
        chosen = list(groups) or list(recorded or GROUPS)
        results = _measure([name for name in chosen if name in GROUPS], rounds, progress, recorded)
        command = _command(groups, rounds, threads)
        table = record(results, command, rounds)
    finally:
        torch.set_num_threads(before)
    print_table(table["title"], table["columns"], table["rows"])
    for note in table["notes"]:
        print(note)
    if recorded is not None:
        return regressions(results, recorded)
    _write(out / "bench.json", table)
    return []


def _measure(
    names: Sequence[str],
    rounds: int,
    progress: bool,
    recorded: dict[str, dict[str, float]] | None,
) -> list[Result]:
    results = []
    with training_bar(dict.fromkeys(names, rounds + 1), shown=progress) as advance:
        for name in names:
            advance(name, 0)
            group = GROUPS[name]()
            if recorded is not None:
                group = group.only(recorded.get(name, {}))
            results.append(
                measure(group, rounds, on_round=lambda r, name=name: advance(name, r))  # type: ignore[misc]
            )
    return results


def _profile(out: Path, threads: int) -> None:
    for name in DENSITIES:
        table = profile_record(profile(name), name, _command((), ROUNDS, threads, " --profile"))
        print_table(table["title"], table["columns"], table["rows"])
        print(table["caption"])
        slug = "-".join(name.replace("=", "").lower().split()[1:])
        _write(out / f"profile-{slug}.json", table)


def _write(path: Path, table: dict[str, Any]) -> None:
    files.make_directory(path.parent)
    files.write_text(path, jsonio.dumps(table, indent=1) + "\n")
    print(path)


def _command(groups: Sequence[str], rounds: int, threads: int, more: str = "") -> str:
    words = "vaerl bench" + more
    words += f" --groups {','.join(groups)}" if groups else ""
    words += f" --rounds {rounds}" if rounds != ROUNDS else ""
    return words + (f" --threads {threads}" if threads else "")
