"""`vaerl bench`: measure groups, print them, write or check the record."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.lab.bench.check import Speeds, compare, read_speeds, rivals_to_check
from vaerl.lab.bench.groups import GROUPS, group_names
from vaerl.lab.bench.profile import profiles
from vaerl.lab.bench.record import COLUMNS, Block, block, count, read_blocks, record, setting
from vaerl.lab.bench.timing import Result, check_device, device_clock, measure
from vaerl.names import check_name
from vaerl.runs.console import print_table, training_bar
from vaerl.threads import limit_threads

OUT = Path("runs/bench")
ROUNDS = 12
PROFILED = ("sac", "ppo")


def bench(
    out: Path | None = None,
    groups: Sequence[str] | None = None,
    rounds: int | None = None,
    threads: int = 0,
    check: Path | None = None,
    profiled: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> list[str]:
    """Measure, print tables, write out/bench.json (or out/profile-NAME.json).

    Args:
        out: folder, made if missing (runs/bench); groups that its bench.json holds besides stay.
        groups: names of `GROUPS`, all of them if None; of `PROFILED` if `profiled`.
        rounds: in which all rivals of a group take turns (12).
        threads: torch threads; 0 keeps torch's choice.
        check: a bench.json; its rivals are measured and compared, and nothing is written.
        profiled: take an update apart instead.
        progress: show a progress bar.
        device: "cpu", "cuda" or "cuda:NUMBER".

    Returns:
        a line for every rival that is much slower than in `check`.

    Raises:
        ValueError: an option that is not legal, two that exclude each other, a folder that cannot
            be written or holds another bench.json, or a `check` that cannot be compared with.
    """
    names = list(dict.fromkeys(groups)) if groups is not None else None
    _check_options(out, names, rounds, threads, check, profiled)
    check_device(device)
    recorded = None if check is None else read_speeds(check, names or (), device)
    folder = out or OUT
    with limit_threads(threads or torch.get_num_threads()):
        if profiled:
            _profile(folder, names, threads, device)
            return []
        path = folder / "bench.json"
        kept = {} if recorded is not None else _kept(path, device)
        command = _command(names, rounds, threads, device)
        results: list[Result] = []
        blocks: dict[str, Block] = {}

        def done(result: Result) -> None:
            results.append(result)
            blocks[result.group.name] = block(result, command, rounds or ROUNDS)
            if recorded is None:
                _write(path, record({**kept, **blocks}, setting(device)))

        chosen = names or list(recorded or GROUPS)
        _measure(chosen, rounds or ROUNDS, progress, recorded, device, done)
        table = record(blocks, setting(device))
    print_table(table["title"], COLUMNS, table["rows"])
    for note in table["notes"]:
        print(note)
    if recorded is None:
        print(path)
        return []
    compared, lines = compare(results, recorded)
    print(f"{count(compared, 'speed')} compared with {check}")
    return lines


def _check_options(
    out: Path | None,
    groups: Sequence[str] | None,
    rounds: int | None,
    threads: int,
    check: Path | None,
    profiled: bool,
) -> None:
    """Raise a ValueError of one line for what can be seen before anything is read or measured."""
    for given, option in ((check is not None, "--check"), (rounds is not None, "--rounds")):
        if profiled and given:
            raise ValueError(f"{option}: got it with --profile, which takes none; leave one out")
    if check is not None and out is not None:
        raise ValueError("--out: got it with --check, which writes nothing; leave one out")
    if groups is not None and not groups:
        raise ValueError("--groups: got none, expected names of groups")
    for name in groups or ():
        check_name("group", name, group_names())
        if profiled and name not in PROFILED:
            raise ValueError(
                f"--groups: got {name!r} with --profile, expected {' or '.join(PROFILED)}"
            )
    check_positive("rounds", ROUNDS if rounds is None else rounds)
    cores = os.cpu_count() or 1
    if check_positive("threads", threads, at_least=0) > cores:
        raise ValueError(f"threads: got {threads}, expected at most {cores}, as there are cores")


def _profile(folder: Path, groups: Sequence[str] | None, threads: int, device: str) -> None:
    _check_writable(folder)
    command = _command(groups, None, threads, device, " --profile")
    for name, table in profiles(groups or PROFILED, command, device):
        print_table(table["title"], table["columns"], table["rows"])
        print(table["caption"])
        _write(folder / name, table)
        print(folder / name)


def _kept(path: Path, device: str) -> dict[str, Block]:
    """What the record at `path` holds already; before that, whether it can be written at all."""
    files.check_file("--out", path)
    kept = read_blocks(path, setting(device))
    _check_writable(path.parent)
    return kept


def _check_writable(folder: Path) -> None:
    """Make the folder and a nameless file in it: better now than when all has been measured."""
    files.check_folder("--out", folder)
    try:
        files.make_directory(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--out: got {str(folder)!r}, expected a folder that can be written "
            f"({error.strerror or error})"
        ) from None


def _measure(
    names: Sequence[str],
    rounds: int,
    progress: bool,
    recorded: Speeds | None,
    device: str,
    done: Callable[[Result], None],
) -> None:
    """Measure one group after the other; `done` gets each result at once."""
    clock = device_clock(device)
    with training_bar(dict.fromkeys(names, rounds + 1), shown=progress) as advance:
        for name in names:
            advance(name, 0)
            group = GROUPS[name](device)
            if recorded is not None:
                group = group.only(rivals_to_check(group, recorded[name]))
            done(
                measure(
                    group,
                    rounds,
                    on_round=lambda r, name=name: advance(name, r),  # type: ignore[misc]
                    clock=clock,
                )
            )


def _write(path: Path, table: dict[str, Any]) -> None:
    files.write_text(path, jsonio.dumps(table, indent=1) + "\n")


def _command(
    groups: Sequence[str] | None, rounds: int | None, threads: int, device: str, more: str = ""
) -> str:
    words = "vaerl bench" + more
    words += f" --groups {','.join(groups)}" if groups else ""
    words += f" --rounds {rounds}" if rounds not in (None, ROUNDS) else ""
    words += f" --threads {threads}" if threads else ""
    return words + (f" --device {device}" if device != "cpu" else "")
