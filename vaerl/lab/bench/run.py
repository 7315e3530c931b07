"""`vaerl bench`: measure groups, print the table, and write a record or compare with one."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.lab.bench.groups import GROUPS
from vaerl.lab.bench.rivals import make_ppo, make_sac
from vaerl.lab.bench.timing import Result, check_device, device_clock, measure
from vaerl.lab.console import print_table, training_bar
from vaerl.names import check_name
from vaerl.runs.directory import versions
from vaerl.threads import limit_threads

OUT = Path("runs/bench")
ROUNDS = 12
MARGIN = 0.5
"""Share of a recorded speed that a later run has to reach: machines differ, and are noisy."""
COLUMNS = ["task", "rival", "ms", "unit", "speed", "goal", "reached"]
PROFILED = {"sac": make_sac, "ppo": make_ppo}
PROFILED_STEPS = 512


def bench(
    out: Path | None = None,
    groups: Sequence[str] | None = None,
    rounds: int | None = None,
    threads: int = 0,
    check: Path | None = None,
    profile: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> list[str]:
    """Measure the speed of vaerl, Stable-Baselines3, sb3-contrib and SBX side by side.

    Args:
        out: folder of bench.json (default: runs/bench); its other groups stay.
        groups: what to measure, such as sac or acting-1-drawn (default: all); with profile, sac
            or ppo.
        rounds: rounds in which the rivals take turns (default: 12).
        threads: threads of torch; 0 leaves the choice to torch.
        check: a bench.json: fail if a speed is below half of its value there; writes nothing.
        profile: show where the time is spent instead (sac, ppo).
        progress: show a progress bar.
        device: where the work is done: cpu, cuda or cuda:NUMBER.

    Returns:
        a line for every rival that is slower than half its speed in `check`.

    Raises:
        ValueError: an option that is not legal, a folder whose bench.json was measured in another
            setting, or a `check` that is not a record of this command.
    """
    check_device(device)
    check_positive("rounds", ROUNDS if rounds is None else rounds)
    check_positive("threads", threads, at_least=0)
    for name in groups or ():
        check_name("groups", name, PROFILED if profile else GROUPS)
    if check is not None and (out is not None or profile):
        raise ValueError(
            "--check: got it with --out or --profile; it writes nothing, name it alone"
        )
    with limit_threads(threads or torch.get_num_threads()):
        if profile:
            for name in groups or PROFILED:
                print(_profile(name, device))
            return []
        setting = {
            "threads": torch.get_num_threads(),
            "device": device if device == "cpu" else torch.cuda.get_device_name(device),
            "versions": {**versions(), "cores": os.cpu_count(), "machine": platform.machine()},
        }
        path = (out or OUT) / "bench.json"
        recorded = _recorded(check) if check else {}
        kept = {} if check else _kept(path, setting)
        chosen = list(groups or recorded or GROUPS)
        for name in chosen if check else ():
            check_name(f"groups of {check}", name, recorded)
        files.check_folder("--out", path.parent)
        command = _command(groups, rounds, threads, device)
        results: list[Result] = []
        with training_bar(dict.fromkeys(chosen, (rounds or ROUNDS) + 1), shown=progress) as advance:
            for name in chosen:
                results.append(
                    measure(
                        GROUPS[name](device),
                        rounds or ROUNDS,
                        on_round=lambda r, name=name: advance(name, r),  # type: ignore[misc]
                        clock=device_clock(device),
                    )
                )
                kept[name] = {"command": command, "rows": _rows(results[-1])}
                if not check:
                    text = jsonio.dumps(_record(kept, setting), indent=1)
                    files.write_text(files.make_directory(path.parent) / path.name, text + "\n")
    print_table("Speed", COLUMNS, [row for name in chosen for row in kept[name]["rows"]])
    for result in results:
        for rival, why in result.group.missing.items():
            print(f"{rival}: {why}")
    print(f"compared with {check}" if check else path)
    return [line for result in results for line in _slower(result, recorded)] if check else []


def _rows(result: Result) -> list[list[Any]]:
    """Rows of the table for one group, the rival that the others are compared with first."""
    rows = []
    for number, case in enumerate(result.group.cases):
        middle, low, high = result.speed(case.name)
        verdicts = [goal.verdict(result) for goal in result.group.goals if goal.case == case.name]
        rows.append(
            [
                "" if number else result.group.title,
                case.name,
                float(f"{result.milliseconds(case.name):.4g}"),
                result.group.unit,
                f"{middle:.2f} ({low:.2f}–{high:.2f})" if number else "1",
                "; ".join(goal for goal, _ in verdicts),
                "; ".join(reached for _, reached in verdicts),
            ]
        )
    return rows


def _record(blocks: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """All groups as one record of results, in the order of `GROUPS`."""
    names = [name for name in GROUPS if name in blocks]
    return {
        "title": "Speed against what people use",
        "command": "\n".join(dict.fromkeys(blocks[name]["command"] for name in names)),
        "caption": (
            "Median time of a unit, and speed against the first rival of each block: the median "
            "over rounds of the ratio within a round, in which all rivals take turns (quartiles in "
            "brackets)."
        ),
        "columns": COLUMNS,
        "rows": [row for name in names for row in blocks[name]["rows"]],
        "groups": {name: blocks[name] for name in names},
        **setting,
    }


def _recorded(path: Path) -> dict[str, Any]:
    """The groups of a record."""
    try:
        groups = jsonio.loads(path.read_bytes(), path.name)["groups"]
        return {check_name("group", name, GROUPS): groups[name] for name in groups}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--check: got {path}, expected a bench.json that `vaerl bench` wrote ({error!r})"
        ) from None


def _kept(path: Path, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of the record that is there already, if it was measured in the same setting."""
    if not path.exists():
        return {}
    found = jsonio.loads(path.read_bytes(), path.name)
    other = [name for name, value in setting.items() if found.get(name) != value]
    if other:
        raise ValueError(
            f"--out: {path} was measured with other {', '.join(other)}; move it away or name "
            "another folder"
        )
    return dict(found.get("groups", {}))


def _slower(result: Result, recorded: Mapping[str, Any]) -> list[str]:
    """A line for each rival below `MARGIN` times its recorded speed."""
    lines = []
    for row in recorded[result.group.name]["rows"][1:]:
        name, then = row[1], float(str(row[4]).split()[0])
        if name not in result.seconds:
            continue
        now = result.speed(name)[0]
        if now < MARGIN * then:
            lines.append(
                f"{result.group.name}: {name} is {now:.2f} times as fast as "
                f"{result.group.cases[0].name}, recorded {then:.2f}, "
                f"expected at least {MARGIN * then:.2f}"
            )
    return lines


def _profile(name: str, device: str) -> str:
    """torch's own table of the operations of training with a CVAE, the longest first."""
    agent = PROFILED[name](device)
    agent.learn(PROFILED_STEPS)
    with torch.profiler.profile() as profile:
        agent.learn(PROFILED_STEPS, reset_num_timesteps=False)
    order = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    return f"{name}\n{profile.key_averages().table(sort_by=order, row_limit=20)}"


def _command(groups: Sequence[str] | None, rounds: int | None, threads: int, device: str) -> str:
    words = "vaerl bench"
    words += f" --groups {','.join(groups)}" if groups else ""
    words += f" --rounds {rounds}" if rounds not in (None, ROUNDS) else ""
    words += f" --threads {threads}" if threads else ""
    return words + (f" --device {device}" if device != "cpu" else "")
